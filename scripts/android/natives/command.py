"""The command line of scripts/android_natives."""

import argparse
import fcntl
import tempfile
from pathlib import Path

from android.apk import APK
from android.failure import BuildError
from android.natives.harness import Harness, NativesError, harness
from android.natives.machines import emulated_arm, this_machine
from android.places import WORK

DESCRIPTION = """\
Runs the native libraries of an APK or of AARs in a JVM of this machine, under the Android app's own compiled classes, and compares
what they compute with what Python's runners compute.

For every bundle: prompts of 1 to 1,000 tokens and decoding to the cache's end, the benchmark that `firsttoken device profile` asks for by
default, and answers as the app's "Try it" gives them, in a heap of 256 MiB. Without BUNDLE: the demo checkpoint with every plan, for
every target that the runtime is for. It is not Android: no dex, no ART, no frames, and no time that means anything.

Needs what scripts/build_apk needs, gcc, and .venv (scripts/setup); --abi arm64-v8a needs scripts/setup_arm.
"""
EXAMPLES = """\
examples:
  scripts/build_apk && .venv/bin/python scripts/android_natives              the APK's x86_64 library
  .venv/bin/python scripts/android_natives --abi arm64-v8a out/tflite-compat  its ARM library, emulated, with a bundle of yours
  .venv/bin/python scripts/android_natives --aar litert-2.3.0.aar             LiteRT's own, from Google's Maven repository
  .venv/bin/python scripts/android_natives --aar executorch-android-1.5.0.aar --aar fbjni-0.7.0.aar --aar nativeloader-0.12.1.jar
"""
TARGETS = {"litert": ("tflite-xnnpack", "tflite-compat"), "tflite": ("tflite-compat",), "executorch": ("executorch-xnnpack",)}
PROMPTS = ["Why is the sky blue?", "def read_lines(path):"]


def main(arguments: list[str] | None = None) -> int:
    """Runs the command and returns its exit status: 0 all is well, 1 something failed, 2 it could not be done."""
    options = _parser().parse_args(arguments)
    try:
        WORK.mkdir(parents=True, exist_ok=True)
        with (WORK / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return _run(options)
    except (BuildError, NativesError) as error:
        print(f"error: {error}")
        return 2


def _run(options: argparse.Namespace) -> int:
    try:
        from firsttoken.errors import FirstTokenError
    except ImportError as missing:
        raise BuildError(f"{missing}; run it with .venv/bin/python (scripts/setup makes it)") from None
    for file in (*options.aar, *([] if options.aar else [options.apk])):
        if not file.is_file():
            raise BuildError(
                f"{file}: not a file; "
                + ("give an AAR or a jar" if options.aar else "run scripts/build_apk first, or name an APK with --apk")
            )
    machine = this_machine() if options.abi == "x86_64" else emulated_arm()
    made = harness(machine, None if options.aar else options.apk, options.aar)
    carried = {name: version for name, version in made.package.versions.items() if version}
    print(
        f"{machine.abi}: {', '.join(path.name for path in made.package.libraries)} ({', '.join(' '.join(pair) for pair in carried.items())})"
    )
    if made.missing:
        print(f"without a stand-in, an error if called: {', '.join(made.missing)}")
    try:
        with tempfile.TemporaryDirectory() as folder:
            bundles = options.bundles or _demo_bundles(Path(folder), carried)
            return max([_check(made, bundle, options.quick) for bundle in bundles])
    except FirstTokenError as error:
        raise BuildError(str(error)) from None


def _demo_bundles(folder: Path, carried: dict[str, str]) -> list[Path]:
    """The demo checkpoint with every plan, for every target of what is carried; what a target refuses is said."""
    from firsttoken.demo import checkpoint_path
    from firsttoken.errors import FirstTokenError
    from firsttoken.pipeline import export
    from firsttoken.quant.plan import plan_names

    made = []
    for target in [target for name in carried for target in TARGETS[name]]:
        for plan in plan_names():
            try:
                made += export(checkpoint_path(), folder / plan, plan=plan, targets=(target,), prove=False)
            except FirstTokenError as error:
                print(f"{plan}, {target}: not exported ({error})")
    return made


def _check(made: Harness, bundle: Path, quick: bool) -> int:
    from android.natives import checks
    from firsttoken.bundle.manifest import read_manifest

    manifest = read_manifest(bundle)
    name = f"{manifest.plan.name}, {manifest.target.name}"
    logits = checks.compare_logits(made, bundle, to_the_end=not quick)
    print(
        f"{name}: logits of {logits.positions} positions, furthest {logits.furthest:.1e} of their spread from the host's, same top {logits.same_top:.2%}"
    )
    failures = list(logits.failures)
    if logits.furthest > checks.bound(manifest):
        failures.append(f"the logits are {logits.furthest:.1e} from the host's; expected {checks.bound(manifest):.0e} at most")
    if not quick:
        measured = checks.profile(made, bundle)
        failures += measured.failures
        print(f"{name}: benchmark, {sum(map(len, measured.runs.values()))} runs of {', '.join(map(str, sorted(measured.runs)))} tokens")
        for prompt, said in zip(PROMPTS, checks.answers(made, bundle, PROMPTS), strict=True):
            failures += [] if said["phase"] == "DONE" else [f"answer to {prompt!r}: {said['phase']} {said.get('error', '')}"]
    for failure in failures:
        print(f"{name}: FAILED: {failure}")
    return 1 if failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/android_natives", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "bundles", nargs="*", metavar="BUNDLE", type=Path, help="bundle folders (default: the demo checkpoint with every plan)"
    )
    parser.add_argument(
        "--apk",
        metavar="FILE",
        type=Path,
        default=APK,
        help="an APK that scripts/build_apk made of this checkout (default: out/firsttoken-demo.apk)",
    )
    parser.add_argument(
        "--aar",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help="instead: an AAR with a runtime, or what it needs; may be repeated",
    )
    parser.add_argument("--abi", choices=("x86_64", "arm64-v8a"), default="x86_64", help="which of its libraries (default: x86_64)")
    parser.add_argument("--quick", action="store_true", help="the logits alone, and not to the cache's end")
    return parser
