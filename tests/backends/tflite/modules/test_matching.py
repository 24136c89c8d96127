"""Operators of converted files by the layer that they compute; ties are an error, or no matter."""

from collections import Counter

import numpy as np
import pytest
import torch

from firsttoken.backends.tflite.modules.matching import match, weighted_operators
from firsttoken.errors import FirstTokenError


def state_of(found) -> dict[str, torch.Tensor]:
    return dict(found.module.program.state_dict)


def test_each_operator_has_its_layer(conv, text, lstm):
    for found, counts in (
        (conv, {"stem.0": 1, "block.0": 1, "depthwise.0": 1, "point": 1, "head": 1}),
        (text, dict.fromkeys(("words", "query", "key", "value", "out", "up", "down", "topic", "tone"), 4)),
    ):
        matched = match(found.file(), found.layers, state_of(found), found.plan())
        assert Counter(one.layer for one in matched) == counts
    matched = match(lstm.file(), lstm.layers, state_of(lstm), lstm.plan())
    parameters = Counter(one.parameter for one in matched)
    assert set(parameters) == {f"lstm.weight_{kind}_l{layer}" for kind in ("ih", "hh") for layer in (0, 1)} | {"head.weight"}
    assert all(one.layer == one.parameter.partition(".")[0] for one in matched)


def test_a_layer_s_graphs_share_its_weight(text):
    file = text.file()
    buffers: dict[str, set[int]] = {}
    for one in match(file, text.layers, state_of(text), text.plan()):
        buffers.setdefault(one.layer, set()).add(file.tensor(one.weighted.operator.graph, one.weighted.weight).buffer)
    assert {len(found) for found in buffers.values()} == {1}


def test_a_weight_of_nothing(conv):
    state = state_of(conv)
    state["point.weight"] = torch.randn_like(state["point.weight"])
    with pytest.raises(FirstTokenError, match=r"has a CONV_2D .* whose weight \[16, 1, 1, 8\] is no parameter of the module"):
        match(conv.file(), conv.layers, state, conv.plan())


def test_a_layer_without_an_operator(conv):
    file = conv.file()
    head = next(one for one in weighted_operators(file) if one.operator.kind == "FULLY_CONNECTED")
    del file.model.subgraphs[0].operators[head.operator.index]
    with pytest.raises(FirstTokenError, match=r"head: the converted file has no operator with its weight 'head.weight'"):
        match(file, conv.layers, state_of(conv), conv.plan())


def with_equal_weights(text):
    """The encoder's file and state with the same weights in two layers."""
    file, state = text.file(), state_of(text)
    state["key.weight"] = state["query.weight"] * 2
    matched = {one.layer: one for one in match(text.file(), text.layers, state_of(text), text.plan())}
    query, key = (file.tensor(0, matched[name].weighted.weight).buffer for name in ("query", "key"))
    file.model.buffers[key].data = (np.asarray(file.model.buffers[query].data).view(np.float32) * 3).view(np.uint8)
    return file, state


def test_equal_weights_of_other_precisions_are_no_guess(text):
    file, state = with_equal_weights(text)
    with pytest.raises(FirstTokenError, match=r"query, key: their weights are the same up to factors"):
        match(file, text.layers, state, text.plan() | {"query": "int8"})


def test_equal_weights_of_one_precision_do_not_matter(text):
    file, state = with_equal_weights(text)
    found = Counter(one.layer for one in match(file, text.layers, state, text.plan(linear="int8")))
    assert found["query"] == found["key"] == 4
