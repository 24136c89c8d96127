"""The traversal against transformers on random weights of every family: prefill and token by token.

On TFLite: tests/backends/tflite/test_families.py. A new family is a line in `families_on_disk.CASES`.
"""

import json

import pytest
import torch
from families_on_disk import CASES, LLAMA3_ROPE, YARN_ROPE, random_model, save
from lowering_jobs import lowering_job
from safetensors.torch import save_file

from firsttoken.backends.executorch.build import build_module
from firsttoken.backends.pytorch.ops import TorchOps
from firsttoken.backends.pytorch.weights import TorchWeights
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.forward import logits
from firsttoken.decoder.walk import Named, open_decoder

LENGTH = 100  # longer than the original context of the yarn and llama3 cases, where the scaling shows
BOUND = 1e-4


def reference_logits(model, tokens):
    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0].float()


class Engine:
    """One of the ways in which the one traversal runs here, in FP32 over a cache of `LENGTH` positions."""

    def __init__(self, checkpoint: Checkpoint):
        self.decoder = open_decoder(checkpoint)

    def last_logits(self, tokens: list[int], position: int = 0) -> torch.Tensor:
        """Logits after ``tokens``, which follow ``position`` cached ones."""
        raise NotImplementedError


class PyTorch(Engine):
    def __init__(self, checkpoint: Checkpoint):
        super().__init__(checkpoint)
        self.weights = TorchWeights(checkpoint, self.decoder, LENGTH)

    def last_logits(self, tokens, position=0):
        with torch.no_grad():
            return logits(TorchOps(self.weights, torch.tensor(tokens), position), Named(self.decoder)).view(-1)


class Executorch(Engine):
    """The module that is traced, run as it is."""

    def __init__(self, checkpoint: Checkpoint):
        super().__init__(checkpoint)
        job = lowering_job(checkpoint, "fp32", "executorch-xnnpack", cache_length=LENGTH)
        self.module = build_module(job)

    def last_logits(self, tokens, position=0):
        with torch.no_grad():
            return self.module(torch.tensor([tokens]), torch.arange(position, position + len(tokens))).view(-1)


def assert_equals_transformers(folder, model):
    tokens = torch.randint(0, model.config.vocab_size, (LENGTH,), generator=torch.Generator().manual_seed(1)).tolist()
    expected = reference_logits(model, tokens)
    assert expected.std() > 0.1  # logits that are all alike would compare equal whatever we do
    for kind in (PyTorch, Executorch):
        engine = kind(Checkpoint(folder))
        for length in (1, 7, LENGTH):
            assert (engine.last_logits(tokens[:length]) - expected[length - 1]).abs().max() <= BOUND
        engine.last_logits(tokens[:50])
        engine.last_logits(tokens[50:90], 50)  # a second chunk over the cache
        for position in range(90, LENGTH):
            assert (engine.last_logits([tokens[position]], position) - expected[position]).abs().max() <= BOUND


@pytest.mark.parametrize("case", CASES)
def test_logits_equal_transformers(case, tmp_path):
    model = random_model(case)
    assert_equals_transformers(save(model, tmp_path), model)


def test_minicpm_is_llama_with_its_factors(tmp_path):
    """transformers has no class of it: the weights of a Llama stand for one, divided by what MiniCPM multiplies by."""
    model = random_model("smollm", num_hidden_layers=4)
    factors = {"scale_emb": 12.0, "scale_depth": 1.4, "dim_model_base": 24}
    state = model.state_dict()
    residual = factors["scale_depth"] / 2  # the root of four layers
    save(model, tmp_path)
    stored = {name: tensor.clone() for name, tensor in state.items() if name != "lm_head.weight"}
    for name, tensor in stored.items():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            tensor /= residual
        if name == "model.embed_tokens.weight":
            tensor /= factors["scale_emb"]
        if name == "model.norm.weight":  # the tied head is the embedding, which is smaller now, and logits are divided by 96 / 24
            tensor *= factors["scale_emb"] * 4
    save_file(stored, tmp_path / "model.safetensors")
    values = json.loads((tmp_path / "config.json").read_text())
    own = {"model_type": "minicpm", "architectures": ["MiniCPMForCausalLM"], "auto_map": {"AutoModel": "modeling_minicpm.MiniCPMModel"}}
    (tmp_path / "config.json").write_text(json.dumps(values | factors | own))
    assert_equals_transformers(tmp_path, model)


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
