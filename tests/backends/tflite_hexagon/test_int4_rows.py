"""INT4 with one scale a row on the NPU: what the compiler takes and refuses, how many bytes it stores, and that the numbers are the plan's."""

import numpy as np
import pytest
from lowering_jobs import lowering_job

from firsttoken.backends.registry import resolve
from firsttoken.backends.tflite import weights
from firsttoken.backends.tflite.audit import read_header
from firsttoken.backends.tflite.ops import TfliteOps
from firsttoken.backends.tflite_hexagon.compile import compile_for
from firsttoken.backends.tflite_hexagon.ops import HexagonOps
from firsttoken.backends.tflite_hexagon.source import write_source
from firsttoken.bundle.manifest import read_manifest
from firsttoken.checkpoint import Checkpoint
from firsttoken.declarations import declaration_folder
from firsttoken.decoder.walk import open_decoder, plan_layers
from firsttoken.demo import checkpoint_path
from firsttoken.errors import FirstTokenError
from firsttoken.pipeline import export
from firsttoken.prove import on_npu
from firsttoken.prove.on_npu import prove_on_npu
from firsttoken.quant.plan import load_plan
from firsttoken.targets.target import load_target

TARGET = "tflite-hexagon-sm8550"


@pytest.fixture(scope="module")
def rounded_plan(tmp_path_factory):
    """`int4-npu` with the nearest integers: the same graphs without the minutes of a calibration."""
    path = tmp_path_factory.mktemp("plan") / "int4-rows.toml"
    path.write_text((declaration_folder("quant") / "int4-npu.toml").read_text().replace('method = "gptq"\n', ""))
    return path


@pytest.fixture(scope="module")
def bundle(hexagon_bundle, rounded_plan):
    return hexagon_bundle(plan=rounded_plan)


def values_in(precision: str, precisions: dict[str, str], layers) -> int:
    return sum(int(np.prod(layer.shape)) for layer in layers if layer.kind == "linear" and precisions[layer.name] == precision)


def test_every_operator_is_taken_and_a_weight_is_half_a_byte(bundle, hexagon_bundle):
    """Against the same decoder with all of it INT8: what else the file holds is the same in both."""
    manifest, int8 = (read_manifest(folder) for folder in (bundle, hexagon_bundle(plan="fp16-attention-core")))
    for graph in manifest.npu_artifact.npu.graphs:
        assert graph.offloaded == graph.operators > 200 and graph.partitions == 1 and graph.left == []
    with Checkpoint(checkpoint_path()) as checkpoint:
        decoder = open_decoder(checkpoint)
    precisions = resolve(manifest.plan, decoder, manifest.target)
    count = values_in("int4", precisions, plan_layers(decoder))
    saved = int8.facts(int8.npu_artifact).bytes - manifest.facts(manifest.npu_artifact).bytes
    assert count > 2e6 and abs(1 - saved / count - 0.5) < 0.03, f"{1 - saved / count} bytes a weight"


def test_rows_are_packed_between_float16(rounded_plan, tmp_path):
    from ai_edge_litert import schema_py_generated as schema

    with Checkpoint(checkpoint_path()) as checkpoint:
        job = lowering_job(checkpoint, load_plan(rounded_plan), TARGET)
        write_source(job, tmp_path / "source.tflite")
    model, _ = read_header(tmp_path / "source.tflite")
    for graph in model.subgraphs:
        found = 0
        for operator in graph.operators:
            if model.operatorCodes[operator.opcodeIndex].builtinCode != schema.BuiltinOperator.FULLY_CONNECTED:
                continue
            x, weight, bias = (graph.tensors[n] if n >= 0 else None for n in operator.inputs)
            y = graph.tensors[operator.outputs[0]]
            if weight.type != schema.TensorType.INT4:
                continue
            found += 1
            assert {x.type, y.type} == {schema.TensorType.FLOAT16} and (bias is None or bias.type == schema.TensorType.FLOAT16)
            assert len(weight.quantization.scale) == weight.shape[0] and weight.quantization.details is None
            assert model.buffers[weight.buffer].size == int(np.prod(weight.shape)) // 2
        assert found == 6 * 4, "q, k, v, output, gate and up of four layers"


def test_between_float32_the_compiler_refuses_them(hexagon_libraries, rounded_plan, tmp_path, monkeypatch):
    """Why the graphs cast: the same file otherwise, and every such layer stays on the CPU."""
    monkeypatch.setattr(HexagonOps, "computes_in_fp16", TfliteOps.computes_in_fp16)
    with Checkpoint(checkpoint_path()) as checkpoint:
        write_source(lowering_job(checkpoint, load_plan(rounded_plan), TARGET, cache_length=160), tmp_path / "source.tflite")
    with pytest.raises(FirstTokenError, match=r"297 of 321 operators of 'first_32'.*left behind: FULLY_CONNECTED layers\.0\.attention"):
        compile_for(tmp_path / "source.tflite", tmp_path / "out.tflite", "SM8550", hexagon_libraries)


@pytest.mark.parametrize("target", ["tflite-hexagon-sm8450", "tflite-hexagon-sm8850", "tflite-hexagon-jit"])
def test_the_built_in_plan_is_possible(target):
    with Checkpoint(checkpoint_path()) as checkpoint:
        decoder = open_decoder(checkpoint)
    precisions = resolve(load_plan("int4-npu"), decoder, load_target(target))
    assert precisions["layers.0.mlp.gate"] == "int4" and precisions["layers.0.mlp.down"] == precisions["head"] == "int8"


@pytest.mark.slow
def test_the_numbers_are_the_plans(bundle, monkeypatch):
    """Run on the HTP backend: as near to its twin, INT4 rows between FP16 activations, as rounding explains."""
    monkeypatch.setattr(on_npu, "LARGE", 0)  # a stated sample of positions
    result = prove_on_npu(bundle, checkpoint_path())
    assert result.summary.twin.mean_kld <= result.summary.twin.allowed_kld and not result.summary.misses
    rows = {row.layer: row for row in result.audit}
    assert (rows["layers.3.mlp.up"].stored, rows["layers.3.mlp.up"].computed, rows["layers.3.mlp.up"].delegated) == (
        "int4/row",
        "fp16",
        True,
    )


@pytest.mark.slow
def test_swapped_halves_of_bytes_are_noticed(hexagon_libraries, rounded_plan, tmp_path, monkeypatch):
    """The compiler packs what it is given: only the numbers show that the earlier value is not in the low half."""
    plain = weights.quantize_int4

    def swapped(*arguments):
        packed, scales = plain(*arguments)
        return (packed >> 4) | (packed << 4), scales

    monkeypatch.setattr(weights, "quantize_int4", swapped)
    monkeypatch.setattr(on_npu, "LARGE", 0)
    [folder] = export(checkpoint_path(), tmp_path, rounded_plan, (TARGET,), prove=False, cache_length=160)
    misses = prove_on_npu(folder, checkpoint_path()).summary.misses
    assert any(miss.startswith("not built as the plan says: mean divergence") for miss in misses), misses


def test_weights_that_were_unpacked_are_noticed(bundle, monkeypatch):
    """A file as large as with a byte for each INT4 weight, beyond what a context holds besides, is not what the plan asks."""
    manifest = read_manifest(bundle)
    with Checkpoint(checkpoint_path()) as checkpoint:
        decoder = open_decoder(checkpoint)
    precisions = resolve(manifest.plan, decoder, manifest.target)
    monkeypatch.setattr(on_npu, "CONTEXT_BYTES", 2 << 20)
    assert on_npu.unpacked(manifest, decoder, precisions) == []
    manifest.files[manifest.npu_artifact.file].bytes += 2 * values_in("int4", precisions, plan_layers(decoder))
    assert "not stored as the plan asks" in on_npu.unpacked(manifest, decoder, precisions)[0]
