"""A GGUF file read as a checkpoint: the weights, configuration and fingerprint of what it was converted from."""

import shutil
import tracemalloc

import gguf
import numpy as np
import pytest
from families_on_disk import random_model
from gguf_writer import add_tensor, add_words, byte_level_words, finish, random_blocks, write_model

from firsttoken.decoder.families import describe
from firsttoken.decoder.walk import open_decoder
from firsttoken.errors import FirstTokenError
from firsttoken.gguf_file.checkpoint import GgufCheckpoint
from firsttoken.gguf_file.header import read_header
from firsttoken.tokenizer import Tokenizer
from firsttoken.weight_source import Source

LLAMA3 = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}  # fmt: skip
CASES = {
    "llama2": {},
    "llama-biases": {},
    "llama-head-dim": {},
    "llama3": {"head_dim": 64, "rope_parameters": LLAMA3},
    "smollm": {},
    "qwen2": {},
    "qwen2-untied": {},
    "qwen3": {},
    "qwen3-bias": {},
    "smollm3": {"no_rope_layers": [1, 1, 1, 0] * 2},  # as every SmolLM3: llama.cpp has it in its code
    "arcee": {},
    "granite": {},
    "olmo2": {},
    "gemma": {},
    "gemma2": {"query_pre_attn_scalar": 24, "layer_types": ["sliding_attention", "full_attention"] * 4},
    "gemma3": {"query_pre_attn_scalar": 24, "layer_types": ["sliding_attention"] * 5 + ["full_attention"] + ["sliding_attention"] * 2},
}


@pytest.mark.parametrize(("case", "changes"), CASES.items(), ids=CASES)
def test_a_converted_model_comes_back(tmp_path, case, changes):
    """Names and order of rows are the gguf package's; every tensor is bit for bit the model's, and the decoder is described alike."""
    model = random_model(case, **changes)
    with GgufCheckpoint(write_model(tmp_path / "model.gguf", model)) as checkpoint:
        state = {name: weight.numpy() for name, weight in model.state_dict().items()}
        if model.config.tie_word_embeddings:
            del state["lm_head.weight"]
        assert checkpoint.tensors.keys() == state.keys()
        for name, weight in state.items():
            read = checkpoint.rows(name).reshape(weight.shape)
            if case.startswith("gemma") and name.endswith("norm.weight"):  # stored plus 1, in FP32
                assert np.abs(read - weight).max() < 2e-7, name
            else:
                assert np.array_equal(read, weight), name
        assert open_decoder(checkpoint) == describe(model.config.to_dict())
        assert Tokenizer(checkpoint.folder).vocab_size == len(byte_level_words()["tokens"])
        assert checkpoint.name == "model" and checkpoint.note is None


def test_rows_of_heads_come_alone(tmp_path):
    model = random_model("llama3", hidden_size=256, head_dim=64)
    with GgufCheckpoint(write_model(tmp_path / "model.gguf", model, {"q_proj.weight": "Q8_0"})) as checkpoint:
        name = "model.layers.1.self_attn.q_proj.weight"
        whole = checkpoint.rows(name)
        for start, stop in ((0, 1), (31, 33), (60, 70), (100, 256), (5, 5)):
            assert np.array_equal(checkpoint.rows(name, start, stop), whole[start:stop])


QUANTIZED = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "F16", "BF16")


@pytest.mark.parametrize("kind", QUANTIZED)
def test_quantized_tensors_are_what_the_package_makes_of_them(tmp_path, kind):
    model = random_model("qwen2", hidden_size=128)
    number = gguf.GGMLQuantizationType[kind]
    with GgufCheckpoint(write_model(tmp_path / "model.gguf", model, {"gate_proj.weight": kind})) as checkpoint:
        name = "model.layers.0.mlp.gate_proj.weight"
        stored = gguf.quants.quantize(model.state_dict()[name].numpy(), number)
        expected = gguf.quants.dequantize(stored, number).astype(np.float32)
        assert checkpoint.stored(name).dtype == kind and checkpoint.stored(name).shape == (96, 128)
        assert np.array_equal(checkpoint.rows(name), expected)
        assert np.array_equal(checkpoint.rows(name, 3, 20), expected[3:20])
        assert (checkpoint.note is None) == (kind in ("F16", "BF16"))


@pytest.fixture
def k_quants(tmp_path):
    """A Llama of one layer whose matrices are each in another K-quant, as in a Q4_K_M file; with the blocks by their names in it."""
    writer = gguf.GGUFWriter(tmp_path / "model-Q4_K_M.gguf", "llama")
    writer.add_block_count(1)
    writer.add_context_length(128)
    writer.add_embedding_length(256)
    writer.add_feed_forward_length(512)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    kinds = {"token_embd": ("Q6_K", 300, 256), "blk.0.attn_q": ("Q4_K", 256, 256), "blk.0.attn_k": ("Q5_K", 128, 256)}
    kinds |= {"blk.0.attn_v": ("Q6_K", 128, 256), "blk.0.attn_output": ("Q4_K", 256, 256), "blk.0.ffn_gate": ("Q3_K", 512, 256)}
    kinds |= {"blk.0.ffn_up": ("Q2_K", 512, 256), "blk.0.ffn_down": ("Q5_K", 256, 512)}
    made = {}
    for name, (kind, rows, columns) in kinds.items():
        made[name] = kind, random_blocks(kind, rows, columns, len(made))
        writer.add_tensor(f"{name}.weight", made[name][1], raw_dtype=gguf.GGMLQuantizationType[kind])
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        add_tensor(writer, f"{name}.weight", np.ones(256, np.float32), "F32")
    add_words(writer, byte_level_words())
    return finish(writer, tmp_path / "model-Q4_K_M.gguf"), made


def test_k_quants(k_quants):
    path, made = k_quants
    with GgufCheckpoint(path) as checkpoint:
        open_decoder(checkpoint)
        for given, name in (("blk.0.ffn_gate", "mlp.gate_proj"), ("blk.0.ffn_up", "mlp.up_proj"), ("blk.0.attn_v", "self_attn.v_proj")):
            kind, blocks = made[given]
            expected = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[kind])
            assert np.array_equal(checkpoint.rows(f"model.layers.0.{name}.weight"), expected)
        kind, blocks = made["blk.0.attn_k"]
        values = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[kind])
        undone = values.reshape(2, 32, 2, 256).swapaxes(1, 2).reshape(128, 256)
        assert np.array_equal(checkpoint.rows("model.layers.0.self_attn.k_proj.weight", 10, 90), undone[10:90])
        assert "Q4_K" in checkpoint.note and "not against the original" in checkpoint.note


def test_memory_is_a_block_of_rows(tmp_path):
    """A table of 32 MiB in Q8_0 (120 MiB in float32), 1000 rows at a time: 4 MiB of values, and what dequantizing them takes."""
    model = random_model("qwen2", hidden_size=1024, num_attention_heads=4, vocab_size=30_720, num_hidden_layers=1)
    path = write_model(tmp_path / "model.gguf", model, {"embed_tokens.weight": "Q8_0"})
    del model
    with GgufCheckpoint(path) as checkpoint:
        checkpoint.rows("model.embed_tokens.weight", 0, 1)
        tracemalloc.start()
        for start in range(0, 30_720, 1024):
            checkpoint.rows("model.embed_tokens.weight", start, start + 1024)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 24 << 20, f"{peak / 2**20:.0f} MiB"


def test_the_fingerprint_follows_blocks_and_metadata(tmp_path):
    path = write_model(tmp_path / "a.gguf", random_model("qwen2"))
    first = GgufCheckpoint(path).fingerprint()
    copy = shutil.copy(path, tmp_path / "b.gguf")
    assert GgufCheckpoint(copy).fingerprint() == first
    place = read_header(path).tensors["blk.1.ffn_down.weight"]
    with open(copy, "r+b") as stream:
        stream.seek(place.offset + place.length - 4)
        stream.write(np.float32(0.123).tobytes())
    assert GgufCheckpoint(copy).fingerprint() != first
    other = write_model(tmp_path / "c.gguf", random_model("qwen2", rms_norm_eps=1e-5))
    assert GgufCheckpoint(other).fingerprint() != first


def test_damaged_scales_are_told_when_they_are_read(tmp_path):
    path = write_model(tmp_path / "model.gguf", random_model("qwen2"), {"down_proj.weight": "Q8_0"})
    place = read_header(path).tensors["blk.0.ffn_down.weight"]
    with open(path, "r+b") as stream:
        stream.seek(place.offset)
        stream.write(np.float16(np.inf).tobytes())
    with (
        GgufCheckpoint(path) as checkpoint,
        pytest.raises(FirstTokenError, match="'model.layers.0.mlp.down_proj.weight' holds NaN or infinite"),
    ):
        checkpoint.rows("model.layers.0.mlp.down_proj.weight")


def test_words_are_rebuilt_once_and_again_when_gone(tmp_path):
    path = write_model(tmp_path / "model.gguf", random_model("qwen2"))
    folder = GgufCheckpoint(path).folder
    before = (folder / "tokenizer.json").stat().st_mtime_ns
    assert GgufCheckpoint(path).folder == folder and (folder / "tokenizer.json").stat().st_mtime_ns == before
    shutil.rmtree(folder)
    assert (GgufCheckpoint(path).folder / "tokenizer.json").exists()
    words = byte_level_words()
    other = write_model(tmp_path / "other.gguf", random_model("qwen2"), words=words | {"eos": 1})
    assert GgufCheckpoint(other).folder != folder


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    path = write_model(tmp_path / "model.gguf", random_model("qwen2"))
    (tmp_path / "cache").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(FirstTokenError, match="set XDG_CACHE_HOME"):
        GgufCheckpoint(path)


@pytest.mark.parametrize(("kind", "precision"), [("Q4_0", "int4"), ("Q8_0", "int8"), ("Q4_1", None), ("F16", None)])
def test_blocks_of_integers_are_a_lattice_in_transformers_order(tmp_path, kind, precision):
    """Scales come in the order of the rows, which llama.cpp's converter changes in queries and keys."""
    model = random_model("llama3", hidden_size=256, head_dim=64)
    with GgufCheckpoint(write_model(tmp_path / "model.gguf", model, {"q_proj.weight": kind})) as checkpoint:
        source = Source("model.layers.1.self_attn.q_proj.weight")
        lattice = checkpoint.lattice(source)
        assert (lattice and (lattice.precision, lattice.group, lattice.form)) == (precision and (precision, 32, f"GGUF {kind}"))
        if precision is not None:
            scales = checkpoint.stored_scales(source)
            integers = checkpoint.rows(source).reshape(*scales.shape, 32) / scales[:, :, None]
            most = {"int4": 8, "int8": 127}[precision]
            assert np.abs(integers - np.rint(integers)).max() < 1e-3 and np.abs(integers).max() == pytest.approx(most)
            assert (scales < 0).any() == (kind == "Q4_0")  # where the largest weight is positive
            assert np.array_equal(checkpoint.stored_scales(source, 31, 70), scales[31:70])
