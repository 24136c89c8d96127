"""Decoders lowered to ONNX and run in onnxruntime."""

import pytest
from lowering_jobs import lowered_artifact
from tflite_fixtures import tied_checkpoint, untied_checkpoint  # noqa: F401

from firsttoken.backends.registry import find_backend


@pytest.fixture
def lowered(tmp_path):
    """Lowers a checkpoint folder and opens it; returns the job, the manifest and the runner, which is closed in the end."""
    opened = []

    def make(folder, plan, threads=1, path=None, **lengths):
        place = path or tmp_path
        job, manifest, artifact = lowered_artifact(folder, place, plan, "onnx-cpu", **lengths)
        backend = find_backend("onnx-cpu")
        backend.verify(place, artifact)  # as whoever opens a bundle does
        runner = backend.open_runner(place, manifest, artifact, threads)
        opened.append(runner)
        return job, manifest, runner

    yield make
    for runner in opened:
        runner.close()
