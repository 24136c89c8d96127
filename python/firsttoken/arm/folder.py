"""Where the emulated ARM machine lies, which parts it has, and whether each is there.

Everything is in one folder: ``$FIRSTTOKEN_ARM``, else ``arm`` in firsttoken's cache folder. `firsttoken.arm.setup`
fills it; deleting it undoes that. Nothing in it is installed in the system.
"""

import os
from pathlib import Path

from firsttoken.errors import FirstTokenError

FOLDER_VARIABLE = "FIRSTTOKEN_ARM"
STAMP = ".complete"  # written last into a part; its text is the list of what the part was made from

# Part -> what it is for. The order is that of setting up.
PARTS = {
    "emulator": "qemu-aarch64, which runs ARM programs",
    "system": "C library and Python for ARM",
    "python": "numpy for ARM",
    "litert": "LiteRT for ARM",
    "tflite-2.16": "TensorFlow Lite 2.16.1 for ARM",
    "executorch": "ExecuTorch for ARM",
    "compiler": "a C++ compiler for ARM, which builds the runner of .pte files",
    "java": "a Java runtime for ARM, for the Android app's classes and libraries",
}


def arm_folder() -> Path:
    """Returns the folder of the emulated machine, whether it exists or not. Raises `FirstTokenError` if there can be none."""
    from firsttoken.cache_folder import cache_folder

    if chosen := os.environ.get(FOLDER_VARIABLE):
        return Path(chosen).absolute()
    folder = cache_folder()
    if folder is None:
        raise FirstTokenError(f"no cache folder can be written; name a folder for the emulated ARM machine in {FOLDER_VARIABLE}")
    return folder / "arm"


def part(name: str) -> Path:
    """Returns the folder of a part that is complete. Raises `FirstTokenError`, with the command to run, where it is not."""
    folder = arm_folder() / name
    if not (folder / STAMP).is_file():
        raise FirstTokenError(f"emulated ARM is not set up ({name} is missing: {PARTS[name]}); run: {setup_command()}")
    return folder


def missing_parts() -> list[str]:
    """Returns the names of the parts that are not there."""
    return [name for name in PARTS if not (arm_folder() / name / STAMP).is_file()]


def setup_command() -> str:
    """The command that sets everything up: the repository's script where there is one, else the installed package's."""
    script = Path(__file__).resolve().parents[3] / "scripts" / "setup_arm"
    if not script.is_file():
        return "python -m firsttoken.arm.setup"
    return "scripts/setup_arm" if Path.cwd() == script.parents[1] else str(script)
