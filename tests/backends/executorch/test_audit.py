"""The .pte audit: it says what the plan asked where that is so, and notices where it is not."""

import pytest
import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import to_edge_transform_and_lower
from executorch_fixtures import Lowerings
from lowering_jobs import with_precisions
from torch import nn

from firsttoken.backends.executorch import lower as lowering
from firsttoken.backends.executorch.audit import audit, computed_in
from firsttoken.backends.executorch.program_file import read_steps
from firsttoken.backends.registry import find_backend, resolve
from firsttoken.decoder.walk import plan_layers
from firsttoken.errors import FirstTokenError
from firsttoken.precisions import without_group
from firsttoken.prove.gate import missed_structure
from firsttoken.quant.plan import Plan, plan_names

BACKEND = find_backend("executorch-xnnpack")


@pytest.mark.parametrize(
    "plan",
    [
        "int8",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in (*plan_names(), "mixed")
            if name not in ("int8", "int4-gptq", "int4-npu", "as-stored")
        ),
    ],
)
def test_rows_equal_the_plan(plan, lowerings):
    path, _, precisions = lowerings.lower(plan)
    rows = audit(path, lowerings.config, precisions)
    assert [row.layer for row in rows] == [layer.name for layer in plan_layers(lowerings.config)]
    for row in rows:
        assert (row.stored, row.asked) == (precisions[row.layer],) * 2
        assert row.delegated == (row.layer != "embedding")
        assert row.computed == ("fp32" if row.layer == "embedding" else without_group(precisions[row.layer]))
    assert missed_structure(rows, precisions, BACKEND) == []


# One layer of each kind shows how it is stored; that many compute right is test_families' to show.
FEWER_LAYERS = {
    "gemma3": {"num_hidden_layers": 2, "layer_types": ["sliding_attention", "full_attention"]},
    "gemma4": {"num_hidden_layers": 4, "layer_types": ["sliding_attention", "full_attention"] * 2, "num_kv_shared_layers": 2},
    "lfm2-ends-attentive": {"num_hidden_layers": 2, "full_attn_idxs": [1]},
    "lfm2_moe": {"num_hidden_layers": 4, "num_dense_layers": 2, "layer_types": ["conv", "full_attention"] * 2},
    "qwen3_moe": {"num_hidden_layers": 2},
    "qwen3_5": {"num_hidden_layers": 2, "layer_types": ["linear_attention", "full_attention"]},
    "qwen3_5-ends-recurrent": {"num_hidden_layers": 2, "layer_types": ["full_attention", "linear_attention"]},
}


@pytest.mark.slow
@pytest.mark.parametrize("case, plan", [
    ("qwen3-bias", "fp16-attention"), ("qwen3-bias", "mixed"), ("llama-head-dim", "int8"), ("gemma3", "fp16-attention"), ("nemotron", "int8"),
    ("arcee", "int8"), ("gemma4", "fp16-attention"), ("lfm2-ends-attentive", "int8"), ("lfm2-ends-attentive", "fp16-attention"),
    ("qwen3_5-ends-recurrent", "int8"), ("qwen3_5", "fp16-attention"), ("gemma3n-own", "fp16-attention"),
    ("qwen3_moe", "int8"), ("lfm2_moe", "fp16-attention"),
])  # fmt: skip
def test_rows_of_other_families(case, plan, tmp_path):
    """q/k norms multiply by constants too; with head_dim 16 or 24 and 64 hidden these have other shapes. Caps, LayerNorm, an ungated MLP, convolutions,
    what chooses experts."""
    made = Lowerings(tmp_path, tmp_path / "checkpoint", case, FEWER_LAYERS.get(case, {}))
    path, _, precisions = made.lower(plan)
    assert missed_structure(audit(path, made.config, precisions), precisions, BACKEND) == []


def built_with(lowerings, tmp_path, monkeypatch, plan, **changed):
    """Lowers with other precisions than the plan's for some layers, past the check that would refuse it.

    Returns the rows that are not as asked, as ``{layer: (stored, computed, delegated)}``.
    """
    plain = lowering.build_module
    monkeypatch.setattr(lowering, "build_module", lambda job, *rest: plain(with_precisions(job, **changed), *rest))
    monkeypatch.setattr(lowering, "check_structure", lambda *_: None)
    path, _, precisions = lowerings.lower(plan, tmp_path / "model.pte")
    rows = audit(path, lowerings.config, precisions)
    wrong = [row for row in rows if missed_structure([row], {row.layer: row.asked}, BACKEND)]
    return {row.layer: (row.stored, row.computed, row.delegated) for row in wrong}


@pytest.mark.slow
def test_an_unquantized_layer_is_noticed(lowerings, tmp_path, monkeypatch):
    wrong = built_with(lowerings, tmp_path, monkeypatch, "int8", layers__1__mlp__up="fp32", layers__0__attention__v="fp16")
    assert wrong == {"layers.0.attention.v": ("fp16", "fp16", True), "layers.1.mlp.up": ("fp32", "fp32", True)}


@pytest.mark.slow
def test_another_group_is_noticed(lowerings, tmp_path, monkeypatch):
    plain = Plan.group
    changed = {"layers.0.attention.q": 64, "layers.1.mlp.up": 64, "layers.1.mlp.down": 96}
    monkeypatch.setattr(lowering, "check_structure", lambda *_: None)
    monkeypatch.setattr(Plan, "group", lambda self, layer, columns: changed.get(layer) or plain(self, layer, columns))
    path, manifest, _ = lowerings.lower("int4", tmp_path / "model.pte")
    monkeypatch.undo()
    asked = manifest.plan.written(plan_layers(lowerings.config), resolve(manifest.plan, lowerings.config, manifest.target))
    assert missed_structure(audit(path, lowerings.config, asked), asked, BACKEND) == [
        "layers.0.attention.q, layers.1.mlp.up, layers.1.mlp.down: asked int4/32, stored int4/row"
    ]


@pytest.mark.slow
def test_fp16_computed_in_fp32_is_noticed(lowerings, tmp_path, monkeypatch):
    changed = {"layers__1__attention__core": "fp32", "layers__0__attention__k": "fp32"}
    wrong = built_with(lowerings, tmp_path, monkeypatch, "fp16-attention", **changed)
    assert wrong == {"layers.0.attention.k": ("fp32", "fp32", True), "layers.1.attention.core": ("fp32", "fp32", True)}


@pytest.mark.slow
@pytest.mark.parametrize(
    "refused, named",
    [
        ("layers_0_attention_q", "layers.0.attention.q"), ("layers_1_mlp_down", "layers.1.mlp.down"),
        ("layers_1_mlp_gate", "layers.1.mlp.up"),
    ],
)  # fmt: skip
def test_an_undelegated_layer_is_noticed(refused, named, lowerings, tmp_path, monkeypatch):
    """Of gate and up, which have one shape, the later one is named."""
    from executorch.backends.xnnpack.partition.config.gemm_configs import LinearConfig
    from executorch.exir.program import _program

    plain = LinearConfig.check_constraints
    unless = lambda self, node, ep: refused not in str(node.args[1]) and plain(self, node, ep)  # noqa: E731
    monkeypatch.setattr(LinearConfig, "check_constraints", unless)
    monkeypatch.setattr(_program, "_sanity_check_graph_for_non_decomp_ops", lambda *_, **__: None)
    wrong = built_with(lowerings, tmp_path, monkeypatch, "fp32")
    assert wrong == {named: ("fp32", "fp32", False)}


@pytest.mark.slow
def test_another_models_file_is_refused(lowerings, tmp_path):
    path, _, precisions = lowerings.lower("fp32")
    larger = Lowerings(tmp_path, tmp_path / "checkpoint", "qwen3")
    with pytest.raises(FirstTokenError, match="it is not this model's program"):
        audit(path, larger.config, {layer.name: "fp32" for layer in plan_layers(larger.config)})
    (tmp_path / "text.pte").write_text("not a program" * 100)
    with pytest.raises(FirstTokenError, match="not a .pte"):
        audit(tmp_path / "text.pte", lowerings.config, precisions)


@pytest.mark.parametrize(
    "name, precision",
    [
        ("Fully Connected (NC, QDU8, F32, QC8W) GEMM #1", "int8"), ("Fully Connected (NC, QD8, F32, QB4W) GEMM #12", "int4"),
        ("Fully Connected (NC, F32, QC8W) GEMM #1", "fp32"), ("Fully Connected (NC, F16) GEMM #1", "fp16"),
        ("Batch Matrix Multiply (NC, F16) GEMM #2", "fp16"), ("Softmax (NC, F32) #1", "fp32"),
    ],
)  # fmt: skip
def test_kernel_names(name, precision):
    assert computed_in(name) == precision


@pytest.mark.slow
def test_a_relus_open_end_is_read(tmp_path):
    """ExecuTorch's decompiler writes its upper bound as ``inf``, which is no JSON."""
    program = torch.export.export(nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Sigmoid()).eval(), (torch.zeros(1, 8),))
    path = tmp_path / "model.pte"
    path.write_bytes(to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch().buffer)
    [product] = [product for step in read_steps(path) for product in step.products]
    assert product.kind == "XNNFullyConnected" and product.shape == (16, 8)
