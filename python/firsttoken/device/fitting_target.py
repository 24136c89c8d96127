"""What runs on an APK of the firsttoken app: which target to export for, and whether a bundle fits the app on a phone."""

from collections.abc import Callable, Sequence
from pathlib import Path

from firsttoken.backends.registry import backend_names, backend_of, find_backend, resolve
from firsttoken.bundle.manifest import Manifest
from firsttoken.checkpoint_sources.open import open_checkpoint
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import open_decoder
from firsttoken.device.carried import Carried, read_carried
from firsttoken.errors import FirstTokenError
from firsttoken.quant.plan import Plan, load_plan
from firsttoken.targets.target import load_target

APK_NAME = "firsttoken-demo.apk"  # as scripts/build_apk calls it, in the folder where bundles go too
DEFAULT_TARGET = "tflite-xnnpack"
# The first of them that an APK runs is exported for: FP16 computed in FP16 before FP16 only stored, and .tflite before .pte.
OUTSIDE_THE_DELEGATE = ("gemma3n", "gemma4")  # families
IN_ORDER = (DEFAULT_TARGET, "tflite-compat", "executorch-xnnpack")


def runnable(carried: Carried) -> list[str]:
    """Returns the targets of `IN_ORDER` that an APK runs, in that order."""
    targets = [load_target(name) for name in IN_ORDER]
    return [target.name for target in targets if carried.lacks(backend_of(target).app_runtimes, target.min_runtime) is None]


def refusal(carried: Carried, manifest: Manifest) -> str | None:
    """Returns what an APK lacks of what a bundle's CPU artifact needs, or None where it runs it; as the app itself decides (TfliteRuntime.kt)."""
    cpu = manifest.cpu
    if any(state.kind == "recurrent" for state in cpu.states):
        return "its layers with a gated delta net have a state (kind 'recurrent') that the app does not feed yet; no target's file of it runs there"
    if manifest.checkpoint.family.startswith(OUTSIDE_THE_DELEGATE) and cpu.file.endswith(".tflite"):
        return (
            "of this family's .tflite so much runs outside the delegate that XNNPACK loses track of it as its workspace grows, which the app cannot "
            "reserve beforehand (docs/runtimes.md); export with -t executorch-xnnpack"
        )
    if lack := packed_lack(carried, manifest):
        return f"its artifact has only packed weights, {lack}; export it without --packed-only"
    runtimes = find_backend(cpu.backend).app_runtimes if cpu.backend in backend_names() else ()
    return carried.lacks(runtimes, cpu.needs.min_runtime)


def packed_lack(carried: Carried, manifest: Manifest) -> str | None:
    """Why an artifact that has only packed weights does not run with an APK; None where it may, or has others. For which CPU they are only the app can tell."""
    if manifest.packed is None or not manifest.packed.only:
        return None
    if not carried.native_runner:
        return "which the app's native runner alone takes, and this APK was built without it (build it with Gradle and the NDK)"
    versions = sorted({file.version for file in manifest.packed.files})
    return None if carried.versions.get("LiteRT") in versions else f"made by LiteRT {' and '.join(versions)}, and the app carries {carried}"


def instead(carried: Carried) -> str:
    """What to do about a bundle that an APK does not run."""
    found = runnable(carried)
    return (
        f"export for what it carries (-t {found[0]}), or install one that carries more"
        if found
        else "build the app again with scripts/build_apk"
    )


def targets_to_export(
    checkpoint: str | Path,
    output: str | Path,
    plan: str | Path,
    targets: Sequence[str | Path],
    for_apk: str | Path | None,
    cache_length: int | None,
    say: Callable[[str], None],
    adapter: str | Path | None = None,
) -> Sequence[str | Path]:
    """Returns ``targets``; where none is given the one for the APK ``for_apk``, or for the one in ``output`` that scripts/build_apk writes there.

    Without any APK, or with one in ``output`` that does not help, it is `DEFAULT_TARGET`. Raises `FirstTokenError` for an APK asked for
    that cannot be read or runs no target with this plan.
    """
    if targets and for_apk is not None:
        raise FirstTokenError("--for-apk chooses the target, and one is given; leave out -t, or --for-apk")
    if targets:
        return targets
    apk = Path(output) / APK_NAME if for_apk is None else Path(for_apk)
    if for_apk is None and not apk.is_file():
        return [DEFAULT_TARGET]
    with open_checkpoint(checkpoint, adapter) as source:
        decoder, how = open_decoder(source), load_plan(plan)
    try:
        carried = read_carried(apk, str(apk))
        chosen = _chosen(apk, carried, decoder, how, cache_length)
    except FirstTokenError as error:
        if for_apk is not None:
            raise
        say(f"exporting for {DEFAULT_TARGET}, not for the APK in {output}: {error}")
        return [DEFAULT_TARGET]
    say(f"exporting for {chosen}: {apk} carries {carried} (another target: -t)")
    return [chosen]


def _chosen(apk: Path, carried: Carried, decoder: Decoder, plan: Plan, cache_length: int | None) -> str:
    found, reason = runnable(carried), None
    for name in found:
        target = load_target(name, cache_length)
        try:
            backend_of(target).check_model(decoder, target)
            resolve(plan, decoder, target)
            return name
        except FirstTokenError as error:
            reason = reason or error
    if reason is None:
        raise FirstTokenError(f"{apk}: carries {carried}, which runs none of {', '.join(IN_ORDER)}; build it again with scripts/build_apk")
    raise FirstTokenError(f"{apk}: carries {carried}, so the target would be {found[0]}, but {reason}")
