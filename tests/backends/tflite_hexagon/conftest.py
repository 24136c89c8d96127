"""The demo checkpoint's graphs for Hexagon, written without compiling them."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def hexagon_source(tmp_path_factory):
    """Returns a function from a plan to the demo checkpoint's source for the compiler."""
    from lowering_jobs import lowering_job

    from firsttoken.backends.tflite_hexagon.source import write_source
    from firsttoken.checkpoint import Checkpoint
    from firsttoken.demo import checkpoint_path

    def source(plan_name: str, target_name: str = "tflite-hexagon-sm8550", **lengths) -> Path:
        path = tmp_path_factory.mktemp("source") / "source.tflite"
        with Checkpoint(checkpoint_path()) as checkpoint:
            write_source(lowering_job(checkpoint, plan_name, target_name, **lengths), path)
        return path

    return source
