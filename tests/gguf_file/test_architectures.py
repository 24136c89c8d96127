"""Metadata as a config.json: what is understood, and what is refused by name because it may change what the model computes."""

import gguf
import numpy as np
import pytest
from families_on_disk import random_model
from gguf_writer import rope_divisors, write_model

from firsttoken.decoder.rope import Config, rope_from_config
from firsttoken.errors import FirstTokenError
from firsttoken.gguf_file.architectures import ARCHITECTURES, configuration
from firsttoken.gguf_file.checkpoint import GgufCheckpoint
from firsttoken.gguf_file.header import read_header


def written(tmp_path, extra, case="qwen2", **changes):
    return write_model(tmp_path / "model.gguf", random_model(case, **changes), extra=extra)


def test_every_architecture_is_a_family():
    from firsttoken.decoder.families import family_names

    assert {architecture.model_type for architecture in ARCHITECTURES.values()} <= set(family_names())


@pytest.mark.parametrize(
    ("key", "add", "said"),
    [
        (
            "qwen2.attention.sliding_window",
            lambda w: w.add_sliding_window(64),
            "'qwen2.attention.sliding_window' is 64, which firsttoken does not know",
        ),
        ("qwen2.logit_scale", lambda w: w.add_logit_scale(2.0), "'qwen2.logit_scale' is 2.0, which firsttoken does not know"),
        ("qwen2.final_logit_softcapping", lambda w: w.add_final_logit_softcapping(30.0), "final_logit_softcapping"),
        ("qwen2.expert_count", lambda w: w.add_expert_count(8), "'qwen2.expert_count' is 8"),
        (
            "qwen2.rope.scaling.type",
            lambda w: w.add_rope_scaling_type(gguf.RopeScalingType.LONGROPE),
            "expected 'none', 'linear' or 'yarn'",
        ),
        ("qwen2.rope.scaling.factor", lambda w: w.add_rope_scaling_factor(4.0), "'linear' or 'yarn' beside a factor"),
        ("qwen2.vocab_size", lambda w: w.add_vocab_size(77), "'qwen2.vocab_size' is 77; expected 131"),
        ("qwen2.rope.dimension_count", lambda w: w.add_rope_dimension_count(8), "'qwen2.rope.dimension_count' is 8; expected 16"),
        ("qwen2.attention.causal", lambda w: w.add_causal_attention(False), "expected a model whose positions see only"),
        ("split.count", lambda w: w.add_uint16("split.count", 3), "is one of 3 parts; join them"),
        ("tokenizer.ggml.precompiled_charsmap", lambda w: w.add_precompiled_charsmap(b"abc"), "may change how text is cut"),
    ],
)
def test_what_may_change_the_arithmetic_is_refused(tmp_path, key, add, said):
    with pytest.raises(FirstTokenError, match=said):
        GgufCheckpoint(written(tmp_path, add))


def test_what_says_nothing_is_let_pass(tmp_path):
    def extra(writer):
        writer.add_name("A model")
        writer.add_logit_scale(0.0)
        writer.add_expert_count(0)
        writer.add_uint32("quantize.imatrix.entries_count", 3)

    GgufCheckpoint(written(tmp_path, extra))


def test_other_architectures_and_tensors_without_a_place(tmp_path):
    path = written(tmp_path, lambda writer: writer.add_tensor("blk.0.ssm_in.weight", np.ones((2, 2), np.float32)))
    with pytest.raises(FirstTokenError, match="'blk.0.ssm_in.weight' has no place in a qwen2 decoder"):
        GgufCheckpoint(path)
    raw = path.read_bytes().replace(b"\x05\0\0\0\0\0\0\0qwen2\x12", b"\x05\0\0\0\0\0\0\0qwen9\x12", 1)
    place = raw.index(b"general.architecture") + len("general.architecture") + 4 + 8
    (tmp_path / "other.gguf").write_bytes(raw[:place] + b"qwen9" + raw[place + 5 :])
    with pytest.raises(FirstTokenError, match="'qwen9', which is not supported.*did you mean 'qwen.'"):
        GgufCheckpoint(tmp_path / "other.gguf")


def test_a_file_without_what_every_file_has(tmp_path):
    path = written(tmp_path, lambda writer: None)
    raw = path.read_bytes()
    (tmp_path / "other.gguf").write_bytes(raw.replace(b"qwen2.block_count", b"general.block_cnt"))
    with pytest.raises(FirstTokenError, match="'qwen2.block_count' is missing"):
        GgufCheckpoint(tmp_path / "other.gguf")


@pytest.mark.parametrize(("kind", "expected"), [("linear", "linear"), ("yarn", "yarn")])
def test_rope_scaling(tmp_path, kind, expected):
    def extra(writer):
        writer.add_rope_scaling_type(gguf.RopeScalingType(kind))
        writer.add_rope_scaling_factor(4.0)
        writer.add_rope_scaling_orig_ctx_len(64)

    path = written(tmp_path, extra)
    found = configuration(path, read_header(path))["rope_scaling"]
    assert found["rope_type"] == expected and found["factor"] == 4.0
    assert found.get("original_max_position_embeddings") == (64 if kind == "yarn" else None)


LLAMA3 = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}  # fmt: skip


def test_llama3s_frequencies_are_found_again_or_refused(tmp_path):
    model = random_model("llama3", hidden_size=256, head_dim=64, rope_parameters=LLAMA3)
    path = write_model(tmp_path / "model.gguf", model)
    config = configuration(path, read_header(path))
    wanted = rope_from_config(Config({"rope_parameters": LLAMA3}), 64, 256)
    assert rope_from_config(Config(config), 64, 256) == wanted
    place = read_header(path).tensors["rope_freqs.weight"]
    for changed in (rope_divisors(500000.0, 64) * 1.01, rope_divisors(400000.0, 64), np.full(32, np.nan), np.zeros(32)):
        with open(path, "r+b") as stream:
            stream.seek(place.offset)
            stream.write(np.asarray(changed, np.float32).tobytes())
        with pytest.raises(FirstTokenError, match="'rope_freqs.weight' holds rotation frequencies that are not Llama 3's"):
            GgufCheckpoint(path)
