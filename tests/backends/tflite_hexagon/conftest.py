"""The demo checkpoint's graphs for Hexagon, written without compiling them."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def hexagon_source(tmp_path_factory):
    """Returns a function from a plan to the demo checkpoint's source for the compiler."""
    from firsttoken.backends.tflite_hexagon.source import write_source
    from firsttoken.checkpoint import Checkpoint
    from firsttoken.decoder.walk import open_decoder, plan_layers
    from firsttoken.demo import checkpoint_path
    from firsttoken.quant.plan import load_plan
    from firsttoken.targets.target import load_target

    def source(plan_name: str, target_name: str = "tflite-hexagon-sm8550", **lengths) -> Path:
        path = tmp_path_factory.mktemp("source") / "source.tflite"
        target, plan = load_target(target_name, **lengths), load_plan(plan_name)
        with Checkpoint(checkpoint_path()) as checkpoint:
            config = open_decoder(checkpoint)
            write_source(checkpoint, config, plan, target, plan.resolve(plan_layers(config), target), path)
        return path

    return source
