"""Where the software Vulkan device lies that LiteRT's GPU accelerator is run on here, and what a process needs to find it.

Everything is in one folder: ``$FIRSTTOKEN_GPU``, else ``gpu`` in firsttoken's cache folder. `firsttoken.gpu.setup` fills it; deleting it
undoes that. Only processes that are started with `device_environment` see the device.
"""

import json
import os
from pathlib import Path

from firsttoken.errors import FirstTokenError
from firsttoken.setup_folder import STAMP, command_of, folder_of

FOLDER_VARIABLE = "FIRSTTOKEN_GPU"
PART = "swiftshader"
DRIVER = "vk_swiftshader_icd.json"  # tells Vulkan's loader where the device's library is
LIBRARIES = ("libvk_swiftshader.so", "libvulkan.so.1")
DEVICE = "WebGPU on a software device"


def gpu_folder() -> Path:
    """Returns the folder of the software device, whether it exists or not. Raises `FirstTokenError` if there can be none."""
    return folder_of(FOLDER_VARIABLE, "gpu", "the software GPU")


def is_set_up() -> bool:
    """Whether the software device is there, whole."""
    return (gpu_folder() / PART / STAMP).is_file()


def device_folder() -> Path:
    """Returns the device's folder. Raises `FirstTokenError`, with the command to run, where it is not set up."""
    if not is_set_up():
        raise FirstTokenError(f"the software GPU is not set up (nothing in {gpu_folder()}); run: {setup_command()}")
    return gpu_folder() / PART


def device_version() -> str:
    """What the device was made from: the package and its version."""
    return (device_folder() / STAMP).read_text(encoding="utf-8").strip()


def device_environment(device: Path | None = None) -> dict[str, str]:
    """Environment variables of a process that is to see the device in the folder ``device`` (default: the one that is set up), and no other GPU."""
    folder = device or device_folder()
    driver = folder / DRIVER
    libraries = [str(folder), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    return {
        **os.environ,
        "VK_ICD_FILENAMES": str(driver),
        "VK_DRIVER_FILES": str(driver),
        "XDG_RUNTIME_DIR": os.environ.get("XDG_RUNTIME_DIR") or str(folder),  # Vulkan's loader wants one, whatever it holds
        "LD_LIBRARY_PATH": ":".join(libraries),
    }


def write_driver(folder: Path) -> None:
    """Writes the description of the device, which names its library in the same folder."""
    described = {"file_format_version": "1.0.0", "ICD": {"library_path": f"./{LIBRARIES[0]}", "api_version": "1.1.0"}}
    (folder / DRIVER).write_text(json.dumps(described) + "\n", encoding="utf-8")


def setup_command() -> str:
    """The command that sets it up."""
    return command_of("setup_gpu", "firsttoken.gpu.setup")
