"""KV caches and vocabularies of real models' shapes in the heap that an app gets on many phones, 256 MiB with direct buffers counted."""

import shutil

import pytest
from android.natives import checks
from phone_shapes import write_checkpoint

from firsttoken.bundle.manifest import read_manifest
from firsttoken.pipeline import export

pytestmark = pytest.mark.slow


def exported(name, folder):
    checkpoint = write_checkpoint(name, folder / "checkpoint")
    [made] = export(checkpoint, folder, plan="int8", targets=["tflite-compat"], prove=False)
    shutil.rmtree(checkpoint)
    return made


def cache_bytes(bundle, rows: int) -> int:
    bytes_of = {"float32": 4, "float16": 2}
    return sum(2 * rows * bytes_of[s.dtype] * s.shape[0] * s.shape[-1] for s in read_manifest(bundle).cpu.states)


def test_a_cache_larger_than_the_heap(x86, tmp_path):
    """Of SmolLM2-1.7B, all 24 layers' keys and values in FP32; it grows to 768 rows."""
    made = exported("SmolLM2-1.7B", tmp_path)
    assert cache_bytes(made, 768) > 256 << 20
    result = checks.compare_logits(x86, made, lengths=(520,), decoded=1, to_the_end=False)
    assert result.failures == [] and result.furthest < checks.bound(read_manifest(made))


def test_a_vocabulary_of_151936_tokens(x86, tmp_path):
    """Of Qwen2.5-1.5B, with all 28 layers' keys and values."""
    [said] = checks.answers(x86, exported("Qwen2.5-1.5B", tmp_path), ["Why is the sky blue?"], most=5)
    assert (said["phase"], said.get("error")) == ("DONE", None) and said["newTokens"] > 0
