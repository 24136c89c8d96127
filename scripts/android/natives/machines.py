"""The two machines that a phone's libraries run on here: this one (x86-64), and an ARM system under qemu's user emulation."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from android.failure import BuildError
from android.places import REPOSITORY, program


@dataclass(frozen=True)
class Machine:
    """``java`` is the command that starts its JVM, ``environment`` turns libraries' folders and one to preload into its environment."""

    abi: str
    compiler: tuple[str, ...]
    language: tuple[str, ...]  # for bionic.c
    compiler_environment: dict[str, str]
    c_libraries: tuple[Path, ...]
    java: tuple[str, ...]
    environment: Callable[[Path, Path], dict[str, str]]
    jump_through: Callable[[str, int], list[str]]
    jump_to: Callable[[str], list[str]]
    call_with: Callable[[str, str], list[str]]


def this_machine() -> Machine:
    """Raises `BuildError` where it is no x86-64 machine, or has no C compiler."""
    if platform.machine() != "x86_64":
        raise BuildError(
            f"this machine is {platform.machine()}; the APK's x86_64 libraries run on x86_64 only (--abi arm64-v8a is emulated)"
        )
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise BuildError("a C compiler is missing; install gcc")
    libraries = []
    for name in ("libc.so.6", "libm.so.6", "libgcc_s.so.1"):
        found = subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip()
        if not os.path.isabs(found):
            raise BuildError(f"{name} is not found by {compiler}; install libc6-dev")
        libraries.append(Path(found).resolve())
    return Machine(
        abi="x86_64",
        compiler=(compiler,),
        language=(),
        compiler_environment=dict(os.environ),
        c_libraries=tuple(libraries),
        java=(program("java"),),
        environment=lambda folder, preloaded: {**os.environ, "LD_LIBRARY_PATH": str(folder), "LD_PRELOAD": str(preloaded)},
        jump_through=lambda table, offset: [f"movq {table}@GOTPCREL(%rip), %r11", f"jmp *{offset}(%r11)"],
        jump_to=lambda name: [f"movq {name}@GOTPCREL(%rip), %r11", "jmp *%r11"],
        call_with=lambda data, name: [f"leaq {data}(%rip), %rdi", f"movq {name}@GOTPCREL(%rip), %r11", "jmp *%r11"],
    )


def emulated_arm() -> Machine:
    """Raises `BuildError`, with the command to run, where scripts/setup_arm and its JRE have not been set up."""
    sys.path.insert(0, str(REPOSITORY / "python"))
    try:
        from firsttoken.arm.build import compiler_libraries
        from firsttoken.arm.folder import part
        from firsttoken.errors import FirstTokenError
    except ImportError as missing:
        raise BuildError(f"{missing}; run it with .venv/bin/python (scripts/setup makes it)") from None
    try:
        emulator, system, compiler, jre = (part(name) for name in ("emulator", "system", "compiler", "java"))
    except FirstTokenError as error:
        raise BuildError(str(error)) from None
    libraries = system / "lib" / "aarch64-linux-gnu"
    run = (str(emulator / "qemu-aarch64"), "-L", str(system), "-cpu", "cortex-a76")

    def environment(folder: Path, preloaded: Path) -> dict[str, str]:
        # for the emulated program only: qemu itself needs none of it
        kept = {name: value for name, value in os.environ.items() if not name.startswith("LD_")}
        return {**kept, "QEMU_SET_ENV": f"LD_LIBRARY_PATH={folder},LD_PRELOAD={preloaded}"}

    return Machine(
        abi="arm64-v8a",
        compiler=(str(compiler / "usr/bin/aarch64-linux-gnu-g++-12"), f"--sysroot={compiler}", "-fno-use-linker-plugin"),
        language=("-x", "c++"),
        compiler_environment={**os.environ, "LD_LIBRARY_PATH": compiler_libraries(compiler)},
        c_libraries=tuple(libraries / name for name in ("libc.so.6", "libm.so.6", "libgcc_s.so.1")),
        java=(*run, str(jre / "usr/lib/jvm/java-17-openjdk-arm64/bin/java")),
        environment=environment,
        jump_through=lambda table, offset: [
            f"adrp x16, :got:{table}",
            f"ldr x16, [x16, :got_lo12:{table}]",
            f"ldr x16, [x16, #{offset}]",
            "br x16",
        ],
        jump_to=lambda name: [f"adrp x16, :got:{name}", f"ldr x16, [x16, :got_lo12:{name}]", "br x16"],
        call_with=lambda data, name: [
            f"adrp x0, {data}",
            f"add x0, x0, :lo12:{data}",
            f"adrp x16, :got:{name}",
            f"ldr x16, [x16, :got_lo12:{name}]",
            "br x16",
        ],
    )
