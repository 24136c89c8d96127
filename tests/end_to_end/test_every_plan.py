"""The demo checkpoint through every built-in plan and target: exported, proven, and about the size the plan promises."""

import pytest

from firsttoken.backends.gpu.device import is_set_up
from firsttoken.bundle.manifest import read_manifest
from firsttoken.demo import checkpoint_path
from firsttoken.errors import FirstTokenError
from firsttoken.pipeline import export
from firsttoken.quant.plan import plan_names
from firsttoken.targets.target import load_target, target_names

# Bytes per weight at most, embedding and scales and graph included; the .pte stores a tied head a second time.
MOST_BYTES = {
    "fp32": 4.2,
    "fp16": 2.1,
    "int8": 1.25,
    "int8-apart": 1.25,
    "fp16-attention": 1.45,
    "fp16-attention-core": 1.25,
    "int4-mlp": 1.15,
    "int4": 1.0,
    "int4-gptq": 1.0,
    "int4-npu": 1.0,
}


# Their graphs are litertlm-cpu's: what differs is lengths and the border.
SAME = ("as-stored",)  # for a checkpoint of floats as int8; what it is for: tests/quantized
FEW = {
    "litertlm-cpu-fixed": ("fp16-attention",),
    "tflite-interpreter": ("fp16-attention", "int8", "int4"),
    "litertlm-gpu": ("fp16-attention", "int4-npu"),  # on the CPU; on the GPU: tests/prove/test_on_gpu.py
    "gguf": (),  # tests/backends/gguf/test_proof.py, where llama.cpp is installed
    "onnx-cpu": ("fp16-attention", "int8-apart", "int4"),  # the others have no operators that these lack
    "tflite-gpu": ("int4-npu",),  # on both, where the software GPU is set up; its CPU artifact is tflite-xnnpack's
}
TABLES = {"litertlm-gpu": 800_000}  # bytes of cos and sin for 1472 rows
NO_OUTLIERS = ("onnx-cpu",)  # apart
STORED_FP32 = ("tflite-interpreter", "litertlm-gpu")  # their caches
ONLY = {
    "int4-npu": (
        "tflite-xnnpack",
        "tflite-compat",
        "litertlm-gpu",
        "tflite-gpu",
    ),  # where its artifact for the CPU comes from; rows of INT4 are other tests' too
}
CASES = [
    (plan, target)
    for plan in plan_names()
    if plan not in SAME
    for target in target_names()
    if load_target(target).npu is None
    and plan in FEW.get(target, plan_names())
    and target in ONLY.get(plan, target_names())  # the NPU's: tests/prove/test_on_npu.py
]


@pytest.mark.slow
@pytest.mark.parametrize(("plan", "target"), CASES)
def test_plan_on_target(plan, target, tmp_path):
    if target in ("tflite-compat", "tflite-interpreter") and plan.startswith("int4"):
        with pytest.raises(FirstTokenError, match=r"int4 is not possible .* \(nearest: int8\)"):
            export(checkpoint_path(), tmp_path, plan, (target,))
        assert list(tmp_path.iterdir()) == []
        return
    if target in NO_OUTLIERS and plan == "int8-apart":
        with pytest.raises(FirstTokenError, match="outliers"):
            export(checkpoint_path(), tmp_path, plan, (target,))
        assert list(tmp_path.iterdir()) == []
        return
    [folder] = export(checkpoint_path(), tmp_path, plan, (target,))
    manifest = read_manifest(folder)
    assert manifest.cpu.proof.passed and manifest.cpu.proof.all.tokens > 500
    if target == "tflite-gpu" and is_set_up():
        assert manifest.gpu_artifact.proof.passed and manifest.gpu_artifact.proof.all.tokens >= 40
    for row in manifest.cpu.audit:
        assert row.stored == ("fp32" if target in STORED_FP32 and row.layer.endswith(".core") else row.asked), row
    copies = 1.4 if target == "executorch-xnnpack" else 1.0
    most = copies * MOST_BYTES[plan] * manifest.checkpoint.parameters + TABLES.get(target, 0)
    assert manifest.facts(manifest.cpu).bytes <= manifest.size(manifest.cpu) < most


def test_same_plan_file_gives_the_same_layers_on_both_runtimes():
    from firsttoken.backends.registry import resolve
    from firsttoken.checkpoint import Checkpoint
    from firsttoken.decoder.walk import open_decoder
    from firsttoken.quant.plan import load_plan

    with Checkpoint(checkpoint_path()) as checkpoint:
        decoder = open_decoder(checkpoint)
    for plan in plan_names():
        resolved = [resolve(load_plan(plan), decoder, load_target(target)) for target in ("tflite-xnnpack", "executorch-xnnpack")]
        assert resolved[0] == resolved[1]
