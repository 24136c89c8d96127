"""One bundle for CPU, NPU and GPU: each artifact is what the targets for one of them give."""

import pytest

from firsttoken.bundle.manifest import read_manifest
from firsttoken.pipeline import export

LENGTH = 160


@pytest.mark.slow
def test_each_artifact_is_that_of_its_own_target(hexagon_libraries, tiny_model, tmp_path):
    names = ("tflite-hexagon-gpu-sm8650", "tflite-hexagon-sm8650", "tflite-gpu", "tflite-xnnpack")
    folders = export(tiny_model, tmp_path, "fp16-attention-core", names, prove=False, cache_length=LENGTH)
    together, npu, gpu, cpu = (read_manifest(folder) for folder in folders)
    assert [artifact.backend for artifact in together.artifacts] == ["tflite-xnnpack", "tflite-hexagon", "tflite-gpu"]
    assert [(artifact.needs.soc, artifact.needs.accelerator) for artifact in together.artifacts] == [
        (None, None),
        ("SM8650", None),
        (None, "gpu"),
    ]
    assert together.facts(together.cpu) == cpu.facts(cpu.cpu)
    assert together.facts(together.gpu_artifact) == gpu.facts(gpu.gpu_artifact) and together.gpu_artifact.gpu == gpu.gpu_artifact.gpu
    assert together.npu_artifact.npu.source_sha256 == npu.npu_artifact.npu.source_sha256
