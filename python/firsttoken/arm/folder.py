"""Where the emulated ARM machine lies, which parts it has, and whether each is there.

Everything is in one folder: ``$FIRSTTOKEN_ARM``, else ``arm`` in firsttoken's cache folder. `firsttoken.arm.setup`
fills it; deleting it undoes that. Nothing in it is installed in the system.
"""

from pathlib import Path

from firsttoken.errors import FirstTokenError
from firsttoken.setup_folder import STAMP, command_of, folder_of

FOLDER_VARIABLE = "FIRSTTOKEN_ARM"

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
    return folder_of(FOLDER_VARIABLE, "arm", "the emulated ARM machine")


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
    """The command that sets everything up."""
    return command_of("setup_arm", "firsttoken.arm.setup")
