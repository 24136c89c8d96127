"""An artifact on the software GPU, as a `Runner` like any other: the work is done in a process of its own, which the accelerator may end."""

import shutil
import sys
import tempfile
from pathlib import Path

from firsttoken.backends.gpu.child import ending
from firsttoken.backends.gpu.device import device_environment
from firsttoken.backends.litertlm.container import graphs_in
from firsttoken.backends.remote_runner import RemoteRunner
from firsttoken.bundle.manifest import Artifact, Manifest


class GpuRunner(RemoteRunner):
    """Starts the process on the bundle ``folder`` and waits until its artifact is loaded, which compiles every graph for the GPU.

    Raises `FirstTokenError` where the software GPU is not set up, the accelerator refuses the artifact or leaves an operator to the CPU, or
    the process dies; then with its last words.
    """

    def __init__(self, folder: Path, manifest: Manifest, artifact: Artifact) -> None:
        environment = device_environment()
        self._artifact = folder / artifact.file
        section = graphs_in(self._artifact)
        with tempfile.TemporaryDirectory(prefix="firsttoken-gpu-") as scratch:
            graphs = Path(scratch) / "graphs.tflite"
            with section.open() as stream, open(graphs, "wb") as file:  # LiteRT's class reads a file of its own, not a part of one
                shutil.copyfileobj(stream, file)
                file.truncate(section.size)
            command = [sys.executable, "-m", "firsttoken.backends.gpu.worker", str(folder.resolve()), str(graphs)]
            super().__init__(manifest, command, environment, f"{self._artifact} on the software GPU")

    def _ended(self, code: int | None, said: str) -> str:
        return ending(code or 0, self._place, said)
