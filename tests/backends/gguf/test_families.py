"""Every family that is written, in llama.cpp against transformers, and read again by our own reader, tensor by tensor."""

import numpy as np
import pytest
import torch
from gguf_fixtures import end_token, needs_llama_cpp, on_disk
from lowering_jobs import lowered_artifact

from firsttoken.backends.gguf.families import FAMILIES
from firsttoken.backends.registry import find_backend
from firsttoken.decoder.families import describe
from firsttoken.decoder.walk import open_decoder
from firsttoken.errors import FirstTokenError
from firsttoken.gguf_file.checkpoint import GgufCheckpoint

LLAMA3 = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}  # fmt: skip
LOCAL = ["sliding_attention", "full_attention"]
# Cases of families_on_disk with what makes them as llama.cpp has them in its code.
CASES = {
    "llama2": {},
    "llama3": {"head_dim": 64, "rope_parameters": LLAMA3},
    "llama-biases": {},
    "llama-head-dim": {},
    "llama-linear-rope": {},
    "smollm": {},
    "mistral": {},
    "qwen2": {},
    "qwen2-untied": {},
    "qwen2-yarn": {},
    "qwen3": {},
    "smollm3": {"no_rope_layers": [1, 1, 1, 0] * 2},
    "arcee": {},
    "granite": {},
    "granite-tied": {},
    "olmo2": {},
    "gemma": {},
    "gemma2": {"query_pre_attn_scalar": 24, "layer_types": LOCAL * 4},
    "gemma3": {"query_pre_attn_scalar": 24, "layer_types": ["sliding_attention"] * 5 + ["full_attention"] + ["sliding_attention"] * 2},
    "phi3": {"sliding_window": None},
}
# Architectures that our reader does not know, and a family that comes back as another.
UNREAD = {"ernie4_5": {}, "exaone4-small": {}, "granite4": {}}
OWN_PATTERN = ("gemma3", {"query_pre_attn_scalar": 24, "layer_types": LOCAL * 4})  # not the one in llama.cpp's code: the file says it
TARGET = {"target": "gguf", "cache_length": 128, "prefill_chunk": 48}


@pytest.fixture(scope="module")
def lowered(tmp_path_factory):
    """Each case once, in FP32: its model, its checkpoint folder, the job, the manifest and the file."""
    made = {}

    def lower(case: str, changes: dict):
        key = case, str(changes)
        if key not in made:
            folder = tmp_path_factory.mktemp(case)
            model, checkpoint = on_disk(case, folder / "checkpoint", **changes)
            made[key] = model, folder, *lowered_artifact(checkpoint, folder, "fp32", ends=[end_token()], **TARGET)
        return made[key]

    return lower


def test_a_case_of_every_family():
    from families_on_disk import configuration

    assert {configuration(case)["model_type"] for case in (*CASES, *UNREAD)} == set(FAMILIES)


@needs_llama_cpp
@pytest.mark.parametrize(("case", "changes"), [*CASES.items(), *UNREAD.items(), OWN_PATTERN], ids=[*CASES, *UNREAD, "gemma3-own-pattern"])
def test_llama_cpp_computes_what_transformers_does(lowered, case, changes):
    model, folder, job, manifest, artifact = lowered(case, changes)
    runner = find_backend("gguf-llamacpp").open_runner(folder, manifest, artifact, threads=1)
    tokens = np.random.default_rng(1).integers(0, job.decoder.vocab_size, 100)
    with torch.no_grad():
        expected = model(torch.from_numpy(tokens)[None]).logits[0].numpy()
    most = np.abs(expected).max() * (1e-3 if case.startswith("gemma") else 1e-4)  # its table of GELU is in float16
    assert np.abs(runner.prefill(tokens[:99]) - expected[98]).max() < most  # in chunks, over windows of 24
    assert np.abs(runner.decode(int(tokens[99])) - expected[99]).max() < most
    kept = runner.keep_prefix([*tokens[:60], 5, 6])
    assert kept == 60 and np.abs(runner.prefill(tokens[60:99]) - expected[98]).max() < most
    runner.close()


@pytest.mark.parametrize(("case", "changes"), CASES.items(), ids=CASES)
def test_our_own_reader_gives_the_checkpoint_back(lowered, case, changes):
    """Every tensor bit for bit (norms plus 1 in float32), and the decoder described alike."""
    model, folder, *_ = lowered(case, changes)
    with GgufCheckpoint(folder / "model.gguf") as checkpoint:
        state = {name: weight.numpy() for name, weight in model.state_dict().items()}
        if model.config.tie_word_embeddings:
            del state["lm_head.weight"]
        assert checkpoint.tensors.keys() == state.keys()
        for name, weight in state.items():
            read = checkpoint.rows(name).reshape(weight.shape)
            exact = not (case.startswith("gemma") and name.endswith("norm.weight"))
            assert np.array_equal(read, weight) if exact else np.abs(read - weight).max() < 2e-7, name
        config = model.config.to_dict() | ({"model_type": "llama"} if case == "mistral" else {})
        ours, theirs = (
            open_decoder(checkpoint),
            describe({key: value for key, value in config.items() if key != "sliding_window" or case != "mistral"}),
        )
        assert ours.layers == theirs.layers and ours.head == theirs.head and ours.norm == theirs.norm


@pytest.mark.parametrize(
    ("case", "changes", "said"),
    [
        ("cohere2", {}, "cohere2 is not written as GGUF.*llama, mistral, qwen2"),
        ("mistral-window", {}, r"'llama' has no sliding window, and this mistral has one of 24 tokens; give --cache-length 24 or less"),
        ("gemma2", {}, r"no place for scores times .* \(layers.0.attention.core\)"),
        ("smollm3", {}, r"no place for a layer without positions \(layers.1.attention\)"),
        ("phi4-mini", {}, r"'phi3' has no place for .*longrope|rotation"),
        ("gemma2", {"query_pre_attn_scalar": 24, "layer_types": LOCAL * 4, "attn_logit_softcapping": None}, "no place for scores or logits without a cap"),
        ("gemma2", {"query_pre_attn_scalar": 24, "layer_types": ["full_attention"] * 8}, "no place for layers of which none has a window"),
        ("gemma3", {"query_pre_attn_scalar": 24, "attn_logit_softcapping": 30.0}, "no place for a cap of 30 on scores"),
        ("qwen2", {"num_attention_heads": 2, "head_dim": 16}, "heads that together are 32 wide"),
        ("qwen3-bias", {}, r"no place for a bias \(layers.0.attention.q\)"),
        ("qwen2-yarn", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0, "original_max_position_embeddings": 64, "beta_slow": 0.25}}, "rotation frequencies of its own"),
    ],
)  # fmt: skip
def test_what_llama_cpp_would_compute_otherwise_is_refused_by_name(tmp_path, case, changes, said):
    from firsttoken.pipeline import export

    _, folder = on_disk(case, tmp_path / "checkpoint", **changes)
    with pytest.raises(FirstTokenError, match=said):
        export(folder, tmp_path / "out", "fp32", ("gguf",), prove=False, cache_length=128)
    assert not list((tmp_path / "out").glob("*")) if (tmp_path / "out").exists() else True


def test_without_a_token_that_ends_answers_it_is_refused(tmp_path):
    """llama.cpp would take token 11, often a comma, for one."""
    from firsttoken.pipeline import export

    _, folder = on_disk("qwen2", tmp_path / "checkpoint")
    with pytest.raises(FirstTokenError, match="no token ends an answer, and llama.cpp takes token 11 or 2 for one"):
        export(folder, tmp_path / "out", "fp32", ("gguf",), prove=False, cache_length=128, end_tokens=["none"])
    assert not list((tmp_path / "out").glob("*"))


def test_a_name_by_which_llama_cpp_chooses_other_rules_is_not_written(tmp_path):
    from gguf import GGUFReader

    _, folder = on_disk("qwen2", tmp_path / "my-Phi-3-student")
    lowered_artifact(folder, tmp_path, "fp32", ends=[end_token()], **TARGET)
    assert GGUFReader(tmp_path / "model.gguf").fields["general.name"].contents() == "my-model-student"
