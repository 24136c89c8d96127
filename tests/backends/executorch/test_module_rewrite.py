"""The rewrite of a graph keeps its numbers, with every kind of mask, and notices where it would not."""

import pytest
import torch
import torch.nn.functional as functional
from executorch_tiny_modules import tiny
from torch import nn

from firsttoken.backends.executorch.module_graph import each, open_graph, operator
from firsttoken.backends.executorch.module_lstm import Lstm
from firsttoken.backends.executorch.module_parts import Attention, HardSigmoid, LayerNorm, Mean, Product, sizes
from firsttoken.backends.executorch.module_rewrite import attention, check_same, rewrite
from firsttoken.errors import FirstTokenError


def rewritten(name):
    module, _ = tiny(name)
    graph = open_graph(module.program)
    rewrite(graph)
    each(graph, "aten.scaled_dot_product_attention", lambda graph, node: attention(graph, node, torch.float32))
    graph.recompile()
    return module, graph


@pytest.mark.parametrize("name", ["images", "tokens", "series"])
def test_numbers_stay_to_1e_5(name):
    module, graph = rewritten(name)
    wanted, got = module.program.module()(*module.example), graph(*module.example)
    assert float((got - wanted).abs().max()) < 1e-5 * float(wanted.abs().max())
    left = {operator(node) for node in graph.graph.nodes}
    assert not left & {"aten.batch_norm", "aten.layer_norm", "aten.scaled_dot_product_attention", "aten.hardsigmoid", "aten.matmul"}


def test_other_numbers_are_an_error():
    module, graph = rewritten("tokens")
    norm = next(one for one in graph.modules() if isinstance(one, LayerNorm))
    norm.epsilon.fill_(0.1)
    with pytest.raises(FirstTokenError, match="gives output 0 with an error of"):
        check_same(graph, module.program.module()(*module.example), module.example)


LOWEST = torch.finfo(torch.float32).min
MASKS = {
    "none": None,
    "bool": torch.arange(7)[None, None, None] < torch.tensor([5, 7]).view(2, 1, 1, 1),
    "lowest": torch.where(torch.arange(7)[None, None, None] < torch.tensor([5, 7]).view(2, 1, 1, 1), 0.0, LOWEST),
    "infinite": torch.where(torch.ones(7, 7).tril().bool(), 0.0, float("-inf")),
    "bias": torch.linspace(-2, 2, 49).view(7, 7),
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_attention_with_every_mask(mask, dtype):
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, 4, 7, 8)
    wanted = functional.scaled_dot_product_attention(query, key, value, MASKS[mask])
    given = (query, key, value) if MASKS[mask] is None else (query, key, value, MASKS[mask])
    error = float((Attention(8**-0.5, False, dtype)(*given) - wanted).abs().max())
    assert error < (1e-5 if dtype == torch.float32 else 0.01)


def test_causal_attention_and_parts():
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, 4, 7, 8)
    wanted = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
    assert torch.allclose(Attention(8**-0.5, True)(query, key, value), wanted, atol=1e-5)
    x = torch.randn(5, 8) * 4
    assert torch.allclose(Mean(8)(x), x.mean(-1, keepdim=True), atol=1e-6)
    assert torch.allclose(HardSigmoid()(x), functional.hardsigmoid(x), atol=1e-6)
    assert torch.allclose(Product()(query, key.transpose(2, 3)), query @ key.transpose(2, 3), atol=1e-5)
    assert sizes(2, 3) == [2, 3]


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_the_unrolled_lstm_is_torchs(bidirectional, batch_first):
    torch.manual_seed(0)
    own = nn.LSTM(3, 8, 2, batch_first=batch_first, bidirectional=bidirectional)

    def linear(weight, bias):
        made = nn.Linear(*weight.shape[::-1], bias=bias is not None)
        made.weight.data = weight
        if bias is not None:
            made.bias.data = bias
        return made

    made = Lstm([weight.detach() for weight in own._flat_weights], True, 2, bidirectional, batch_first, linear)
    x, states = torch.randn(4, 5, 3), torch.randn(2, 4 if bidirectional else 2, 4 if batch_first else 5, 8)
    with torch.no_grad():
        wanted, (hidden, cell) = own(x, tuple(states))
        got = made(x, *states)
    for ours, theirs in zip(got, (wanted, hidden, cell), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)
