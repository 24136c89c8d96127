"""What this machine can do for firsttoken, and what is missing."""

import os
import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from firsttoken.cache_folder import cache_folder
from firsttoken.errors import FirstTokenError
from firsttoken.extras import EXTRAS, install_command, missing
from firsttoken.machine import available_disk, available_memory
from firsttoken.plain_file import why
from firsttoken.program_line import first_line
from firsttoken.safe_text import visible
from firsttoken.units import readable

# What each package is for; the first group comes with firsttoken, the extras are `firsttoken.extras`'s.
NEEDED = {
    "numpy": "everything",
    "ai-edge-litert": "running .tflite",
    "tokenizers": "prompts",
}
OPTIONAL = {
    "litert-torch": ("the tests of the .tflite graph", "run scripts/setup test"),
}
ENOUGH_MEMORY = 4 << 30
ENOUGH_DISK = 4 << 30


@dataclass(frozen=True)
class Check:
    """One line: ``state`` "missing" keeps something from working, "note" is worth knowing."""

    state: Literal["ok", "missing", "note"]
    name: str
    found: str
    advice: str = ""


def examine() -> list[Check]:
    """Looks at everything; starts nothing that takes longer than a second."""
    return [
        _python(),
        *_packages(),
        *_extras(),
        *_optional(),
        _cpu(),
        _memory(),
        _disk(),
        _weight_cache(),
        _native_executorch(),
        _packed_weights(),
        _emulated_arm(),
        _software_gpu(),
        _hexagon(),
        _hexagon_executorch(),
        _adb(),
        _java(),
    ]


def _python() -> Check:
    return Check("ok", "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _packages() -> list[Check]:
    checks = []
    for name, purpose in NEEDED.items():
        found = _version(name)
        checks.append(Check("ok", name, found) if found else Check("missing", name, "not installed", f"for {purpose}: run scripts/setup"))
    return checks


def _extras() -> list[Check]:
    checks = []
    for extra, (purpose, modules) in EXTRAS.items():
        absent = missing(extra)
        found = [f"{module} {_version(module)}" for module in modules if module not in absent] + [
            f"{module} not installed" for module in absent
        ]
        advice = f"only for {purpose}: {install_command(extra)}" if absent else ""
        checks.append(Check("note" if absent else "ok", f"extra {extra}", ", ".join(found), advice))
    return checks


def _optional() -> list[Check]:
    checks = []
    for name, (purpose, advice) in OPTIONAL.items():
        found = _version(name)
        checks.append(Check("ok", name, found) if found else Check("note", name, "not installed", f"only for {purpose}: {advice}"))
    return checks


def _cpu() -> Check:
    from firsttoken.measure.host import cpu

    found = cpu()
    return Check("ok", "cpu", f"{found.model}, {found.cores} cores; {' '.join(found.flags) or 'no known vector flags'}")


def _memory() -> Check:
    free = available_memory()
    enough = free >= ENOUGH_MEMORY
    return Check(
        "ok" if enough else "note",
        "memory",
        f"{readable(free)} available",
        "" if enough else "large models will not fit; export says before it starts",
    )


def _disk() -> Check:
    free = available_disk(Path.cwd())
    enough = free >= ENOUGH_DISK
    return Check(
        "ok" if enough else "note",
        "disk",
        f"{readable(free)} free here",
        "" if enough else "large models will not fit; export says before it starts",
    )


def _weight_cache() -> Check:
    folder = cache_folder()
    if folder is None:
        return Check("note", "cache folder", "not writable", "second starts will be slower; set XDG_CACHE_HOME to a writable folder")
    files = [path for path in folder.rglob("*") if path.is_file()]
    return Check(
        "ok",
        "cache folder",
        f"{folder}, {readable(sum(path.stat().st_size for path in files))}",
        "may be deleted at any time" if files else "",
    )


def _native_executorch() -> Check:
    from firsttoken.backends.executorch.native_build import standing

    usable, found = standing()
    if usable:
        return Check("ok", "native .pte runner", found)
    advice = "a .pte runs by ExecuTorch's Python bindings: slower starts, more memory, no kept system prompt"
    return Check("note", "native .pte runner", found, advice)


def _packed_weights() -> Check:
    from firsttoken.backends.isa import ARM, host_isa

    others = ", ".join(name for name in ARM if name != host_isa())
    return Check(
        "ok",
        "packed weights",
        f"a bundle's are used here where they are for {host_isa()} (--pack-for host); {others} are packed on emulated ARM",
    )


def _emulated_arm() -> Check:
    from firsttoken.arm import debian
    from firsttoken.arm.cores import CORES
    from firsttoken.arm.folder import PARTS, arm_folder, missing_parts, setup_command

    try:
        missing, folder = missing_parts(), arm_folder()
    except FirstTokenError as error:
        return Check("note", "emulated ARM", "no folder for it", str(error))
    if not missing:
        return Check("ok", "emulated ARM", f"{', '.join(CORES)}; {folder}", "used by `firsttoken prove --on arm`")
    found = "not set up" if len(missing) == len(PARTS) else f"incomplete: {', '.join(missing)} missing"
    if obstacles := debian.obstacles():
        return Check(
            "note", "emulated ARM", found, f"only for `firsttoken prove --on arm`: {'; '.join(obstacles)}; it needs {debian.NEEDS}"
        )
    return Check(
        "note", "emulated ARM", found, f"only for `firsttoken prove --on arm`: run {setup_command()} (no root rights, about 360 MB)"
    )


def _software_gpu() -> Check:
    from firsttoken.arm import debian
    from firsttoken.backends.gpu.device import device_version, gpu_folder, is_set_up, setup_command

    purpose = "only for `firsttoken prove --on gpu`, and the proof of exports for a GPU (tflite-gpu)"
    try:
        if is_set_up():
            return Check(
                "ok",
                "software GPU",
                f"SwiftShader of {device_version()}; {gpu_folder()}",
                "used by `firsttoken prove --on gpu` and exports for a GPU (tflite-gpu)",
            )
    except FirstTokenError as error:
        return Check("note", "software GPU", "no folder for it", str(error))
    if obstacles := debian.obstacles():
        return Check("note", "software GPU", "not set up", f"{purpose}: {'; '.join(obstacles)}; it needs {debian.NEEDS}")
    return Check("note", "software GPU", "not set up", f"{purpose}: run {setup_command()} (no root rights, about 6 MB)")


def _hexagon() -> Check:
    from firsttoken.backends.tflite_hexagon.compile import compiler_folder
    from firsttoken.backends.tflite_hexagon.libraries import PLUGIN_QNN, find_libraries

    purpose = "only for Hexagon NPUs (targets tflite-hexagon-*)"
    try:
        libraries = find_libraries()
        compiler_folder()
    except FirstTokenError as error:
        return Check("note", "Hexagon", "cannot be compiled for", f"{purpose}: {error}")
    fitting = f"{libraries.origin}, QNN {libraries.version}; fits LiteRT's compiler (QNN {'.'.join(map(str, PLUGIN_QNN))})"
    missing = [name for name in ("onnxruntime", "onnx", "onnxruntime-qnn") if not _version(name)]
    if missing:
        return Check("note", "Hexagon", fitting, f"compiles, but proofs need {', '.join(missing)}: pip install 'firsttoken[hexagon]'")
    return Check("ok", "Hexagon", fitting)


def _hexagon_executorch() -> Check:
    from firsttoken.backends.executorch_hexagon.sdk import find_sdk

    try:
        sdk = find_sdk()
    except FirstTokenError as error:
        return Check("note", "Hexagon, ExecuTorch", "cannot be compiled for", f"only for targets executorch-hexagon-*: {error}")
    return Check("ok", "Hexagon, ExecuTorch", f"{sdk.origin}, QNN {sdk.version}; fits ExecuTorch's Qualcomm backend")


def _adb() -> Check:
    from firsttoken.device.adb import find_adb

    try:
        path = find_adb()
    except FirstTokenError:
        return Check("note", "adb", "not found", "only for Android phones: install your system's adb package, or set ANDROID_HOME")
    return _program("adb", [path, "version"], "install your system's adb package again, or set ANDROID_HOME")


def _java() -> Check:
    home = os.environ.get("JAVA_HOME")
    path = shutil.which("javac", path=os.path.join(home, "bin") if home else None) or shutil.which("javac")
    if path is None:
        return Check("note", "JDK", "not found", "only for building the Android app: install JDK 17 or newer")
    return _program("JDK", [path, "-version"], "install JDK 17 or newer again")


def _program(name: str, command: list[str], advice: str) -> Check:
    """A program and the first line it says of itself; one that is there and does not work is worth knowing."""
    try:
        return Check("ok", name, first_line(command))
    except OSError as error:
        return Check("note", name, f"{command[0]}: found, but does not run ({visible(why(error))})", advice)
