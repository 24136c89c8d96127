"""How a program is started in the emulated machine: qemu's user mode, one process, one thread, files of the host visible.

An ARM program opens the system's files under the machine's ``system`` folder and every other path as it is.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from firsttoken.arm.build import executorch_runner
from firsttoken.arm.cores import Core
from firsttoken.arm.folder import arm_folder, part
from firsttoken.backends.registry import find_backend
from firsttoken.bundle.manifest import Manifest
from firsttoken.errors import FirstTokenError
from firsttoken.setup_folder import STAMP

PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Runtime:
    """A runtime that an artifact is run with on ARM: its key, its name for people, and the parts it needs."""

    key: str
    name: str
    package: str  # whose version it has
    parts: tuple[str, ...]


RUNTIMES = {
    runtime.key: runtime
    for runtime in (
        Runtime("litert", "LiteRT", "ai-edge-litert", ("litert", "python")),
        Runtime("tflite-2.16", "TensorFlow Lite", "tensorflow", ("tflite-2.16",)),
        Runtime("executorch", "ExecuTorch", "executorch", ("executorch", "compiler")),
    )
}


def runtimes_of(backend: str) -> list[Runtime]:
    """Returns the runtimes that artifacts of a backend have to be right on: of the compatible form also the oldest that it promises."""
    return [RUNTIMES[key] for key in find_backend(backend).arm_runtimes]


def check_parts(runtimes: list[Runtime]) -> None:
    """Raises `FirstTokenError`, with the command to run, where a part that these runtimes need is not set up."""
    for name in ("emulator", "system", *(name for runtime in runtimes for name in runtime.parts)):
        part(name)


def runtime_version(runtime: Runtime) -> str:
    """Returns the version that the machine has of a runtime, from what its part was made of."""
    stamp = (part(runtime.parts[0]) / STAMP).read_text(encoding="utf-8")
    for line in stamp.splitlines():
        name, _, version = line.partition("==")
        if name == runtime.package:
            return version
    raise FirstTokenError(f"emulated ARM: {runtime.parts[0]} does not say its version; delete {arm_folder()} and set it up again")


def guest_command(
    core: Core, runtime: Runtime, bundle: Path, manifest: Manifest, weight_cache: Path | None = None, read_only: bool = False
) -> tuple[list[str], dict[str, str]]:
    """Returns command and environment of the process that serves a bundle's artifact on an emulated core.

    ``weight_cache`` is a file for XNNPACK's packed weights (LiteRT only), ``read_only``: one that is whole. Raises `FirstTokenError` where a part is missing.
    """
    system, packages = part("system"), [part(name) for name in runtime.parts]
    environment = {
        "LANG": "C.UTF-8",
        "MALLOC_ARENA_MAX": "1",
        "LD_LIBRARY_PATH": ":".join(str(folder / "lib" if runtime.key == "executorch" else folder) for folder in packages[:1]),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",  # numpy's import makes one per core, and each costs a second here
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    emulator = [str(part("emulator") / "qemu-aarch64"), "-L", str(system), "-cpu", core.name]
    if runtime.key == "executorch":
        return [*emulator, str(executorch_runner()), str(bundle / manifest.cpu.file)], environment
    environment["PYTHONPATH"] = ":".join(map(str, [*packages, own_package()]))
    environment["PYTHONPYCACHEPREFIX"] = str(arm_folder() / "pycache")
    program = [str(system / "usr/bin/python3.11"), "-s", "-m", "firsttoken.arm.guest", str(bundle), runtime.key]
    return [
        *emulator,
        *program,
        *([str(weight_cache)] if weight_cache else []),
        *(["read-only"] if weight_cache and read_only else []),
    ], environment


def own_package() -> Path:
    """Returns a folder that holds this package and nothing else; beside it, in an installed one, lie packages of the host."""
    folder = arm_folder() / "package"
    link = folder / "firsttoken"
    if not (link.is_symlink() and link.readlink() == PACKAGE):
        folder.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:  # another process may be doing the same
            fresh = Path(scratch, "firsttoken")
            fresh.symlink_to(PACKAGE)
            fresh.replace(link)
    return folder
