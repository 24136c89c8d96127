"""Graphs for the GPU: what it gets wrong cannot be emitted, and what is emitted is what the rules know, in every plan that the target has."""

import gpu_operators as operators
import numpy as np
import pytest

from firsttoken.backends.gpu.ops import GpuOps
from firsttoken.backends.gpu.rules import wrong_in
from firsttoken.backends.litertlm.container import graphs_of
from firsttoken.backends.litertlm.ops import LmOps
from firsttoken.backends.registry import backend_of
from firsttoken.backends.tflite.audit import read_header
from firsttoken.backends.tflite.graph import Graph
from firsttoken.bundle.manifest import read_manifest
from firsttoken.errors import FirstTokenError
from firsttoken.pipeline import export
from firsttoken.targets.target import load_target


class Guarded(GpuOps):
    """The operators of `GpuOps` without a decoder."""

    def __init__(self, file, name):
        Graph.__init__(self, file, name)


@pytest.mark.parametrize("form", operators.WRONG, ids=lambda form: form.__name__)
def test_what_the_gpu_gets_wrong_cannot_be_emitted(form, tmp_path):
    with pytest.raises(AssertionError, match="main, one: not for the GPU: "):
        form(operators.Bench(tmp_path, Guarded))


@pytest.mark.parametrize("plan", ["fp32", "int8", "fp16-attention", "int4-npu"])
def test_every_graph_keeps_to_the_rules(gpu_bundle, plan):
    bundle = gpu_bundle(plan)
    model = read_header(graphs_of(bundle / "model.litertlm"))[0]
    assert len(model.subgraphs) == 3 and wrong_in(model) == {}
    for state in read_manifest(bundle).cpu.states:
        assert state.dtype == "float32" and state.shape[2] % 64 == 0, "no prime, which LiteRT-LM would replace"


def test_tables_hold_cos_and_sin_of_every_row(gpu_bundle):
    """Of float32 angles, as precise as float32 is."""
    section = graphs_of(gpu_bundle() / "model.litertlm")
    model = read_header(section)[0]
    manifest = read_manifest(gpu_bundle())
    [rotation] = manifest.rotations
    rows = manifest.cpu.states[0].shape[2]
    angles = np.arange(rows, dtype=np.float32)[:, None] * np.float32(rotation.inverse_frequencies)
    right = np.concatenate([np.cos(angles.astype(np.float64))] * 2, 1).astype(np.float32)
    stored = [np.asarray(buffer.data, np.uint8).tobytes() for buffer in model.buffers if buffer.data is not None and len(buffer.data)]
    assert stored.count(right.tobytes()) == 1, "one table for all graphs"


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("split", "SPLIT: not among"),
        ("_weighted", "BATCH_MATMUL: batches .* which broadcast"),
        ("embed", "GATHER: a table of INT8"),
        ("_cos_sin", "COS: not among"),
    ],
)
def test_a_form_that_is_forgotten_is_refused_while_it_is_built(tiny_model, tmp_path, monkeypatch, method, said):
    if method == "_weighted":
        monkeypatch.setattr(GpuOps, "_heads_of", LmOps._heads_of)
    monkeypatch.setattr(GpuOps, method, getattr(LmOps, method))
    with pytest.raises(AssertionError, match=said):
        export(tiny_model, tmp_path, "int8", ("litertlm-gpu",), prove=False, cache_length=120)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("method", "said"), [("split", "SPLIT"), ("embed", "GATHER: a table of INT8")])
def test_and_in_the_written_file(tiny_model, tmp_path, monkeypatch, method, said):
    """As if the check while building were not there."""
    monkeypatch.setattr(GpuOps, "operator_many", LmOps.operator_many)
    monkeypatch.setattr(GpuOps, method, getattr(LmOps, method))
    with pytest.raises(FirstTokenError, match=rf"graph 'prefill_16', operator \d+ .* is not for the GPU: {said}"):
        export(tiny_model, tmp_path, "int8", ("litertlm-gpu",), cache_length=120)


@pytest.mark.parametrize(
    ("plan", "said"),
    [("fp16", "cannot give 'embedding' fp16|fp16 is not possible"), ("int4", "group"), ("int4-gptq", "group")],
)
def test_plans_that_the_gpu_cannot_have_are_refused(tiny_model, tmp_path, plan, said):
    with pytest.raises(FirstTokenError, match=said):
        export(tiny_model, tmp_path, plan, ("litertlm-gpu",), prove=False, cache_length=120)


def test_a_target_without_lengths_is_refused(tmp_path):
    text = (operators.Path(__file__).parents[3] / "export" / "litertlm-gpu.toml").read_text()
    other = tmp_path / "other.toml"
    other.write_text("".join(line for line in text.splitlines(True) if not line.startswith("prefill_lengths")))
    with pytest.raises(FirstTokenError, match="a GPU takes fixed lengths; give prefill_lengths"):
        backend_of(load_target(other))
