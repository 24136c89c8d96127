"""Sets up the emulated ARM machine: fetches what it is made of into one folder, part by part.

    python -m firsttoken.arm.setup [--mirror ADDRESS]

No root rights, nothing installed or changed outside the folder. A part is built under another name and renamed when it
is complete, so an interrupted run is continued by the next one, and a run with nothing to do ends at once.
"""

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from firsttoken.arm import debian, wheels
from firsttoken.arm.folder import FOLDER_VARIABLE, PARTS, arm_folder
from firsttoken.errors import FirstTokenError
from firsttoken.setup_folder import STAMP, building_in, need_room, put_in_place, run_script

NEEDED_BYTES = 1 << 30  # what is kept, and the largest download while it is unpacked

EMULATOR = ("qemu-user:{own}/bookworm-backports",)  # bookworm's own (7.2) crashes on these programs
SYSTEM = tuple(
    f"{name}:arm64"
    for name in (
        "python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib", "libc6", "libgcc-s1", "libstdc++6", "libexpat1", "zlib1g",
        "libffi8", "libbz2-1.0", "liblzma5", "libssl3", "libuuid1", "libncursesw6", "libtinfo6", "libcrypt1",
    )
)  # fmt: skip
PYTHON = ("numpy==2.4.6",)
# The wrapper was built for numpy 1.
TFLITE_216 = ("tensorflow==2.16.1", "numpy==1.26.4")
# Of the same release as the system: what is compiled must find its C++ library there.
COMPILER = (
    "g++-12-aarch64-linux-gnu:{own}", "gcc-12-aarch64-linux-gnu:{own}", "binutils-aarch64-linux-gnu:{own}", "libgmp10:{own}", "libisl23:{own}",
    "libjansson4:{own}", "libmpc3:{own}", "libmpfr6:{own}", "libzstd1:{own}", "zlib1g:{own}",
    "libstdc++-12-dev-arm64-cross:all", "libstdc++6-arm64-cross:all", "libgcc-12-dev-arm64-cross:all", "libgcc-s1-arm64-cross:all",
    "libc6-dev-arm64-cross:all", "libc6-arm64-cross:all", "linux-libc-dev-arm64-cross:all",
)  # fmt: skip
JAVA = ("openjdk-17-jre-headless:arm64",)
COMPILER_UNUSED = ("/lto1", "/cc1", "lto-dump-12", "/g++-mapper-server", "-dwp", "ld.gold")
TFLITE_216_FILES = {
    "tensorflow/lite/python/interpreter.py": "tflite_runtime/interpreter.py",
    "tensorflow/lite/python/metrics/metrics_interface.py": "tflite_runtime/metrics_interface.py",
    "tensorflow/lite/python/interpreter_wrapper/_pywrap_tensorflow_interpreter_wrapper.so": "tflite_runtime/_pywrap_tensorflow_interpreter_wrapper.so",
    "tensorflow/libtensorflow_framework.so.2": "libtensorflow_framework.so.2",
}
TFLITE_216_METRICS = '''class TFLiteMetrics:
    """Stands in for the metrics module, whose original needs all of TensorFlow."""

    def increase_counter_interpreter_creation(self):
        pass
'''


@dataclass(frozen=True)
class PartRecipe:
    """How a part is made: from which packages, by which function of its folder and the downloads' folder."""

    packages: tuple[str, ...]
    build: Callable[[Path, Path], None]
    megabytes: int  # on disk, about

    @property
    def stamp(self) -> str:
        return "\n".join(self.packages) + "\n"


class Setup:
    """Builds the parts that are missing or were made from other packages. ``say`` is given one line for each."""

    def __init__(self, mirror: str | None = None, say: Callable[[str], None] = print) -> None:
        self.folder, self.mirror, self.say = arm_folder(), mirror, say
        self._debian: debian.Packages | None = None
        # What is proven on ARM must be the runtime that the host proves with.
        litert, executorch = (f"{name}=={_installed(name)}" for name in ("ai-edge-litert", "executorch"))
        self.recipes = {
            "emulator": PartRecipe(EMULATOR, self.emulator, 14),
            "system": PartRecipe(SYSTEM, self.system, 58),
            "python": PartRecipe(PYTHON, self.wheels(PYTHON, _without_tests), 45),
            "litert": PartRecipe((litert,), self.wheels((litert,), _litert_file), 6),
            "tflite-2.16": PartRecipe(TFLITE_216, self.tflite_216, 102),
            "executorch": PartRecipe((executorch,), self.wheels((executorch,), _executorch_file), 15),
            "compiler": PartRecipe(COMPILER, self.compiler, 110),
            "java": PartRecipe(JAVA, self.java, 195),
        }

    def run(self) -> None:
        """Does what is left to do. Raises `FirstTokenError` where something cannot be had; parts finished before stay."""
        if not self.left():
            return
        self.check()
        with building_in(self.folder) as scratch:
            left = self.left()  # another run may have made some meanwhile
            if left:
                size = sum(self.recipes[name].megabytes for name in left)
                self.say(f"Setting up emulated ARM in {self.folder}: {len(left)} of {len(self.recipes)} parts, about {size} MB of disk …")
            for name in left:
                self.make(name, scratch)
        self.say(f"emulated ARM is set up, {_size(self.folder) / 1e6:.0f} MB; delete {self.folder} to undo it")

    def left(self) -> list[str]:
        """Names of the parts that are missing, or were made from other packages than the recipe's."""
        return [name for name, recipe in self.recipes.items() if self.stamp(name) != recipe.stamp]

    def check(self) -> None:
        """Raises `FirstTokenError` naming everything this machine lacks."""
        problems = debian.obstacles() + wheels.obstacles()
        if sys.platform != "linux":
            problems = ["it works on Linux only"]
        if problems:
            raise FirstTokenError(f"emulated ARM cannot be set up here: {'; '.join(problems)} (it needs {debian.NEEDS})")
        need_room(self.folder, NEEDED_BYTES, FOLDER_VARIABLE)

    def stamp(self, name: str) -> str | None:
        """Returns what the part was made from, or None where it is not complete."""
        path = self.folder / name / STAMP
        return path.read_text(encoding="utf-8") if path.is_file() else None

    def make(self, name: str, scratch: Path) -> None:
        """Builds one part in ``scratch`` and puts it in its place."""
        building, downloads = scratch / name, scratch / "downloads"
        building.mkdir()
        self.recipes[name].build(building, downloads)
        put_in_place(building, self.folder / name, self.recipes[name].stamp)
        self.say(f"  {name:12} {_size(self.folder / name) / 1e6:4.0f} MB  {PARTS[name]}")

    def debian_files(self, names: tuple[str, ...], downloads: Path) -> list[Path]:
        """Fetches Debian packages; ``{own}`` in a name is this machine's architecture."""
        if self._debian is None:
            self._debian = debian.Packages(downloads / "debian", self.mirror or debian.find_mirror())
        return self._debian.fetch(name.format(own=self._debian.own) for name in names)

    def java(self, part: Path, downloads: Path) -> None:
        [package] = self.debian_files(JAVA, downloads)
        debian.unpack(package, part, lambda path: path.startswith(("usr/lib/jvm/", "etc/java")))

    def emulator(self, part: Path, downloads: Path) -> None:
        [package] = self.debian_files(EMULATOR, downloads)
        debian.unpack(package, part, lambda path: path == "usr/bin/qemu-aarch64")
        (part / "usr/bin/qemu-aarch64").rename(part / "qemu-aarch64")
        shutil.rmtree(part / "usr")

    def system(self, part: Path, downloads: Path) -> None:
        for package in self.debian_files(SYSTEM, downloads):
            debian.unpack(package, part, lambda path: not path.startswith(("usr/share/", "etc/")))

    def compiler(self, part: Path, downloads: Path) -> None:
        for package in self.debian_files(COMPILER, downloads):
            debian.unpack(package, part, lambda path: not path.startswith("usr/share/") and not path.endswith(COMPILER_UNUSED))

    def wheels(self, requirements: tuple[str, ...], place: Callable[[str], str | None]) -> Callable[[Path, Path], None]:
        def build(part: Path, downloads: Path) -> None:
            for wheel in wheels.fetch(requirements, downloads):
                wheels.unpack(wheel, part, place)

        return build

    def tflite_216(self, part: Path, downloads: Path) -> None:
        for wheel in wheels.fetch(TFLITE_216, downloads):
            wheels.unpack(wheel, part, _without_tests if wheel.name.startswith("numpy") else TFLITE_216_FILES.get)
        (part / "tflite_runtime" / "__init__.py").write_text("")
        (part / "tflite_runtime" / "metrics_portable.py").write_text(TFLITE_216_METRICS)


def _without_tests(path: str) -> str | None:
    return None if "/tests/" in path else path


def _litert_file(path: str) -> str | None:
    """The C library that our runner calls, and the package's version."""
    return path if path in ("ai_edge_litert/__init__.py", "ai_edge_litert/libLiteRt.so") or path.endswith(".dist-info/METADATA") else None


def _executorch_file(path: str) -> str | None:
    """The libraries and headers for C++."""
    return path.removeprefix("executorch/") if path.startswith(("executorch/lib/", "executorch/include/")) else None


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        raise FirstTokenError(
            f"{name} is not installed; install it first, so that the same version is taken for ARM: run scripts/setup"
        ) from None


def _size(folder: Path) -> int:
    """Bytes on disk, links not followed."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))


def main(arguments: list[str] | None = None) -> int:
    """Sets up everything; prints a line for each part. Returns 0, or 2 after an error in one line on standard error."""
    return run_script(
        arguments,
        "setup_arm",
        "Sets up the emulated ARM machine for `firsttoken prove --on arm`: no root rights, one folder, nothing to do the second time.",
        f"The folder is ${FOLDER_VARIABLE}, else arm/ in firsttoken's cache folder. Deleting it undoes everything.",
        lambda mirror: Setup(mirror, lambda line: print(line, flush=True)).run(),
    )


if __name__ == "__main__":
    sys.exit(main())
