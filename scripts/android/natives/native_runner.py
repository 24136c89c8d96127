"""The app's native runner in a JVM of this machine: android-demo/native compiled for it, on the LiteRT library of the Python wheel.

What is built here needs glibc and is for tests alone. An APK carries what Gradle builds with the NDK: bionic does not load this one.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from android import app
from android.failure import BuildError
from android.java import classpath
from android.natives.harness import MAIN, PHONE_HEAP, NativesError, app_classes
from android.natives.machines import Machine
from android.places import PROJECT, WORK, program

SOURCES = PROJECT / "native"
NAME = "libfirsttoken_litert.so"
CHECKED = "-Xcheck:jni"  # the JVM watches what native code does to it
FLAGS = ("-std=c++17", "-O2", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden")


@dataclass
class NativeHarness:
    """A JVM with the app's classes, the native runner's library in ``folder``, and LiteRT's at ``litert``."""

    machine: Machine
    classes: list[Path]
    folder: Path
    litert: Path
    version: str

    def native(self, cache: Path, litert: Path | None = None) -> dict:
        """Returns what a job says of the native runner: packed weights are kept in ``cache``."""
        return {"library": str(litert or self.litert), "cache": str(cache), "version": self.version}

    def run(self, job: dict, options: tuple[str, ...] = (*PHONE_HEAP, CHECKED), seconds: float = 600, libraries: Path | None = None) -> str:
        """Runs a job to its end and returns what its process said; ``libraries`` is another place for the native runner's. Raises `NativesError`."""
        file = self.folder / f"job-{os.getpid()}.json"
        runtimes = {"litert": self.version, "tflite": "", "executorch": ""}
        file.write_text(json.dumps({"runtimes": runtimes, **job}), encoding="utf-8")
        options = [*options, "-XX:+UseSerialGC", "-XX:-UsePerfData", f"-Djava.library.path={libraries or self.folder}"]
        command = [*self.machine.java, *options, "-cp", classpath(*self.classes), MAIN, str(file)]
        environment = self.machine.environment(self.folder, Path())
        environment.pop("LD_PRELOAD", None)
        environment["QEMU_SET_ENV"] = f"LD_LIBRARY_PATH={self.folder}"
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=seconds, errors="replace")
        said = done.stdout + done.stderr
        if done.returncode:
            raise NativesError(f"{job['mode']} on {self.machine.abi} ended with status {done.returncode}:\n{said[-4000:]}")
        return said


def native_harness(machine: Machine) -> NativeHarness:
    """Compiles the app and the native runner where they have changed. Raises `BuildError`."""
    WORK.mkdir(parents=True, exist_ok=True)
    with (WORK / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as scripts/build_apk does
        ours, own = app_classes(app.build())
    library = built(machine)
    return NativeHarness(machine, [*ours, *own], library.parent, litert_library(machine.abi), version("ai-edge-litert"))


def built(machine: Machine) -> Path:
    """Returns the native runner's library for ``machine``'s JVM. Raises `BuildError` with the compiler's complaint."""
    sources = sorted(SOURCES.glob("*.cc"))
    command = [*_compiler(machine), *FLAGS, *(f"-I{folder}" for folder in _jni_headers()), *map(str, sources), "-ldl"]
    digest = hashlib.sha256("\0".join(command).encode())
    for path in [*sources, *sorted(SOURCES.glob("*.h"))]:
        digest.update(path.read_bytes())
    folder = WORK / "native-runner" / f"{machine.abi}-{digest.hexdigest()[:16]}"
    library = folder / NAME
    if library.is_file():
        return library
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{NAME}.{os.getpid()}.partial"
    done = subprocess.run([*command, "-o", str(partial)], capture_output=True, text=True, env=machine.compiler_environment)
    if done.returncode:
        partial.unlink(missing_ok=True)
        raise BuildError(f"android-demo/native does not compile for {machine.abi}:\n" + "\n".join(done.stderr.splitlines()[:40]))
    os.replace(partial, library)
    return library


def litert_library(abi: str) -> Path:
    """Returns LiteRT's C library of the Python wheel for ``abi``. Raises `BuildError`."""
    if abi == "arm64-v8a":
        from firsttoken.arm.folder import part

        return part("litert") / "ai_edge_litert" / "libLiteRt.so"
    spec = find_spec("ai_edge_litert")
    library = Path(spec.origin).parent / "libLiteRt.so" if spec and spec.origin else None
    if library is None or not library.is_file():
        raise BuildError("LiteRT's library is not installed; run scripts/setup")
    return library


def _compiler(machine: Machine) -> list[str]:
    if machine.abi == "arm64-v8a":
        return [*machine.compiler]  # that of scripts/setup_arm, which is g++
    found = shutil.which("g++") or shutil.which("c++")
    if found is None:
        raise BuildError("a C++ compiler is missing; install g++")
    return [found]


def _jni_headers() -> list[Path]:
    include = Path(program("javac")).resolve().parents[1] / "include"
    if not (include / "jni.h").is_file():
        raise BuildError(f"{include}: has no jni.h; install a JDK with its headers (openjdk-17-jdk-headless)")
    return [include, include / "linux"]
