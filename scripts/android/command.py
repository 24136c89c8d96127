"""The command line of scripts/build_apk."""

import argparse
import fcntl
from pathlib import Path

from android import apk, app, core, gradle, levels, sources
from android.failure import BuildError
from android.jars import runtime_files
from android.places import WORK

DESCRIPTION = """\
Builds and tests the Android demo without the Android SDK and without Gradle.

Needs Python 3.11 or newer, a JDK 17 or newer, Maven, aapt2 and apksigner (Debian, Ubuntu: sudo apt-get install
openjdk-17-jdk-headless maven aapt apksigner), and the network the first time only (about 350 MB; 65 MB for --test core).
Everything it makes is in .work/android of the repository (or in FIRSTTOKEN_ANDROID_WORK), but the APK, which is in out/: remove that
folder to start over.
Versions are read from android-demo/gradle/libs.versions.toml.

Maven asks its own central repository, and what your settings.xml says. The dexer (R8), LiteRT and what the app's tests are run
with are in Google's Maven repository only: give its address with --repository, or in FIRSTTOKEN_MAVEN_REPOSITORIES (addresses with
spaces between them), unless your settings have it already. The APK carries LiteRT and ExecuTorch where they can be had, from there or from
files that you give with --aar; where not, TensorFlow Lite instead of LiteRT and no ExecuTorch, and says so.

The APK is signed with a debug key that is the same on every machine, so it installs over one that was built elsewhere. That key is public:
it does not show who built an APK (android-demo/README.md, "Install").
"""
EXAMPLES = """\
examples:
  scripts/build_apk                               build, sign and verify out/firsttoken-demo.apk
  scripts/build_apk --repository ADDRESS          Google's Maven repository too
  scripts/build_apk --aar FOLDER                  with litert-2.3.0.aar, litert-api-2.3.0.aar … from FOLDER
  scripts/build_apk --test                        compile both modules and run their tests
  scripts/build_apk --test core --only TextStream only core's tests whose class name contains TextStream
  scripts/build_apk --test app --pictures shots  the app's tests, with pictures of its screens
  scripts/build_apk --check-levels                does anything use what Android 8 does not have?
  scripts/build_apk --time-tokenizer FILE TEXT    measure loading a tokenizer.json and encoding a text file

`--test` alone leaves out the comparison with Hugging Face tokenizers, which needs data that Python makes:
  .venv/bin/pytest tests/android                  makes it and runs all tests
"""


def main(arguments: list[str] | None = None) -> int:
    """Runs the command and returns its exit status: 0 done, 1 a test failed, 2 it could not be done."""
    options = _parser().parse_args(arguments)
    try:
        if options.parity is not None and not options.parity.is_dir():
            raise BuildError(f"--parity {options.parity}: not a folder; expected what tests/android/parity.py made")
        sources.read(options.repository, options.aar, runtime_files())
        WORK.mkdir(parents=True, exist_ok=True)
        with (WORK / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two builds would take each other's classes away
            return _run(options)
    except BuildError as error:
        print(f"error: {error}")
        return 2


def _run(options: argparse.Namespace) -> int:
    if options.time_tokenizer:
        return core.time_tokenizer(*options.time_tokenizer)
    if options.check_levels:
        return levels.check()
    if options.check_gradle:
        return gradle.check()
    if not options.test:
        apk.build(options.output.absolute() if options.output else apk.APK)
        return 0
    failed = 0
    if options.test in ("core", "all"):
        failed |= core.test(options.only, options.parity)
    if options.test in ("app", "all"):
        failed |= app.test(options.only, options.pictures, options.parity)
    return failed


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/build_apk", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--test",
        nargs="?",
        const="all",
        choices=("all", "core", "app"),
        help="compile and run the tests; prints 'N passed, M failed' for each module",
    )
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="where the APK goes; without it out/firsttoken-demo.apk")
    parser.add_argument(
        "--repository",
        metavar="ADDRESS",
        action="append",
        default=[],
        help="a further Maven repository, https://… or file:///…; may be repeated",
    )
    parser.add_argument(
        "--aar",
        metavar="PLACE",
        action="append",
        default=[],
        type=Path,
        help="an AAR or jar that the APK is to carry, or a folder of such, under the names they have in Maven; may be repeated",
    )
    parser.add_argument("--only", metavar="NAME", default="", help="with --test: only test classes whose name contains NAME")
    parser.add_argument("--parity", metavar="FOLDER", type=Path, help="with --test: what tests/android/parity.py made, to be compared with")
    parser.add_argument("--pictures", metavar="FOLDER", type=Path, help="with --test: where the app's tests leave pictures of its screens")
    parser.add_argument("--check-levels", action="store_true", help="check that only what Android 8 (API 26) has is used unguarded")
    parser.add_argument(
        "--check-gradle",
        action="store_true",
        help="compile the android block of the Gradle build against the Android Gradle Plugin's types",
    )
    parser.add_argument(
        "--time-tokenizer",
        nargs=2,
        metavar=("FILE", "TEXT"),
        type=Path,
        help="print how long loading a tokenizer.json and encoding a text take",
    )
    return parser
