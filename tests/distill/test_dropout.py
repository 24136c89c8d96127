"""Dropout of what layers put out: where the Transformer paper has it, in training only, with the right size."""

import pytest
import torch
from families_on_disk import random_model
from torch import nn

from firsttoken.distill.dropout import add_dropout
from firsttoken.errors import FirstTokenError

TOKENS = torch.arange(30)[None] % 120


def test_in_training_only_and_taken_out_again():
    model = random_model("qwen2", seed=1)
    wanted = model(input_ids=TOKENS).logits
    handles = add_dropout(model, 0.3)
    assert len(handles) == 1 + 2 * 2
    torch.testing.assert_close(model(input_ids=TOKENS).logits, wanted, rtol=0, atol=0)
    model.train()
    assert (model(input_ids=TOKENS).logits - wanted).abs().max() > 0.01
    for handle in handles:
        handle.remove()
    torch.testing.assert_close(model(input_ids=TOKENS).logits, wanted, rtol=0, atol=0)


@pytest.mark.parametrize("case", ["qwen2", "phi3", "lfm2", "granite4", "qwen3_moe"])
def test_a_share_of_every_output_is_zero_and_the_rest_is_scaled(case):
    model = random_model(case, seed=1).train()
    before, after = {}, {}

    def keep(into, name):
        def hook(_module, _given, result):
            into[name] = (result[0] if isinstance(result, tuple) else result).clone()

        return hook

    places = {"embed": model.get_input_embeddings()} | {
        f"{n}.{name}": child
        for n, layer in enumerate(model.model.layers)
        for name, child in layer.named_children()
        if "norm" not in name and "dropout" not in name
    }
    for name, module in places.items():
        module.register_forward_hook(keep(before, name))
    add_dropout(model, 0.25)
    for name, module in places.items():
        module.register_forward_hook(keep(after, name))
    torch.manual_seed(0)
    model(input_ids=TOKENS)
    assert len(before) >= 1 + 2 * len(model.model.layers)
    for name in before:
        dropped = (after[name] == 0) & (before[name] != 0)
        assert dropped.float().mean().item() == pytest.approx(0.25, abs=0.06), name
        torch.testing.assert_close(after[name][~dropped], before[name][~dropped] / 0.75)


def test_layers_called_otherwise_are_refused():
    model = random_model("qwen2", seed=1)
    model.model.layers[1] = nn.ModuleDict({"attn": nn.Linear(2, 2), "mlp": nn.Linear(2, 2)})
    with pytest.raises(FirstTokenError, match="layer 1 of qwen2 has attn, mlp, and none of self_attn"):
        add_dropout(model, 0.1)
