"""Small native programs, compiled when they are first needed and kept in the machine's folder.

The name of a built program carries a hash of its source and of what it is built with, so a changed source is built anew.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from firsttoken.arm.folder import arm_folder, part
from firsttoken.backends.executorch.native_build import LIBRARIES
from firsttoken.errors import FirstTokenError
from firsttoken.setup_folder import STAMP

KEPT = 4  # builds of one program


def executorch_runner() -> Path:
    """Returns the ARM program that runs a .pte, built from runner.cpp against the ARM wheel of ExecuTorch."""
    compiler, wheel = part("compiler"), part("executorch")
    command = [
        compiler / "usr/bin/aarch64-linux-gnu-g++-12", f"--sysroot={compiler}", "-fno-use-linker-plugin", "-std=c++17", "-O2", "-w",
        "-DC10_USING_CUSTOM_GENERATED_MACROS", "-I", wheel / "include", "-I", wheel / "include/executorch/runtime/core/portable_type/c10",
        "{source}", "-o", "{program}", "-L", wheel / "lib", "-Wl,--no-as-needed", *(f"-l{name}" for name in LIBRARIES), "-Wl,--allow-shlib-undefined",
    ]  # fmt: skip
    return built("runner.cpp", command, (compiler / STAMP, wheel / STAMP), {"LD_LIBRARY_PATH": compiler_libraries(compiler)})


def compiler_libraries(compiler: Path) -> str:
    """Returns where the compiler's own programs find the libraries that came with them."""
    return ":".join(str(folder) for folder in sorted((compiler / "usr/lib").glob("*-linux-gnu")))


def log_counter() -> Path:
    """Returns the program of this machine that counts instructions in the emulator's log, built from count_log.c."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise FirstTokenError("counting instructions needs a C compiler on this machine; install gcc or clang")
    return built("count_log.c", [compiler, "-O2", "-std=c11", "-D_GNU_SOURCE", "{source}", "-o", "{program}"], (), {})


def built(source: str, command: list, made_with: tuple[Path, ...], environment: dict[str, str]) -> Path:
    """Compiles ``source`` of this package unless that was done before. Raises `FirstTokenError` with the compiler's complaint."""
    path = Path(__file__).with_name(source)
    digest = hashlib.sha256(path.read_bytes())
    for stamp in made_with:
        digest.update(stamp.read_bytes())
    folder = arm_folder() / "built"
    program = folder / f"{path.stem}-{digest.hexdigest()[:16]}"
    if program.exists():
        return program
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".building-") as scratch:
        fresh = Path(scratch, "program")
        filled = [{"{source}": str(path), "{program}": str(fresh)}.get(word, str(word)) for word in command]
        done = subprocess.run(filled, env={**os.environ, **environment, "TMPDIR": scratch}, capture_output=True, text=True)
        if done.returncode:
            complaint = next((line for line in done.stderr.splitlines() if "error" in line), "no message")
            raise FirstTokenError(f"{source}: cannot be compiled ({complaint}); this is a fault of firsttoken or of an unfinished set-up")
        os.replace(fresh, program)
    older = sorted(folder.glob(f"{path.stem}-*"), key=lambda found: found.stat().st_mtime, reverse=True)
    for stale in older[KEPT:]:
        stale.unlink(missing_ok=True)
    return program
