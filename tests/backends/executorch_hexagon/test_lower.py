"""Lowering through ExecuTorch's Qualcomm backend, with a stand-in where Qualcomm's compiler would answer.

ExecuTorch's passes, partitioner, translation of every operator and program file are the real ones; only the library's
"yes" and the context's bytes are not.
"""

import json

import numpy as np
import pytest
from lowering_jobs import lowering_job

from firsttoken.backends.executorch_hexagon.lower import compiler_options, hand_over, offloaded
from firsttoken.backends.registry import open_target
from firsttoken.backends.tflite_hexagon.compile import check_offload
from firsttoken.backends.tflite_hexagon.npu_inputs import EmbeddingTable
from firsttoken.bundle.manifest import read_manifest
from firsttoken.errors import FirstTokenError
from firsttoken.pipeline import export
from firsttoken.prove.on_npu import prove_on_npu
from firsttoken.run.open import open_runner
from firsttoken.targets.target import load_target

TARGET = "executorch-hexagon-sm8550"
pytestmark = pytest.mark.slow  # ExecuTorch takes ten seconds for a graph


@pytest.fixture(scope="module")
def bundle(stand_in, short_target, tiny_model, tmp_path_factory):
    said = []
    [folder] = export(tiny_model, tmp_path_factory.mktemp("out"), targets=(short_target,), prove=False, say=said.append)
    return folder, said


@pytest.fixture(scope="module")
def decode_graph(tiny_model, short_target):
    """The decode graph alone: each one takes ExecuTorch many seconds."""
    import torch

    from firsttoken.backends.executorch_hexagon.ops import build_graphs
    from firsttoken.checkpoint import Checkpoint

    target = load_target(short_target)
    with Checkpoint(tiny_model) as checkpoint, torch.no_grad():
        return {"decode": build_graphs(lowering_job(checkpoint, "fp16-attention", target))["decode"]}, target


def test_the_whole_road(bundle, stand_in, tiny_model):
    folder, said = bundle
    manifest = read_manifest(folder)
    artifact, needs, npu = manifest.npu_artifact, manifest.npu_artifact.needs, manifest.npu_artifact.npu
    assert sorted(path.name for path in folder.iterdir()) == [
        "manifest.json",
        "model.npu.pte",
        "model.pte",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert (needs.soc, needs.hexagon, npu.compiled, needs.qnn, artifact.proof) == ("SM8550", "V73", "ahead", "2.37.0", None)
    names = ["first_8", "extend_8", "decode"]
    assert [graph.method for graph in npu.graphs] == [method.name for method in artifact.methods] == names == list(stand_in.graphs)
    for graph in npu.graphs:
        assert graph.offloaded == graph.operators > 100 and graph.partitions == 1 and graph.left == []
    assert b"a QNN context" in (folder / artifact.file).read_bytes(), "what the compiler wrote is in the file"
    assert any("its NPU artifact was not run" in line for line in said) and any("operators of 3 graphs on the NPU" in line for line in said)
    with pytest.raises(FirstTokenError, match="has no runtime for this machine"):
        prove_on_npu(folder, tiny_model)
    # everything else runs the CPU artifact
    runner = open_runner(folder, threads=1)
    assert np.isfinite(runner.prefill(np.arange(10))).all()
    runner.close()


def test_what_reaches_the_compiler(bundle, stand_in):
    """Products with int8 and FP16 weights and no quantized activation; nothing that Hexagon computes wrongly."""
    kinds = {name: [operator.GetOpType() for operator in operators] for name, operators in stand_in.graphs.items()}
    for name, found in kinds.items():
        assert found.count("FullyConnected") == 2 * 7 + 1, name  # every layer of the plan, and the head
        assert found.count("RmsNorm") == 2 * 2 + 1, name
        assert not {"ElementWiseCos", "ElementWiseSin", "ScatterNd", "ScatterElements", "Quantize", "Dequantize", "ReduceMean"} & set(
            found
        ), name


def test_the_embedding_is_found_in_the_pte(bundle, tiny_model):
    from firsttoken.checkpoint import Checkpoint

    folder, _ = bundle
    table = read_manifest(folder).npu_artifact.npu.embedding
    tokens = np.array([0, 7, 4095])
    with Checkpoint(tiny_model) as checkpoint:
        wanted = np.concatenate([checkpoint.rows("model.embed_tokens.weight", int(t), int(t) + 1) for t in tokens])
    step = np.abs(wanted).max(1, keepdims=True) / 127
    assert table.dtype == "int8" and (np.abs(EmbeddingTable(folder, table).rows(tokens) - wanted) <= 0.6 * step).all()


def test_an_operator_left_behind_is_named_with_layer_and_reason(stand_in, decode_graph, monkeypatch):
    graphs, target = decode_graph
    monkeypatch.setattr(stand_in, "refuses", frozenset({"Softmax"}))
    counted = offloaded(hand_over(graphs, target), ["decode"])
    assert counted[0].operators - counted[0].offloaded == 2 == len(counted[0].left) and counted[0].partitions > 1
    with pytest.raises(
        FirstTokenError, match=r"left behind: \S*softmax\S* layers\.0\.attention\S*: refused by QNN's validation.*allow_partial"
    ):
        check_offload(counted, target.npu.soc, False)


def test_a_compiler_that_fails_is_one_line(stand_in, decode_graph, monkeypatch):
    graphs, target = decode_graph
    monkeypatch.setattr(stand_in, "Compile", lambda self, names, operators: b"")
    with pytest.raises(FirstTokenError, match="compiling for SM8550 through ExecuTorch failed: Failed to generate Qnn context binary"):
        hand_over(graphs, target)


def test_options():
    from executorch.backends.qualcomm.serialization.qc_schema import HtpArch, QcomChipset, QnnExecuTorchHtpPrecision
    from executorch.backends.qualcomm.serialization.qc_schema_serialize import flatbuffer_to_option

    [specification] = compiler_options(load_target(TARGET))
    options = flatbuffer_to_option(specification.value)
    assert (options.soc_info.soc_model, options.soc_info.htp_info.htp_arch) == (QcomChipset.SM8550, HtpArch.V73)
    htp = options.backend_options.htp_options
    assert htp.precision == QnnExecuTorchHtpPrecision.kHtpFp16 and htp.use_weight_sharing and not options.online_prepare


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ("int8", "nearest: fp16"),
        ("int4-mlp", "int4 is not possible"),
        ("int4-npu", "int4 is not possible.*nearest: int8"),
        ("fp32", "fp32 is not possible"),
    ],
)
def test_plans_that_the_npu_cannot_do_are_refused(stand_in, plan, said, tiny_model, tmp_path):
    with pytest.raises(FirstTokenError, match=said):
        export(tiny_model, tmp_path / "out", plan, (TARGET,), prove=False)


def test_a_target_that_the_phone_compiles_is_not_executorchs(short_target, tmp_path):
    path = tmp_path / "phone.toml"
    path.write_text(short_target.read_text().replace('soc = "SM8550"', 'compile = "device"'))
    with pytest.raises(FirstTokenError, match="ahead of time only"):
        open_target(path)


def test_the_manifest_keeps_the_schema(bundle):
    import jsonschema

    from firsttoken.bundle.manifest import json_schema

    folder, _ = bundle
    jsonschema.validate(json.loads((folder / "manifest.json").read_text()), json.loads(json_schema()))
