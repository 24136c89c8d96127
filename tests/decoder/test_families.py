"""Our decoder against transformers on random weights of every family: prefill and token by token."""

import json

import pytest
import torch
from families_on_disk import CASES, LLAMA3_ROPE, YARN_ROPE, random_model, save

from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.block import Block
from firsttoken.decoder.families import open_decoder
from firsttoken.decoder.load import load_block, load_decoder
from firsttoken.decoder.rotary import Places, causal_mask
from firsttoken.prove.reference import embed, head

LENGTH = 100  # longer than the original context of the yarn and llama3 cases, where the scaling shows
BOUND = 1e-4


def reference_logits(model, tokens):
    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0].float()


def last_logits(decoder, tokens, position=0):
    """Runs ``tokens`` after ``position`` cached ones and returns the last one's logits."""
    with torch.no_grad():
        return decoder(torch.tensor([tokens]), torch.tensor([position]), causal_mask(len(tokens), position)).view(-1)


def assert_equals_transformers(folder, model):
    tokens = torch.randint(0, model.config.vocab_size, (LENGTH,), generator=torch.Generator().manual_seed(1)).tolist()
    expected = reference_logits(model, tokens)
    assert expected.std() > 0.1  # logits that are all alike would compare equal whatever we do
    checkpoint = Checkpoint(folder)
    decoder = load_decoder(checkpoint, open_decoder(checkpoint), LENGTH)
    for length in (1, 2, 7, 64, LENGTH):
        assert (last_logits(decoder, tokens[:length]) - expected[length - 1]).abs().max() <= BOUND
    last_logits(decoder, tokens[:20])
    last_logits(decoder, tokens[20:33], 20)  # a second chunk over the cache
    for position in range(33, LENGTH):
        assert (last_logits(decoder, [tokens[position]], position) - expected[position]).abs().max() <= BOUND


@pytest.mark.parametrize("case", CASES)
def test_logits_equal_transformers(case, tmp_path):
    model = random_model(case)
    assert_equals_transformers(save(model, tmp_path), model)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_are_read_exactly(dtype, tmp_path):
    model = random_model("qwen2")
    assert_equals_transformers(save(model, tmp_path, dtype), model)


def test_sharded_checkpoint(tmp_path):
    model = random_model("qwen3")
    save(model, tmp_path, max_shard_size="60KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    assert_equals_transformers(tmp_path, model)


@pytest.mark.parametrize("case, rope", [("llama3", LLAMA3_ROPE), ("qwen2-yarn", YARN_ROPE)])
def test_configurations_written_before_rope_parameters(case, rope, tmp_path):
    model = random_model(case)
    save(model, tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    values.pop("rope_parameters")
    values["rope_theta"] = rope["rope_theta"]
    values["rope_scaling"] = {"type" if name == "rope_type" else name: value for name, value in rope.items() if name != "rope_theta"}
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert_equals_transformers(tmp_path, model)


@pytest.mark.parametrize("case", ["qwen2", "llama-biases", "qwen3"])
def test_layers_one_at_a_time_equal_the_whole(case, tmp_path):
    """A block without a cache, filled with one layer after the other."""
    model = random_model(case)
    checkpoint = Checkpoint(save(model, tmp_path))
    config = open_decoder(checkpoint)
    tokens = torch.randint(0, config.vocab_size, (LENGTH,)).numpy()
    place = Places(config, LENGTH)(torch.tensor([0]), causal_mask(LENGTH))
    hidden = embed(checkpoint, tokens)[None]
    with torch.device("meta"):
        block = Block(config)
    with torch.no_grad():
        for index in range(config.layer_count):
            hidden = load_block(checkpoint, config, index, block)(hidden, place)
        logits = torch.from_numpy(head(checkpoint, config, hidden[0], config.vocab_size))
    assert (logits - reference_logits(model, tokens.tolist())).abs().max() <= BOUND
