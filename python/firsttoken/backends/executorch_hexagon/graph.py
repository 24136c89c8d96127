"""The decoder as ExecuTorch's Qualcomm backend takes it: PyTorch modules of fixed shapes, fed by the host as LiteRT's graphs are.

Names, shapes and meaning of inputs and outputs are those of `backends.tflite_hexagon.graph`, so that one host feeds both, and for
the same reasons: no angle, no cache write and no run-time length is left to the NPU. Weights are int8 rows with one
scale each, unpacked to FP16 as they are used, or FP16; activations are never quantized.
"""

from collections.abc import Mapping

import torch
import torch.ao.quantization.fx._decomposed
import torch.nn.functional as functional
from torch import Tensor, nn

from firsttoken.backends.executorch.modules import BOUNDS, INT8
from firsttoken.backends.executorch.quantize import read_linear, read_quantized, tensor
from firsttoken.backends.tflite.decoder_graph import MASKED
from firsttoken.backends.tflite_hexagon.graph import graph_names
from firsttoken.bundle.manifest import Method
from firsttoken.bundle.manifest import Tensor as Described
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.attention import Attention as DecoderAttention
from firsttoken.decoder.block import Block
from firsttoken.decoder.block import Mlp as DecoderMlp
from firsttoken.decoder.config import DecoderConfig
from firsttoken.decoder.families import plan_layers
from firsttoken.decoder.load import load_norms
from firsttoken.decoder.model import Decoder
from firsttoken.decoder.norm import RmsNorm
from firsttoken.progress import Report, silent
from firsttoken.targets.target import Target


class UnpackedLinear(nn.Module):
    """Linear layer on int8 ``rows [out, in]`` with float32 ``scales [out]``; float32 in and out, activations as they are.

    ExecuTorch's Qualcomm backend stores the rows as int8 and casts the activations around the layer to FP16.
    """

    def __init__(self, rows: Tensor, scales: Tensor, bias: Tensor | None):
        super().__init__()
        self.register_buffer("rows", rows)
        self.register_buffer("scales", scales.reshape(-1))
        self.register_buffer("zero_points", torch.zeros(rows.shape[0], dtype=torch.int64))
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        """Takes float32 ``[..., in]``, returns float32 ``[..., out]``."""
        low, high = BOUNDS["int8"]
        weight = torch.ops.quantized_decomposed.dequantize_per_channel(self.rows, self.scales, self.zero_points, 0, low, high, INT8)
        return functional.linear(x, weight, self.bias)


def norm(x: Tensor, weights: RmsNorm, config: DecoderConfig) -> Tensor:
    """RMSNorm (arXiv 1910.07467) as the one operator that QNN has for it."""
    return functional.rms_norm(x, (weights.weight.shape[0],), weights.weight, config.norm_epsilon)


class Core(nn.Module):
    """Scores, softmax and weighted sum of one call's own rows, and of the cache's where there are any."""

    def __init__(self, config: DecoderConfig):
        super().__init__()
        self.config = config

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, cache: tuple[Tensor, Tensor] | None, cache_mask: Tensor | None
    ) -> Tensor:
        """Takes query ``[rows, heads, dim]`` (scaled), key and value ``[1, kv_heads, S, dim]``, mask ``[rows, S]`` and the cache
        ``[1, kv_heads, C, dim]`` with its mask ``[1, C]``; returns ``[rows, heads * dim]``. All in one type."""
        kv, group, dim = self.config.kv_head_count, self.config.group_size, self.config.head_dim
        rows = query.shape[0]
        # Every key/value head serves its whole group of query heads in one product of [kv, group * rows, dim].
        query = query.view(rows, kv, group, dim).permute(1, 2, 0, 3).reshape(1, kv, group * rows, dim)
        scores = torch.matmul(query, key.transpose(2, 3))
        if mask is not None:
            scores = scores + mask.repeat(group, 1)
        if cache is None:
            mixed = torch.matmul(torch.softmax(scores, -1), value)
        else:
            keys, values = cache
            filled = keys.shape[2]
            weights = torch.softmax(torch.cat([torch.matmul(query, keys.transpose(2, 3)) + cache_mask, scores], 3), -1)
            mixed = torch.matmul(weights[..., :filled], values) + torch.matmul(weights[..., filled:], value)
        return mixed.view(kv, group, rows, dim).permute(2, 0, 1, 3).reshape(rows, self.config.query_size)


class Attention(nn.Module):
    """Projections, rotation and core of one layer; ``weights`` are the decoder's own."""

    def __init__(self, weights: DecoderAttention, config: DecoderConfig):
        super().__init__()
        self.weights, self.config, self.core = weights, config, Core(config)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None, cache, cache_mask: Tensor | None, last: Tensor | None):
        """Returns the attention's output and the call's own rows of the cache, float32 ``[kv_heads, 1, tokens, head_dim]``.

        With ``last``, of the last real token alone: the last layer needs every key, but one query.
        """
        config, dtypes = self.config, self.weights.dtypes
        kv, dim, tokens, core = config.kv_head_count, config.head_dim, x.shape[0], dtypes["core"]
        asking, query_cos, query_sin = x, cos, sin
        if last is not None:
            asking, query_cos, query_sin, mask = (torch.index_select(t, 0, last) for t in (x, cos, sin, mask))
        query = self._heads("q", asking, config.head_count, query_cos, query_sin) * (dim**-0.5)
        key = self._heads("k", x, kv, cos, sin)
        value = self.weights.v(x.to(dtypes["v"])).to(core).view(tokens, kv, dim)
        key, value = (t.permute(1, 0, 2).reshape(1, kv, tokens, dim) for t in (key, value))
        if cache is not None:
            cache, cache_mask = [t.to(core).view(1, kv, -1, dim) for t in cache], cache_mask.to(core)
        mixed = self.core(query, key, value, None if mask is None else mask.to(core), cache, cache_mask)
        result = self.weights.output(mixed.to(dtypes["output"])).to(torch.float32)
        return result, *(t.view(kv, 1, tokens, dim).to(torch.float32) for t in (key, value))

    def _heads(self, which: str, x: Tensor, heads: int, cos: Tensor, sin: Tensor) -> Tensor:
        """One projection, its optional norm and rotation: ``[rows, heads, head_dim]`` in the core's type. ``sin`` comes with its sign."""
        config, dtypes = self.config, self.weights.dtypes
        y = getattr(self.weights, which)(x.to(dtypes[which])).view(x.shape[0], heads, config.head_dim)
        if config.qk_norm:
            y = norm(y.to(torch.float32), getattr(self.weights, f"{which}_norm"), config)
        core, half, factor = dtypes["core"], config.head_dim // 2, config.rope.factor
        y = y.to(core)
        cos, sin = ((t if factor == 1 else t * factor).to(core) for t in (cos, sin))
        return y * cos + torch.cat([y[..., half:], y[..., :half]], -1) * sin


class Mlp(nn.Module):
    """SwiGLU on the decoder's own ``weights``."""

    def __init__(self, weights: DecoderMlp):
        super().__init__()
        self.weights = weights

    def forward(self, x: Tensor) -> Tensor:
        dtypes = self.weights.dtypes
        gate, up = (getattr(self.weights, part)(x.to(dtypes[part])) for part in ("gate", "up"))
        return self.weights.down((functional.silu(gate) * up.to(gate.dtype)).to(dtypes["down"])).to(torch.float32)


class Layer(nn.Module):
    def __init__(self, block: Block, config: DecoderConfig):
        super().__init__()
        self.attention, self.mlp, self.config = Attention(block.attention, config), Mlp(block.mlp), config
        self.attention_norm, self.mlp_norm = block.attention_norm, block.mlp_norm

    def forward(self, hidden: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None, cache, cache_mask: Tensor | None, last: Tensor | None):
        """Takes float32 ``[tokens, hidden]``; returns the same (one row with ``last``) and the new rows of the cache."""
        attended, key, value = self.attention(norm(hidden, self.attention_norm, self.config), cos, sin, mask, cache, cache_mask, last)
        hidden = attended + (hidden if last is None else torch.index_select(hidden, 0, last))
        return hidden + self.mlp(norm(hidden, self.mlp_norm, self.config)), key, value


class HexagonGraph(nn.Module):
    """One graph, ``first``, ``extend`` or ``decode``, of ``tokens`` a call; ``cached`` rows are read by the last two."""

    def __init__(self, decoder: Decoder, kind: str, tokens: int, cached: int):
        super().__init__()
        self.config, self.kind, self.tokens, self.cached = decoder.config, kind, tokens, cached if kind != "first" else 0
        self.layers = nn.ModuleList(Layer(block, decoder.config) for block in decoder.layers)
        self.norm, self.head, self.head_dtype = decoder.norm, decoder.head, decoder.head_dtype
        self.register_buffer("own_mask", torch.triu(torch.full((tokens, tokens), MASKED), 1), persistent=False)

    def forward(self, embedding: Tensor, cos: Tensor, sin: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        """Takes the tensors of `described` in their order; returns the new cache rows of every layer, then logits ``[1, vocabulary]``."""
        rest, outputs, hidden = list(rest), [], embedding
        last = rest.pop(0) if self.tokens > 1 else None
        cache_mask = rest.pop(0) if self.cached else None
        for number, layer in enumerate(self.layers):
            cache = (rest[2 * number], rest[2 * number + 1]) if self.cached else None
            only_last = last if number == self.config.layer_count - 1 else None
            hidden, key, value = layer(hidden, cos, sin, self.own_mask if self.tokens > 1 else None, cache, cache_mask, only_last)
            outputs += [key, value]
        hidden = norm(hidden, self.norm, self.config)
        return (*outputs, self.head(hidden.to(self.head_dtype)).to(torch.float32))

    def example(self) -> tuple[Tensor, ...]:
        """Zeros of every input's shape."""
        dtypes = {"float32": torch.float32, "int32": torch.int32}
        return tuple(torch.zeros(t.shape, dtype=dtypes[t.dtype]) for t in self.described("").inputs)

    def described(self, name: str) -> Method:
        """Inputs and outputs in their order, as the manifest has them."""
        config = self.config
        kv, dim, tokens = config.kv_head_count, config.head_dim, self.tokens

        def rows(which: str, length: int) -> list[Described]:
            return [
                Described(name=f"{part}.{n}", shape=[kv, 1, length, dim], dtype="float32")
                for n in range(config.layer_count)
                for part in ("key", "value")
            ]

        inputs = [
            Described(name="embedding", shape=[tokens, config.hidden_size], dtype="float32"),
            *(Described(name=part, shape=[tokens, 1, dim], dtype="float32") for part in ("cos", "sin")),
            *([Described(name="last", shape=[1], dtype="int32")] if tokens > 1 else []),
            *([Described(name="cache_mask", shape=[1, self.cached], dtype="float32"), *rows("cached", self.cached)] if self.cached else []),
        ]
        return Method(
            name=name,
            inputs=inputs,
            outputs=[*rows("new", tokens), Described(name="logits", shape=[1, config.vocab_size], dtype="float32")],
        )


def build_graphs(
    checkpoint: Checkpoint, config: DecoderConfig, precisions: Mapping[str, str], target: Target, report: Report = silent
) -> dict[str, HexagonGraph]:
    """Reads and quantizes the weights layer by layer; returns every graph of the target, over one set of them.

    The quantization is the CPU artifact's own. Raises `FirstTokenError` for a weight that float16 cannot hold.
    """
    with torch.device("meta"):
        decoder = Decoder(config, 1, precisions)
    load_norms(checkpoint, config, decoder)
    layers = [layer for layer in plan_layers(config) if layer.weight and layer.kind != "embedding"]
    for done, layer in enumerate(layers):
        report("quantize", done, len(layers), "layers")
        if precisions[layer.name] == "int8":
            bias = tensor(checkpoint.vector(layer.bias)).to(torch.float32) if layer.bias else None
            decoder.set_submodule(layer.name, UnpackedLinear(*read_quantized(checkpoint, layer, "int8", 0), bias))
        else:
            decoder.set_submodule(layer.name, read_linear(checkpoint, layer, precisions[layer.name], 0))
    report("quantize", len(layers), len(layers), "layers")
    del decoder.embedding, decoder.places
    graphs = graph_names(target.npu.prefill_lengths)
    return {name: HexagonGraph(decoder, kind, tokens, target.cache_length).eval() for name, kind, tokens in graphs}
