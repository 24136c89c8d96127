"""An artifact on the software GPU, as a `Runner` like any other: the work is done in a process of its own, which the accelerator may end."""

import shutil
import sys
import tempfile
from pathlib import Path

from firsttoken.backends.gpu.child import ending
from firsttoken.backends.gpu.device import device_environment
from firsttoken.backends.gpu.part import signatures_of, take_graphs
from firsttoken.backends.litertlm.container import graphs_in
from firsttoken.backends.remote_runner import RemoteRunner
from firsttoken.backends.tflite.section import Section
from firsttoken.bundle.manifest import Artifact, Manifest


class GpuRunner(RemoteRunner):
    """Starts the process on the bundle ``folder`` and waits until its artifact is loaded, which compiles every graph for the GPU; of an artifact
    that is described with fewer methods than it has, only their graphs.

    Raises `FirstTokenError` where the software GPU is not set up, the accelerator refuses the artifact or leaves an operator to the CPU, or
    the process dies; then with its last words.
    """

    def __init__(self, folder: Path, manifest: Manifest, artifact: Artifact) -> None:
        environment = device_environment()
        self._artifact = folder / artifact.file
        methods = [method.name for method in artifact.methods]
        with tempfile.TemporaryDirectory(prefix="firsttoken-gpu-") as scratch:
            graphs = loadable(graphs_in(self._artifact), methods, Path(scratch) / "graphs.tflite")
            command = [sys.executable, "-m", "firsttoken.backends.gpu.worker", str(folder.resolve()), str(graphs.resolve()), *methods]
            super().__init__(manifest, command, environment, f"{self._artifact} on the software GPU")

    def _ended(self, code: int | None, said: str) -> str:
        return ending(code or 0, self._place, said)


def loadable(section: Section, methods: list[str], scratch: Path) -> Path:
    """A file with these methods, as LiteRT's class reads one: not a part of another. Where that is not the artifact it is written to ``scratch``."""
    if not set(signatures_of(section)) <= set(methods):
        take_graphs(section, methods, scratch)
        return scratch
    if section.start == 0:
        return section.path
    with section.open() as stream, open(scratch, "wb") as file:
        shutil.copyfileobj(stream, file)
        file.truncate(section.size)
    return scratch
