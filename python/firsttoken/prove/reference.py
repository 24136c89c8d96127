"""What the checkpoint itself computes, in FP32, read layer by layer from its files.

Every window goes through one layer before the next layer is read, so memory is one layer's weights plus the
activations, whatever the model's size. The formulas are its own, in numpy, apart from `firsttoken.decoder.forward` and
every backend's operations on purpose: a mistake there, which all exports are built from, would otherwise prove itself right.
"""

import math

import numpy as np

from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.parts import (
    Attention,
    Block,
    Convolution,
    Decoder,
    DeltaNet,
    LayerInput,
    Linear,
    Mlp,
    Norm,
    Router,
    ShortConvolution,
)
from firsttoken.decoder.rope import Rope
from firsttoken.progress import Report, silent
from firsttoken.prove.arithmetic import Fp32, Planned
from firsttoken.prove.recurrence import delta_rule, sigmoid, unit
from firsttoken.prove.reference_streams import Alternating, close_streams, cut_off, open_streams
from firsttoken.weight_source import Source

HEAD_ROWS = 8192  # rows of the vocabulary head in memory at once
QUERIES = 256  # tokens whose attention scores are in memory at once
HEAD = Source("head")  # its name among the linear layers: its weight may be the embedding's


def reference_logits(
    checkpoint: Checkpoint,
    decoder: Decoder,
    windows: list[np.ndarray],
    positions: list[np.ndarray],
    vocab_size: int | None = None,
    report: Report = silent,
) -> list[np.ndarray]:
    """Returns float32 logits ``[len(positions[i]), vocab_size]`` for each window of token ids.

    ``positions[i]`` are the places in window ``i`` whose prediction of the next token is wanted; ``vocab_size`` cuts off
    padded rows (default: all). Raises `FirstTokenError` for missing or damaged weights.
    """
    [logits] = logits_in(checkpoint, decoder, [(Fp32(), list(range(len(windows))))], windows, positions, vocab_size, report)
    return logits


def logits_in(
    checkpoint: Checkpoint,
    decoder: Decoder,
    arithmetics: list[tuple[Fp32, list[int]]],
    windows: list[np.ndarray],
    positions: list[np.ndarray],
    vocab_size: int | None = None,
    report: Report = silent,
) -> list[list[np.ndarray]]:
    """The same in several arithmetics, each over the windows that its list names; every weight is read once for all of them.

    Returns for each arithmetic the logits of its windows, in its list's order.
    """
    hidden = [[embed(checkpoint, decoder, windows[n], arithmetic) for n in chosen] for arithmetic, chosen in arithmetics]
    besides = [
        [Beside(checkpoint, decoder, windows[n], states, arithmetic) for n, states in zip(chosen, streams, strict=True)]
        for (arithmetic, chosen), streams in zip(arithmetics, hidden, strict=True)
    ]
    ends = Weights(checkpoint)
    for (arithmetic, _), streams in zip(arithmetics, hidden, strict=True):
        streams[:] = [open_streams(ends, decoder.streams, states, arithmetic) for states in streams]
    ends = Weights(checkpoint)
    for number, block in enumerate(decoder.layers):
        report("reference", number, len(decoder.layers), "layers")
        weights = Weights(checkpoint)
        for (arithmetic, _), streams, beside in zip(arithmetics, hidden, besides, strict=True):
            layer = Layer(weights, block, arithmetic, f"layers.{number}")
            streams[:] = [layer.run(states, more) for states, more in zip(streams, beside, strict=True)]
    report("reference", len(decoder.layers), len(decoder.layers), "layers")
    wanted = [
        np.concatenate(
            [
                close_streams(ends, decoder.streams_output, states[..., np.asarray(positions[n], np.int64), :], arithmetic)
                for states, n in zip(streams, chosen, strict=True)
            ]
        )
        for streams, (arithmetic, chosen) in zip(hidden, arithmetics, strict=True)
    ]
    del hidden, besides
    found = head(checkpoint, decoder, [arithmetic for arithmetic, _ in arithmetics], wanted, vocab_size or decoder.vocab_size)
    return [
        list(np.split(logits, np.cumsum([len(positions[n]) for n in chosen])[:-1]))
        for logits, (_, chosen) in zip(found, arithmetics, strict=True)
    ]


def embed(checkpoint: Checkpoint, decoder: Decoder, window: np.ndarray, arithmetic: Fp32 = Fp32(), name: str = "embedding") -> np.ndarray:
    """Embeddings of a window ``[tokens, hidden]``, read one row at a time, times the factor that the checkpoint's want; ``name`` is the table's."""
    table = decoder.per_layer.embedding if decoder.per_layer is not None and name != "embedding" else decoder.embedding
    source = table.weight
    window = np.where(window < table.rows, window, 0)  # a table of layers may have fewer rows than the vocabulary
    rows = np.concatenate([checkpoint.rows(source, int(t), int(t) + 1) for t in window])
    rows = arithmetic.rounded(name, rows) if isinstance(arithmetic, Planned) else rows
    return rows * checkpoint.vector(checkpoint.embedding_factor) if checkpoint.embedding_factor and name == "embedding" else rows


def normalize(states: np.ndarray, part: Norm, weight: np.ndarray | None, bias: np.ndarray | None) -> np.ndarray:
    """``x / sqrt(mean(x^2) + epsilon) * weight`` over the last axis (Zhang and Sennrich 2019, arXiv 1910.07467); ``centred``
    takes the mean off first, and a bias is added at the end (Ba et al. 2016, arXiv 1607.06450)."""
    if part.centred:
        states = states - states.mean(-1, keepdims=True)
    states = states / np.sqrt(np.square(states).mean(-1, keepdims=True) + np.float32(part.epsilon))
    if weight is not None:
        states = states * weight
    return states if bias is None else states + bias


def silu(x: np.ndarray) -> np.ndarray:
    """``x * sigmoid(x)`` (Elfwing et al. 2017, arXiv 1702.03118); the clip keeps the exponential finite, where the product is 0."""
    return x / (1 + np.exp(-np.maximum(x, np.float32(-80))))


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    """``x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3)))`` (Hendrycks and Gimpel 2016, arXiv 1606.08415)."""
    return np.float32(0.5) * x * (1 + np.tanh(np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * x * x * x)))


def relu2(x: np.ndarray) -> np.ndarray:
    """``max(x, 0)^2`` (So et al. 2021, arXiv 2109.08668)."""
    return np.square(np.maximum(x, 0))


def cap(x: np.ndarray, most: float | None) -> np.ndarray:
    """``most * tanh(x / most)`` (Gemma 2, arXiv 2408.00118); x itself where there is no cap."""
    return x if most is None else np.tanh(x / np.float32(most)) * np.float32(most)


ACTIVATIONS = {"silu": silu, "gelu_tanh": gelu_tanh, "relu2": relu2}


def rotate(states: np.ndarray, rope: Rope) -> np.ndarray:
    """Turns the pairs ``(x[i], x[i + d/2])`` of ``[heads, tokens, head_dim]`` by their position's angles (arXiv 2104.09864)."""
    angles = rope.angles(np.arange(states.shape[1]))
    cosine, sine = np.cos(angles) * rope.factors, np.sin(angles) * rope.factors
    first, second = np.split(states, 2, axis=-1)
    return np.concatenate((first * cosine - second * sine, second * cosine + first * sine), axis=-1)


def softmax(scores: np.ndarray) -> np.ndarray:
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    return scores / scores.sum(-1, keepdims=True)


class Weights:
    """One layer's weights, read when they are asked for first, and what each arithmetic makes of them."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self._read: dict[object, np.ndarray] = {}

    def matrix(self, source: Source, arithmetic: Fp32) -> np.ndarray:
        read = self.matrix_as_stored(source)
        if type(arithmetic) is Fp32:
            return read
        if ("planned", source) not in self._read:  # with and without noise a weight is rounded alike
            self._read["planned", source] = arithmetic.weight(source, read, self.checkpoint.scales(source))
        return self._read["planned", source]

    def matrix_as_stored(self, source: Source) -> np.ndarray:
        """A matrix that no plan addresses."""
        if source not in self._read:
            self._read[source] = self.checkpoint.matrix(source)
        return self._read[source]

    def vector(self, source: Source) -> np.ndarray:
        if source not in self._read:
            self._read[source] = self.checkpoint.vector(source)
        return self._read[source]


class Beside:
    """What the layers know of a window besides the residual: their own inputs ``[layers, tokens, size]``, and the keys and values
    that later layers share, by the number of the layer that made them."""

    def __init__(self, checkpoint: Checkpoint, decoder: Decoder, window: np.ndarray, states: np.ndarray, arithmetic: Fp32) -> None:
        self.kept: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self.shared = {block.attention.shares for block in decoder.layers if block.attention}
        self.inputs: np.ndarray | None = None
        if (part := decoder.per_layer) is not None:
            weights = Weights(checkpoint)
            split = len(window), len(decoder.layers), part.size
            projected = arithmetic.linear(part.projection.weight, states, weights.matrix(part.projection.weight, arithmetic), None)
            assert part.norm.weight is not None, "the norm of the projection has a weight"
            context = normalize(projected.reshape(split), part.norm, weights.vector(part.norm.weight), None)
            own = embed(checkpoint, decoder, window, arithmetic, "per_layer.embedding").reshape(split)
            self.inputs = (context + own).transpose(1, 0, 2)


class Layer:
    """One layer in one arithmetic; ``name`` as in "layers.3"."""

    def __init__(self, weights: Weights, block: Block, arithmetic: Fp32, name: str) -> None:
        self.weights, self.block, self.arithmetic, self.name = weights, block, arithmetic, name

    def run(self, states: np.ndarray, beside: Beside) -> np.ndarray:
        """The layer over a whole window: ``[tokens, hidden]`` to the same, or ``[streams, tokens, hidden]``."""
        if (part := self.block.updates) is None:
            return self.run_one(states, beside)
        number = int(self.name.removeprefix("layers."))
        updates = Alternating(part, self.norm, self.weights.matrix_as_stored)
        predicted = updates.predict(states)
        states = updates.correct(predicted, self.mix_and_compute(predicted[0], beside, number))
        if (taken := self.block.per_layer) is not None:
            states[1:] += self.layer_input(taken, states[0] * self.weights.vector(part.factor.weight), beside, number)
        return states

    def run_one(self, states: np.ndarray, beside: Beside) -> np.ndarray:
        """The layer over the one stream that there is."""
        block, number = self.block, int(self.name.removeprefix("layers."))
        states = self.mix_and_compute(states, beside, number)
        if block.per_layer is not None:
            states = states + self.layer_input(block.per_layer, states, beside, number)
        return states if block.factor is None else states * self.weights.vector(block.factor.weight)

    def mix_and_compute(self, states: np.ndarray, beside: Beside, number: int) -> np.ndarray:
        """What other positions give and what the MLP makes of it, each added to the states."""
        block = self.block
        asked = self.norm(block.attention_norm, states)
        states = states + self.norm(block.attention_output_norm, self.mixed(asked, beside, number))
        if (way := block.low_rank) is not None:  # beside attention, each of the two counting half of their squares (arXiv 2411.07501)
            along = asked + self.norm(way.norm, self.linear(way.right, self.linear(way.left, asked)))
            states = (states + along) / np.float32(math.sqrt(2))
        given = asked if block.parallel else self.norm(block.mlp_norm, states)
        return states + self.norm(block.mlp_output_norm, self.mlp(block.mlp, given))

    def layer_input(self, part: LayerInput, states: np.ndarray, beside: Beside, number: int) -> np.ndarray:
        """What the layer makes of its part of the embeddings of every layer."""
        assert beside.inputs is not None, "a decoder whose layers take inputs has a table of them"
        gated = ACTIVATIONS[part.activation](self.linear(part.gate, states)) * beside.inputs[number]
        return self.norm(part.norm, self.linear(part.projection, gated))

    def mixed(self, states: np.ndarray, beside: Beside, number: int) -> np.ndarray:
        """What the layer takes from other positions: by attention, a convolution or a gated delta net."""
        block = self.block
        if block.delta is not None:
            return self.delta_net(block.delta, states)
        if block.convolution is not None:
            return self.convolution(block.convolution, states)
        assert block.attention is not None, "a layer has one of the three"
        return self.attention(block.attention, states, beside, number)

    def linear(self, part: Linear, states: np.ndarray) -> np.ndarray:
        bias = None if part.bias is None else self.weights.vector(part.bias)
        return self.arithmetic.linear(part.weight, states, self.weights.matrix(part.weight, self.arithmetic), bias)

    def norm(self, part: Norm | None, states: np.ndarray) -> np.ndarray:
        """The states as the norm leaves them; as they are where there is none."""
        if part is None:
            return states
        return normalize(states, part, *(None if source is None else self.weights.vector(source) for source in (part.weight, part.bias)))

    def mlp(self, part: Mlp, states: np.ndarray) -> np.ndarray:
        activation = self.arithmetic.activation(part.activation, ACTIVATIONS[part.activation])
        if part.gate is None:
            return self.linear(part.down, activation(self.linear(part.up, states)))
        if part.router is not None:
            return self.linear(part.down, self.experts(part, part.router, states))
        return self.linear(part.down, activation(cut_off(self.linear(part.gate, states), part.cutoff)) * self.linear(part.up, states))

    def experts(self, part: Mlp, router: Router, states: np.ndarray) -> np.ndarray:
        """What comes before ``down``, ``[tokens, experts * size]``: every expert over the tokens that chose it, times its weight; else zeros."""
        assert part.gate is not None, "experts have gates"
        weights, size = self.chosen(router, states), part.up.rows // router.experts
        gate, up = (self.weights.matrix(linear.weight, self.arithmetic) for linear in (part.gate, part.up))
        found = np.zeros((len(states), part.up.rows), np.float32)
        for expert in range(router.experts):
            asking, own = np.flatnonzero(weights[:, expert]), slice(expert * size, (expert + 1) * size)
            if len(asking):
                gated = ACTIVATIONS[part.activation](self.arithmetic.linear(part.gate.weight, states[asking], gate[own], None))
                inner = gated * self.arithmetic.linear(part.up.weight, states[asking], up[own], None)
                found[asking, own] = inner * weights[asking, expert, None]
        return found

    def chosen(self, part: Router, states: np.ndarray) -> np.ndarray:
        """Every expert's weight for every token ``[tokens, experts]``, of those that it did not choose 0 (Shazeer et al. 2017, arXiv 1701.06538;
        by sigmoids with a bias for the choice: DeepSeek-V3, arXiv 2412.19437)."""
        scored = self.arithmetic.plain(states @ self.weights.matrix_as_stored(part.weight).T, part.columns)
        scores = softmax(scored) if part.scores == "softmax" else 1 / (1 + np.exp(-np.maximum(scored, np.float32(-80))))
        ranked = scores if part.bias is None else scores + self.weights.vector(part.bias)
        best = np.argsort(-ranked, axis=-1, kind="stable")[:, : part.chosen]
        taken = np.take_along_axis(scores, best, -1)
        if part.divided:
            taken = taken / (taken.sum(-1, keepdims=True) + np.float32(part.epsilon))
        found = np.zeros_like(scores)
        np.put_along_axis(found, best, taken * np.float32(part.factor), -1)
        return found

    def convolution(self, part: ShortConvolution, states: np.ndarray) -> np.ndarray:
        """The double-gated short convolution of LFM2 (arXiv 2511.23404): ``out(C * conv(B * x))`` over the window."""
        gated = self.linear(part.in_gate, states) * self.linear(part.value, states)
        return self.linear(part.output, self.linear(part.out_gate, states) * self.past(part.kernel, gated))

    def delta_net(self, part: DeltaNet, states: np.ndarray) -> np.ndarray:
        """A gated delta net (arXiv 2412.06464): queries, keys and values through a convolution and silu, the rule, a norm of every
        head's result, a gate. Queries are of length ``key_dim^-0.5``; the tree says so of a norm over the mean instead of the sum."""
        rule, tokens = part.rule, len(states)
        keys, dim = rule.key_heads * rule.key_dim, np.float32(rule.key_dim)
        mixed = silu(self.past(part.kernel, self.linear(part.mixed, states)))
        query, key = (
            unit(x.reshape(tokens, rule.key_heads, -1), norm.epsilon * rule.key_dim)
            for x, norm in ((mixed[:, :keys], part.q_norm), (mixed[:, keys : 2 * keys], part.k_norm))
        )
        value = mixed[:, 2 * keys :].reshape(tokens, rule.value_heads, -1)
        strength, forgetting = self.linear(part.strength, states), self.linear(part.forgetting, states)
        found = delta_rule(
            rule, self.weights.vector(rule.decay), query / np.sqrt(dim), key, value, strength, forgetting, self.arithmetic.fp32_sums
        )
        return self.linear(part.output, self.norm(part.norm, found).reshape(tokens, -1) * silu(self.linear(part.gate, states)))

    def past(self, part: Convolution, states: np.ndarray) -> np.ndarray:
        """The causal convolution of every channel by itself: what was ``back`` positions ago counts by the weight ``back`` places from the end."""
        weight = self.weights.matrix_as_stored(part.weight)
        found = np.zeros_like(states) if part.bias is None else np.tile(self.weights.vector(part.bias), (len(states), 1))
        for back in range(min(part.length, len(states))):
            found[back:] += states[: len(states) - back] * weight[:, -1 - back]
        return found

    def heads(self, part: Attention, projection: Linear, norm: Norm | None, states: np.ndarray, turned: bool) -> np.ndarray:
        """A projection split into heads ``[heads, tokens, head_dim]``, with its norm and its rotation in their order."""
        core, rounded = part.core, self.arithmetic.core(f"{self.name}.attention.core")
        whole = self.linear(projection, states)
        if norm is not None and norm.size != core.head_dim:
            whole, norm = self.norm(norm, whole), None
        split = whole.reshape(len(states), -1, core.head_dim)
        before, after = (None, norm) if part.norms_follow_rotation else (norm, None)
        split = rounded(self.norm(before, split).transpose(1, 0, 2), 1)
        if turned and part.rotation is not None:
            split = rotate(split, part.rotation)
        return self.norm(after, split)

    def keys_and_values(self, part: Attention, states: np.ndarray, beside: Beside, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Those of the layer, or of the earlier one that it shares them with."""
        if part.shares is not None:
            return beside.kept[part.shares]
        name = f"{self.name}.attention.core"
        assert part.k is not None, "a layer that shares nothing has keys of its own"
        key = self.arithmetic.cache(name, self.arithmetic.core(name)(self.heads(part, part.k, part.k_norm, states, True), 2))
        value = self.arithmetic.cache(name, self.heads(part, part.v or part.k, part.v_norm, states, False))
        if number in beside.shared:
            beside.kept[number] = key, value
        return key, value

    def attention(self, part: Attention, states: np.ndarray, beside: Beside, number: int) -> np.ndarray:
        """Causal grouped-query attention (arXiv 2305.13245) over the window, one group of heads at a time."""
        core, tokens, name = part.core, len(states), f"{self.name}.attention.core"
        rounded = self.arithmetic.core(name)
        query = rounded(self.heads(part, part.q, part.q_norm, states, True) * np.float32(core.scale), 2)
        key, value = self.keys_and_values(part, states, beside, number)
        mixed = np.empty_like(query)
        for number in range(core.kv_heads):
            group = slice(number * core.group, (number + 1) * core.group)
            for start in range(0, tokens, QUERIES):
                asking = np.arange(start, min(start + QUERIES, tokens))
                first = 0 if core.window is None else max(0, start - core.window + 1)
                asked = np.arange(first, asking[-1] + 1)
                distance = asking[:, None] - asked
                scores = rounded(cap(query[group, asking] @ key[number, asked].T, core.softcap), core.head_dim)
                scores[:, (distance < 0) if core.window is None else (distance < 0) | (distance >= core.window)] = -np.inf
                mixed[group, asking] = rounded(rounded(softmax(scores), 1) @ value[number, asked], len(asked))
        joined = mixed.transpose(1, 0, 2).reshape(tokens, -1)
        if part.gate is not None:
            joined = joined * sigmoid(self.linear(part.gate, states))
        return self.linear(part.output, joined)


def head(checkpoint: Checkpoint, decoder: Decoder, arithmetics: list[Fp32], streams: list[np.ndarray], vocab_size: int) -> list[np.ndarray]:
    """Final norm and vocabulary head, `HEAD_ROWS` rows at a time: ``[positions, hidden]`` to ``[positions, vocab_size]``, for each arithmetic."""
    norm = [None if source is None else checkpoint.vector(source) for source in (decoder.norm.weight, decoder.norm.bias)]
    streams = [normalize(states, decoder.norm, *norm) for states in streams]
    bias = None if decoder.head.bias is None else checkpoint.vector(decoder.head.bias)
    found = [np.empty((len(states), vocab_size), np.float32) for states in streams]
    for start in range(0, vocab_size, HEAD_ROWS):
        stop = min(start + HEAD_ROWS, vocab_size)
        rows, planned = checkpoint.rows(decoder.head.weight, start, stop), None
        for arithmetic, states, logits in zip(arithmetics, streams, found, strict=True):
            weight = rows
            if isinstance(arithmetic, Planned):
                if planned is None:
                    scales = checkpoint.scales(decoder.head.weight, start, stop)
                    planned = arithmetic.rounded("head", rows, scales)
                weight = planned
            part = None if bias is None else bias[start:stop]
            logits[:, start:stop] = cap(arithmetic.linear(HEAD, states, weight, part), decoder.softcap)
    return found
