"""A file over 2 GiB: offsets past 32 bits, written in little memory, loaded and right."""

import json
import struct
import subprocess
import sys

import numpy as np
import pytest

from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.walk import open_decoder
from firsttoken.prove.reference import reference_logits

HIDDEN, VOCAB, MLP = 1024, 270_000, 512
LOWER = """
import sys
from pathlib import Path
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.walk import open_decoder, plan_layers
from firsttoken.targets.target import load_target
from firsttoken.backends.tflite.lower import lower
from firsttoken.quant.plan import load_plan
source, target, plan = Checkpoint(sys.argv[1]), load_target("tflite-xnnpack", cache_length=64), load_plan("fp32")
config = open_decoder(source)
lower(source, config, plan, target, plan.resolve(plan_layers(config), target), Path(sys.argv[2]))
# Not ru_maxrss, which remembers the size of the process that started this one.
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def write_checkpoint(folder):
    """Writes bf16 weights block by block: a block of random rows, repeated with another factor each time."""
    config = {
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "num_hidden_layers": 1,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "intermediate_size": MLP,
        "vocab_size": VOCAB,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
        "max_position_embeddings": 128,
    }
    layer = "model.layers.0."
    shapes = {
        "model.embed_tokens.weight": (VOCAB, HIDDEN),
        "lm_head.weight": (VOCAB, HIDDEN),
        "model.norm.weight": (HIDDEN,),
        layer + "input_layernorm.weight": (HIDDEN,),
        layer + "post_attention_layernorm.weight": (HIDDEN,),
        layer + "self_attn.q_proj.weight": (HIDDEN, HIDDEN),
        layer + "self_attn.k_proj.weight": (256, HIDDEN),
        layer + "self_attn.v_proj.weight": (256, HIDDEN),
        layer + "self_attn.o_proj.weight": (HIDDEN, HIDDEN),
        layer + "mlp.gate_proj.weight": (MLP, HIDDEN),
        layer + "mlp.up_proj.weight": (MLP, HIDDEN),
        layer + "mlp.down_proj.weight": (HIDDEN, MLP),
    }
    header, offset = {}, 0
    for name, shape in shapes.items():
        end = offset + 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, end]}
        offset = end
    (folder / "config.json").write_text(json.dumps(config))
    raw = json.dumps(header).encode()
    block = np.random.default_rng(0).normal(size=1 << 20).astype(np.float32) * 0.05
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        for n, shape in enumerate(shapes.values()):
            left, factor = int(np.prod(shape)), 1.0
            while left:
                values = block[: min(left, block.size)] * np.float32(factor) + (1 if len(shape) == 1 else 0)
                file.write((values.view(np.uint32) >> 16).astype(np.uint16).tobytes())
                left -= len(values)
                factor = 0.5 + (factor * 1.7 + 0.1 * n) % 1


@pytest.mark.slow
def test_file_over_two_gib(tmp_path):
    from tflite_fixtures import open_lowered, relative_error

    source, artifact = tmp_path / "checkpoint", tmp_path / "model.tflite"
    source.mkdir()
    write_checkpoint(source)
    done = subprocess.run([sys.executable, "-c", LOWER, str(source), str(artifact)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert artifact.stat().st_size > 2**31
    assert int(done.stdout) < 250_000, "peak resident memory in KiB must not follow the weights"
    tokens = [5, 200_000, 269_999, 1, 131_072]
    with Checkpoint(source) as checkpoint:
        expected = reference_logits(checkpoint, open_decoder(checkpoint), [np.array(tokens)], [[3, 4]])[0]
    runner = open_lowered(source, artifact, "fp32", "tflite-xnnpack", cache_length=64)
    try:
        assert relative_error(runner.prefill(tokens[:4]), expected[0]) < 1e-4
        assert relative_error(runner.decode(tokens[4]), expected[1]) < 1e-4
    finally:
        runner.close()
        artifact.unlink()
