"""Bytes of layers against files of the demo checkpoint."""

import pytest

from firsttoken.backends.registry import find_backend
from firsttoken.bundle.manifest import read_manifest
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.walk import open_decoder, plan_layers
from firsttoken.demo import checkpoint_path
from firsttoken.pipeline import export
from firsttoken.search.candidates import Candidate
from firsttoken.search.choice import Cost, Costs
from firsttoken.search.damage import UNASKED
from firsttoken.search.plan_file import plan_text
from firsttoken.search.sizes import layer_bytes

HELD = Candidate("int8")


@pytest.mark.parametrize(
    ("target", "within"),
    [("tflite-xnnpack", 1e-3), pytest.param("executorch-xnnpack", 5e-3, marks=pytest.mark.slow), ("onnx-cpu", 1e-3)],
)
def test_what_a_layer_adds_is_what_the_file_grows_by(tmp_path, target, within):
    """All MLPs in one candidate after another: the file differs from the INT8 one by the layers' bytes, to a part of the file."""
    decoder, backend = open_decoder(Checkpoint(checkpoint_path())), find_backend(target)
    layers = plan_layers(decoder)

    def written(one):
        choice = {layer.name: Candidate("fp32") if layer.kind == "core" else one if ".mlp." in layer.name else HELD for layer in layers}
        costs = Costs({name: {candidate: Cost(0, 0)} for name, candidate in choice.items()}, Cost(0, 0))
        plan = tmp_path / "plan.toml"
        plan.write_text(plan_text(choice, costs, "sizes", UNASKED, []))
        [bundle] = export(checkpoint_path(), tmp_path / "out", plan, (target,), prove=False, force=True)
        manifest = read_manifest(bundle)
        return manifest.size(manifest.cpu), sum(layer_bytes(layer, choice[layer.name], backend) for layer in layers)

    size, told = written(HELD)
    tried = [Candidate("fp16"), Candidate("int4", "round", 32), Candidate("int4", "round", "row")]
    for one in [*tried, *([Candidate("int8", outliers="apart")] if backend.outliers_apart else [])]:
        other, changed = written(one)
        assert abs((other - size) - (changed - told)) < within * size, one.label
        assert other != size
