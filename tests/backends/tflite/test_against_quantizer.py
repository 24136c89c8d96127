"""INT8 and INT4 weights and scales must be those of ai-edge-quantizer for the same layer."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from lowering_jobs import lowering_job

from firsttoken.backends.tflite.audit import _single, read_header
from firsttoken.backends.tflite.lower import lower_decoder
from firsttoken.backends.tflite.row_scales import pack
from firsttoken.checkpoint import Checkpoint
from firsttoken.quant.plan import load_plan


def lowered(checkpoint, plan_name, path):
    plan = load_plan(plan_name.removesuffix(" rows"))
    if plan_name.endswith(" rows"):
        rules = [rule.model_copy(update={"group": "row"}) if rule.precision == "int4" else rule for rule in plan.rules]
        plan = plan.model_copy(update={"rules": tuple(rules)})
    with Checkpoint(checkpoint) as opened:
        lower_decoder(lowering_job(opened, plan, "tflite-xnnpack", cache_length=64), path)
    return path


def first_graph_alone(path):
    """The quantizer wants unique tensor names and buffers inside the flatbuffer: one graph, weights inlined."""
    model, _ = read_header(path)
    raw = path.read_bytes()
    for buffer in model.buffers:
        if buffer.offset and buffer.offset > 1:
            buffer.data = np.frombuffer(raw[buffer.offset : buffer.offset + buffer.size], np.uint8)
            buffer.offset = buffer.size = 0
    return bytes(pack(_single(model, model.signatureDefs[0])))


def quantized_tensors(raw: bytes, file: bytes | None = None):
    """Returns name -> (bytes, scales) of every integer weight with quantization parameters in the first graph."""
    model = schema.ModelT.InitFromPackedBuf(raw, 0)

    def content(index):
        buffer = model.buffers[index]
        return file[buffer.offset : buffer.offset + buffer.size] if buffer.offset else bytes(buffer.data)

    found, tensors = {}, model.subgraphs[0].tensors
    for tensor in tensors:
        parameters = tensor.quantization
        if tensor.type not in (schema.TensorType.INT8, schema.TensorType.INT4) or parameters is None:
            continue
        if parameters.details is not None:
            scales = np.frombuffer(content(tensors[parameters.details.scales].buffer), np.float16)
        elif parameters.scale is not None:
            scales = np.asarray(parameters.scale, np.float32)
        else:
            continue
        found[tensor.name.decode()] = (content(tensor.buffer), scales)
    return found


@pytest.mark.parametrize(
    "plan, recipe_name", [("int8", "dynamic_wi8_afp32"), ("int4", "dynamic_wi4b32_afp32"), ("int4 rows", "dynamic_wi4_afp32")]
)
def test_weights_and_scales_equal_the_quantizers(untied_checkpoint, tmp_path, plan, recipe_name):
    from ai_edge_quantizer import quantizer, recipe

    alone = tmp_path / "alone.tflite"
    alone.write_bytes(first_graph_alone(lowered(untied_checkpoint, "fp32", tmp_path / "fp32.tflite")))
    tool = quantizer.Quantizer(str(alone))
    tool.load_quantization_recipe(getattr(recipe, recipe_name)())
    theirs = quantized_tensors(bytes(tool.quantize().quantized_model))
    path = lowered(untied_checkpoint, plan, tmp_path / "ours.tflite")
    ours = quantized_tensors(path.read_bytes(), path.read_bytes())
    compared = [name for name in ours if name in theirs and (plan == "int8" or name != "head")]  # which the plan int4 has in INT8
    assert len(compared) == 2 * 7 + (plan == "int8")  # seven matrices a layer and the head
    for name in compared:
        assert ours[name][0] == theirs[name][0], f"{name}: other weights"
        assert np.array_equal(ours[name][1].ravel(), theirs[name][1].ravel()), f"{name}: other scales"
