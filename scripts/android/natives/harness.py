"""A JVM that has the app's compiled classes and a phone's native libraries, and is given jobs (android-demo/app/src/natives)."""

import fcntl
import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from android import app
from android.failure import BuildError
from android.jars import jars
from android.java import classpath, javac
from android.kotlin import compiled
from android.natives import stand_ins
from android.natives.machines import Machine
from android.natives.packages import Package, from_aars, from_apk
from android.places import APP, WORK

MAIN = "dev.firsttoken.demo.natives.MainKt"
SOURCES = APP / "src" / "natives"
# What an app gets on many phones, 256 MiB, in which Android counts direct buffers too.
PHONE_HEAP = ("-Xmx192m", "-XX:MaxDirectMemorySize=64m")


class NativesError(Exception):
    """A job ended otherwise than by itself; the message holds what the process said last."""


@dataclass
class Harness:
    """``missing`` are the system's functions that the libraries name and that have no stand-in: calling one ends the process with its name."""

    machine: Machine
    package: Package
    classes: list[Path]
    missing: tuple[str, ...]
    folder: Path

    def run(self, job: dict, heap: tuple[str, ...] = PHONE_HEAP, seconds: float = 900) -> str:
        """Runs a job to its end and returns what its process said. Raises `NativesError`."""
        file = self.folder / "job.json"
        file.write_text(json.dumps({"runtimes": self.package.versions, **job}), encoding="utf-8")
        return self.java(MAIN, [str(file)], heap, seconds)

    def java(
        self,
        main: str,
        arguments: list[str],
        heap: tuple[str, ...] = PHONE_HEAP,
        seconds: float = 900,
        more: tuple[Path, ...] = (),
        only_output: bool = False,
    ) -> str:
        """Runs any class with the libraries at hand; ``more`` goes onto the classpath. Returns what it said, or only its output."""
        options = [*heap, "-XX:+UseSerialGC", "-XX:-UsePerfData", f"-Djava.library.path={self.folder / 'libraries'}"]
        command = [*self.machine.java, *options, "-cp", classpath(*more, *self.classes), main, *arguments]
        stand_in = self.folder / "system"
        environment = self.machine.environment(stand_in, stand_in / stand_ins.OWN)
        try:
            done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=seconds, errors="replace")
        except subprocess.TimeoutExpired:
            raise NativesError(f"{main} on {self.machine.abi} did not end within {seconds:.0f} seconds") from None
        said = done.stdout + done.stderr
        if done.returncode:
            raise NativesError(f"{main} on {self.machine.abi} ended with status {done.returncode}:\n" + "\n".join(said.splitlines()[-40:]))
        return done.stdout if only_output else said


def harness(machine: Machine, apk: Path | None = None, aars: list[Path] | None = None) -> Harness:
    """Makes a harness of an APK that scripts/build_apk built here (its classes are those it was made of), or of other AARs. Raises `BuildError`."""
    made = app.build()
    folder = WORK / "natives" / f"{'aar' if aars else 'apk'}-{machine.abi}"
    shutil.rmtree(folder, ignore_errors=True)
    libraries = folder / "libraries"
    carried = {"litert": made.runtimes.litert, "tflite": made.runtimes.tensorflow_lite, "executorch": made.runtimes.executorch}
    if aars:
        package = from_aars(aars, machine.abi, libraries)
    elif apk is not None:
        package = from_apk(apk, machine.abi, libraries, carried)
    else:
        raise BuildError("neither an APK nor AARs were given")
    stood = stand_ins.make(list(package.libraries), machine, folder / "system")
    ours, own = app_classes(made)
    # what was given goes before what the app was compiled against
    return Harness(machine, package, [*ours, *package.classes, *own], stood.missing, folder)


def app_classes(made: app.App) -> tuple[list[Path], list[Path]]:
    """Returns the app's classes with those that run jobs, and what they were compiled against. Raises `BuildError`."""
    handler = WORK / "classes" / "app-natives-handler"
    own = [made.core, made.resources.classes, *jars("core"), *made.runtimes.jars]
    with (WORK / "natives.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test processes would take each other's classes away
        javac((SOURCES / "java").rglob("*.java"), handler)
        classes = compiled("app-natives", SOURCES / "kotlin", [handler, *own], friend=made.classes)
    return [handler, classes, made.classes], own
