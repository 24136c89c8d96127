"""Adapters in a student: peft's arithmetic, nothing else is trained, and merged it is the same model without them."""

import pytest
import torch
from families_on_disk import random_model
from peft.tuners.lora import LoraLayer

from firsttoken.distill.lora import add_adapters, merged
from firsttoken.distill.student_options import Lora
from firsttoken.errors import FirstTokenError

TOKENS = torch.arange(20)[None] % 120


def adapted(case="qwen2", **options):
    model = random_model(case, seed=1).requires_grad_(True)
    torch.manual_seed(5)
    return add_adapters(model, Lora(**options))


def train_a_little(model):
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        model(input_ids=TOKENS, labels=TOKENS).loss.backward()
        optimizer.step()
    return model


def logits(model):
    with torch.no_grad():
        return model.eval()(input_ids=TOKENS).logits


@pytest.mark.parametrize("case", ["qwen2", "qwen2-untied", "lfm2"])
def test_only_adapters_are_trained_and_merged_it_is_the_same_model(case):
    plain = random_model(case, seed=1)
    model = adapted(case, rank=3, alpha=7)
    torch.testing.assert_close(logits(model), logits(plain))  # B is zero
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert trained and all("lora_" in name for name in trained)
    before = logits(train_a_little(model))
    assert (before - logits(plain)).abs().max() > 1e-3
    names = set(plain.state_dict())
    result = merged(model)
    assert set(result.state_dict()) == names and not any(isinstance(m, LoraLayer) for m in result.modules())
    torch.testing.assert_close(logits(result), before, rtol=1e-5, atol=1e-5)
    assert all(p.requires_grad for p in result.parameters())
    torch.testing.assert_close(logits(add_adapters(result, Lora())), logits(result))  # and adapters can be put in again


def test_the_product_is_alpha_over_rank_b_a():
    model = train_a_little(adapted(rank=3, alpha=7, targets=["q_proj", "down_proj"]))
    layers = {name: m for name, m in model.named_modules() if isinstance(m, LoraLayer)}
    assert {name.rpartition(".")[2] for name in layers} == {"q_proj", "down_proj"} and len(layers) == 4
    wanted = {
        f"{name}.weight": m.base_layer.weight.detach() + 7 / 3 * m.lora_B["default"].weight.detach() @ m.lora_A["default"].weight.detach()
        for name, m in layers.items()
    }
    state = merged(model).state_dict()
    for name, value in wanted.items():
        torch.testing.assert_close(state[name], value)


@pytest.mark.parametrize("target", ["q_prj", "lm_head"])
def test_layers_that_are_not_there_are_named(target):
    with pytest.raises(
        FirstTokenError, match=rf"student.lora.targets: '{target}' is not a layer of qwen2; expected some of down_proj, .*v_proj"
    ):
        adapted("qwen2-untied", targets=[target])


def test_a_layer_that_became_infinite_is_named():
    model = adapted(targets=["k_proj"])
    with torch.no_grad():
        model.model.layers[1].self_attn.k_proj.lora_B["default"].weight.fill_(torch.inf)
    with pytest.raises(FirstTokenError, match="model.layers.1.self_attn.k_proj holds NaN or infinite values"):
        merged(model)


def test_recomputed_activations_train_the_same_adapters():
    model = random_model("qwen2", seed=1).requires_grad_(True)
    model.activation_checkpointing_enable()  # before the adapters, as a run does
    torch.manual_seed(5)
    recomputed = train_a_little(add_adapters(model, Lora(rank=3)).train())
    torch.testing.assert_close(logits(recomputed), logits(train_a_little(adapted(rank=3).train())))
    assert not torch.allclose(logits(recomputed), logits(random_model("qwen2", seed=1)), atol=1e-3)
