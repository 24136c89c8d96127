"""Sets up a software GPU that LiteRT's accelerator accepts: SwiftShader, out of Debian's package of Chromium.

    python -m firsttoken.gpu.setup [--mirror ADDRESS]

No root rights, nothing installed or changed outside the folder. It is built under another name, a model of one operator is run on it,
and only then it is put in its place; a run with nothing to do ends at once.
"""

import platform
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from firsttoken.arm import debian
from firsttoken.backends.gpu.child import run_on_gpu
from firsttoken.backends.gpu.device import FOLDER_VARIABLE, LIBRARIES, PART, gpu_folder, write_driver
from firsttoken.errors import FirstTokenError
from firsttoken.setup_folder import STAMP, building_in, need_room, put_in_place, run_script

PACKAGE = "chromium-common"  # holds SwiftShader and Vulkan's loader
NEEDED_BYTES = 400 << 20  # apt's lists and the package, while they are unpacked
CLOSE = 1e-5  # of a product of unit size; the device computes in FP32


def set_up(mirror: str | None = None, say: Callable[[str], None] = print) -> None:
    """Fetches the device unless it is there, and checks it. Raises `FirstTokenError` where it cannot be had or does not work."""
    folder = gpu_folder()
    if (folder / PART / STAMP).is_file():
        return
    check(folder)
    with building_in(folder) as scratch:
        if (folder / PART / STAMP).is_file():  # another run has made it meanwhile
            return
        say(f"Setting up the software GPU in {folder}: about 40 MB to download, 6 MB of disk …")
        building = scratch / PART
        package = fetch(scratch / "downloads", mirror)
        take_device(package, building)
        check_device(building, scratch)
        # as in chromium-common_156.0.8078.108-1~deb12u1_amd64.deb
        put_in_place(building, folder / PART, " ".join(package.stem.split("_")[:2]) + "\n")
    say(f"the software GPU is set up; delete {folder} to undo it")


def check(folder: Path) -> None:
    """Raises `FirstTokenError` naming everything this machine lacks."""
    problems = debian.obstacles()
    if sys.platform != "linux" or platform.machine() != "x86_64":
        problems = [f"it works on Linux on x86-64 only, this is {platform.system()} on {platform.machine()}"]
    if problems:
        raise FirstTokenError(f"the software GPU cannot be set up here: {'; '.join(problems)} (it needs {debian.NEEDS})")
    need_room(folder, NEEDED_BYTES, FOLDER_VARIABLE)


def fetch(downloads: Path, mirror: str | None) -> Path:
    """Downloads the package, whose hash apt checks."""
    packages = debian.Packages(downloads, mirror or debian.find_mirror(), others=())
    [package] = packages.fetch([f"{PACKAGE}:{packages.own}"])
    return package


def take_device(package: Path, building: Path) -> None:
    """Takes the device's two libraries out of the package. Raises `FirstTokenError` where it does not hold them."""
    building.mkdir()
    unpacked = building.with_name("unpacked")
    unpacked.mkdir()
    debian.unpack(package, unpacked, lambda path: Path(path).name in LIBRARIES)
    found = {path.name: path for path in unpacked.rglob("*") if path.is_file()}
    for name in LIBRARIES:
        if name not in found:
            raise FirstTokenError(
                f"{package.name}: holds no {name}; expected a package of Chromium with SwiftShader, name another archive with --mirror"
            )
        found[name].rename(building / name)
    write_driver(building)


def check_device(device: Path, scratch: Path) -> None:
    """Runs a model of one operator. Raises `FirstTokenError` where the accelerator does not take it, or gives other numbers than numpy."""
    from firsttoken.backends.tflite.graph import Graph, Type
    from firsttoken.backends.tflite.model_file import ModelFile

    generator = np.random.default_rng(1)
    weight, states = (generator.standard_normal(shape, np.float32) for shape in ((24, 16), (8, 16)))
    file = ModelFile("one operator")
    graph = Graph(file, "main")
    graph.output("y", graph.fully_connected(graph.input("x", [8, 16], Type.FLOAT32), graph.constant(weight), -1))
    graph.finish()
    path = scratch / "one.tflite"
    file.write(path)
    run = run_on_gpu(path, {"x": states}, device)
    off = float(np.abs(run.outputs["y"] - states @ weight.T).max())
    if not run.fully or not off < CLOSE * float(np.abs(states @ weight.T).max()):
        raise FirstTokenError(
            f"the software GPU does not work: one matrix product was {'' if run.fully else 'not '}taken by LiteRT's accelerator and is off by {off:.2g}; "
            "try again, or report the versions that `firsttoken doctor` shows"
        )


def main(arguments: list[str] | None = None) -> int:
    """Sets it up. Returns 0, or 2 after an error in one line on standard error."""
    return run_script(
        arguments,
        "setup_gpu",
        "Sets up a software GPU for `firsttoken prove --on gpu`: no root rights, one folder, nothing to do the second time.",
        f"The folder is ${FOLDER_VARIABLE}, else gpu/ in firsttoken's cache folder. Deleting it undoes everything.",
        lambda mirror: set_up(mirror, lambda line: print(line, flush=True)),
    )


if __name__ == "__main__":
    sys.exit(main())
