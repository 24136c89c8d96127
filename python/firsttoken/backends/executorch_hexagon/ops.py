"""The decoder as ExecuTorch's Qualcomm backend takes it: PyTorch modules of fixed shapes, fed by the host as LiteRT's graphs are.

Names, shapes and meaning of inputs and outputs are those of `backends.tflite_hexagon.ops`, so that one host feeds both, and
for the same reasons: no angle, no cache write and no run-time length is left to the NPU. Weights are int8 rows with one
scale each, unpacked to FP16 as they are used, or FP16; activations are never quantized.
"""

from collections.abc import Mapping

import numpy as np
import torch
import torch.ao.quantization.fx._decomposed
import torch.nn.functional as functional
from torch import Tensor, nn

from firsttoken.backends.executorch.core import Core as CacheCore
from firsttoken.backends.executorch.load import load_norms, tensor
from firsttoken.backends.executorch.model import DecoderModule
from firsttoken.backends.executorch.modules import BOUNDS, INT8
from firsttoken.backends.executorch.ops import ACTIVATIONS
from firsttoken.backends.executorch.quantize import read_linear, read_quantized
from firsttoken.backends.host_inputs import of_window, rotation_inputs
from firsttoken.backends.interface import LoweringJob
from firsttoken.backends.tflite_hexagon.ops import graph_names, own_mask
from firsttoken.bundle.manifest import Method
from firsttoken.bundle.manifest import Tensor as Described
from firsttoken.decoder import forward
from firsttoken.decoder.parts import Convolution, Core
from firsttoken.decoder.rope import Rope
from firsttoken.decoder.walk import RING_SLACK, Named, plan_layers, rotations, states, windows
from firsttoken.progress import Report, silent


class UnpackedLinear(nn.Module):
    """Linear layer on int8 ``rows [out, in]`` with float32 ``scales [out]``; float32 in and out, activations as they are.

    ExecuTorch's Qualcomm backend stores the rows as int8 and casts the activations around the layer to FP16.
    """

    rows: Tensor
    scales: Tensor
    zero_points: Tensor
    bias: Tensor | None

    def __init__(self, rows: Tensor, scales: Tensor, bias: Tensor | None) -> None:
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


class StaticCore(nn.Module):
    """Scores, softmax and weighted sum of one call's own rows, and of the cache's where there are any."""

    def __init__(self, part: Core) -> None:
        super().__init__()
        self.part = part

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        cache: tuple[Tensor, Tensor] | None,
        cache_mask: Tensor | None,
    ) -> Tensor:
        """Takes query ``[rows, heads, dim]`` (scaled), key and value ``[1, kv_heads, S, dim]``, mask ``[rows, S]`` and the cache
        ``[1, kv_heads, C, dim]`` with its mask ``[1, C]`` or ``[rows, C]``; returns ``[rows, heads * dim]``. All in one type."""
        kv, group, dim = self.part.kv_heads, self.part.group, self.part.head_dim
        rows = query.shape[0]
        # Every key/value head serves its whole group of query heads in one product of [kv, group * rows, dim].
        query = query.view(rows, kv, group, dim).permute(1, 2, 0, 3).reshape(1, kv, group * rows, dim)
        scores = self.capped(torch.matmul(query, key.transpose(2, 3)))
        if mask is not None:
            scores = scores + mask.repeat(group, 1)
        if cache is None or cache_mask is None:
            mixed = torch.matmul(torch.softmax(scores, -1), value)
        else:
            keys, values = cache
            filled = keys.shape[2]
            if cache_mask.shape[0] != 1:  # of a window: a row for every token
                cache_mask = cache_mask.repeat(group, 1)
            over_cache = self.capped(torch.matmul(query, keys.transpose(2, 3))) + cache_mask
            weights = torch.softmax(torch.cat([over_cache, scores], 3), -1)
            mixed = torch.matmul(weights[..., :filled], values) + torch.matmul(weights[..., filled:], value)
        return mixed.view(kv, group, rows, dim).permute(2, 0, 1, 3).reshape(rows, self.part.query_size)

    def capped(self, scores: Tensor) -> Tensor:
        cap = self.part.softcap
        return scores if cap is None else torch.tanh(scores * (1 / cap)) * cap


class HexagonTorchOps:
    """The traversal's operations for one call; values are ``[tokens, hidden_size]``."""

    def __init__(self, graph: "HexagonGraph", inputs: Mapping[str, Tensor]) -> None:
        self.graph, self.inputs, self.module = graph, inputs, graph.module
        self.last_index = inputs.get("last")
        self.new_rows: list[Tensor] = []

    def enter(self, name: str) -> None:
        pass  # a module's name is in the weights that are traced

    def embed(self, embedding: Named) -> Tensor:
        return self.inputs["embedding"]

    def norm(self, norm: Named, x: Tensor) -> Tensor:
        """RMSNorm (arXiv 1910.07467) or LayerNorm (arXiv 1607.06450), each as the one operator that QNN has for it."""
        weight, bias = self.module.norm_parameters(norm.name)
        if norm.centred:
            return functional.layer_norm(x.to(torch.float32), (norm.size,), weight, bias, norm.epsilon)
        return functional.rms_norm(x.to(torch.float32), (norm.size,), weight, norm.epsilon)

    def linear(self, linear: Named, x: Tensor) -> Tensor:
        return self.module.get_submodule(linear.name)(x.to(self.module.dtypes[linear.name]))

    def narrow(self, layer: Named, normed: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        return self.last_row(normed), self.last_row(residual)

    def last_row(self, x: Tensor) -> Tensor:
        return x if self.last_index is None else torch.index_select(x, 0, self.last_index)

    def last(self, x: Tensor) -> Tensor:
        return x

    def add(self, residual: Tensor, x: Tensor) -> Tensor:
        return x.to(torch.float32) + residual

    def activate(self, kind: str, x: Tensor) -> Tensor:
        return ACTIVATIONS[kind](x)

    def scale(self, x: Tensor, by: float) -> Tensor:
        return x * by

    def multiply_by(self, factor: Named, x: Tensor) -> Tensor:
        by: Tensor = self.module.get_submodule(factor.name)(x)
        return by

    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        return a * b.to(a.dtype)

    def split_heads(self, x: Tensor, heads: int, head_dim: int) -> Tensor:
        return x.view(x.shape[0], heads, head_dim)

    def rotate(self, attention: Named, which: str, x: Tensor) -> Tensor:
        x = x.to(self.module.dtypes[attention.core.name])
        tables = [self.inputs[name] for name in self.graph.turn_inputs[attention.name]]
        if x.shape[0] != tables[0].shape[0]:
            tables = [self.last_row(table) for table in tables]
        half = attention.core.head_dim // 2
        cos, sin = (self.graph.with_factor(attention.rotation, t).to(x.dtype) for t in tables)  # sin comes with its sign
        turned = x * cos + torch.cat([x[..., half:], x[..., :half]], -1) * sin
        return turned * attention.rotated_scale if which == "q" else turned

    def into_core(self, attention: Named, which: str, x: Tensor) -> Tensor:
        dtype = self.module.dtypes[attention.core.name]
        return x if which != "v" and x.dtype == dtype else x.to(dtype)  # a cast to the same type would be traced too

    def convolve(self, kernel: Named[Convolution], gate: Tensor | None, value: Tensor, narrowed: bool) -> Tensor:
        raise AssertionError(f"{kernel.name}: the backend refuses layers with a convolution")

    def attend(self, core: Named[Core], query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        part, tokens, dtype = core.part, key.shape[0], key.dtype
        key, value = (t.permute(1, 0, 2).reshape(1, part.kv_heads, tokens, part.head_dim) for t in (key, value))
        self.new_rows += [t.view(part.kv_heads, 1, tokens, part.head_dim).to(torch.float32) for t in (key, value)]
        mask = self.graph.mask(part.window) if tokens > 1 else None
        if mask is not None:
            mask = (mask if query.shape[0] == tokens else self.last_row(mask)).to(dtype)
        cache = cache_mask = None
        if self.graph.cached:
            layer = self.graph.layer_numbers[core.name]
            keys, values = (
                self.inputs[f"{which}.{layer}"].to(dtype).view(1, part.kv_heads, -1, part.head_dim) for which in ("key", "value")
            )
            cache, cache_mask = (keys, values), self.inputs[of_window("cache_mask", part.window)].to(dtype)
            if cache_mask.shape[0] != query.shape[0] and part.window is not None:
                cache_mask = self.last_row(cache_mask)
        return self.module.get_submodule(core.name)(query, key, value, mask, cache, cache_mask)


class HexagonGraph(nn.Module):
    """One graph, ``first``, ``extend`` or ``decode``, of ``tokens`` a call; ``cached`` rows are read by the last two."""

    def __init__(self, module: DecoderModule, kind: str, tokens: int, cached: int) -> None:
        super().__init__()
        self.module, self.kind, self.tokens, self.cached = module, kind, tokens, cached if kind != "first" else 0
        # Worked out here and not on the way: ExecuTorch's Qualcomm route traces with Dynamo, which follows tensors only.
        self.rotations = list(rotations(module.decoder))
        self.turn_inputs = {
            f"layers.{layer}.attention": rotation_inputs(number)
            for number, layers in enumerate(rotations(module.decoder).values())
            for layer in layers
        }
        self.layer_numbers = {state.name: state.layer for state in states(module.decoder)}
        for number, rope in enumerate(self.rotations):
            if len(rope.factors) > 1:
                factors = torch.from_numpy(np.resize(rope.factors, 2 * len(rope.inverse_frequencies)))
                self.register_buffer(f"factors_{number}", factors, persistent=False)
        self.windows = windows(module.decoder)
        for window in self.windows:
            self.register_buffer(of_window("own_mask", window), torch.from_numpy(own_mask(tokens, window)), persistent=False)
        self.input_names = [tensor.name for tensor in self.described("").inputs]

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        """Takes the tensors of `described` in their order; returns the new cache rows of every layer, then logits ``[1, vocabulary]``."""
        ops = HexagonTorchOps(self, dict(zip(self.input_names, given, strict=True)))
        logits = forward.logits(ops, Named(self.module.decoder)).to(torch.float32)
        return (*ops.new_rows, logits)

    def mask(self, window: int | None) -> Tensor:
        """The causal mask ``[tokens, tokens]`` of layers with this window."""
        return self.get_buffer(of_window("own_mask", window))

    def with_factor(self, rope: Rope, table: Tensor) -> Tensor:
        """cos or sin times the rotation's factor."""
        if len(rope.factors) > 1:
            return table * self.get_buffer(f"factors_{self.rotations.index(rope)}")
        return table if rope.factor == 1 else table * rope.factor

    def example(self) -> tuple[Tensor, ...]:
        """Zeros of every input's shape."""
        dtypes = {"float32": torch.float32, "int32": torch.int32}
        return tuple(torch.zeros([int(n) for n in t.shape], dtype=dtypes[t.dtype]) for t in self.described("").inputs)

    def described(self, name: str) -> Method:
        """Inputs and outputs in their order, as the manifest has them."""
        decoder, tokens = self.module.decoder, self.tokens

        def rows(length: int, kept: bool) -> list[Described]:
            return [
                Described(
                    name=f"{part}.{state.layer}",
                    shape=[state.kv_heads, 1, state.rows(length) if kept else length, state.head_dim],
                    dtype="float32",
                )
                for state in states(decoder)
                for part in ("key", "value")
            ]

        inputs = [Described(name="embedding", shape=[tokens, decoder.hidden_size], dtype="float32")]
        for number, rope in enumerate(self.rotations):
            shape: list[int | str] = [tokens, 1, 2 * len(rope.inverse_frequencies)]
            inputs += [Described(name=part, shape=shape, dtype="float32") for part in rotation_inputs(number)]
        if tokens > 1:
            inputs.append(Described(name="last", shape=[1], dtype="int32"))
        if self.cached:
            for window in self.windows:
                shape = [1, self.cached] if window is None else [tokens, min(self.cached, window + RING_SLACK)]
                inputs.append(Described(name=of_window("cache_mask", window), shape=shape, dtype="float32"))
            inputs += rows(self.cached, True)
        return Method(
            name=name,
            inputs=inputs,
            outputs=[*rows(tokens, False), Described(name="logits", shape=[1, decoder.vocab_size], dtype="float32")],
        )


def build_graphs(job: LoweringJob, report: Report = silent) -> dict[str, HexagonGraph]:
    """Reads and quantizes the weights layer by layer; returns every graph of the target, over one set of them.

    The quantization is the CPU artifact's own. Raises `FirstTokenError` for a weight that float16 cannot hold.
    """
    checkpoint, decoder, precisions, target = job.checkpoint, job.decoder, job.precisions, job.target
    with torch.device("meta"):
        module = DecoderModule(decoder, 1, job.precisions)
    load_norms(checkpoint, decoder, module)
    layers = [layer for layer in plan_layers(decoder) if layer.kind != "embedding"]
    for done, layer in enumerate(layers):
        report("quantize", done, len(layers), "layers")
        if layer.weight is None:
            core = module.get_submodule(layer.name)
            assert isinstance(core, CacheCore), f"{layer.name} has no weight and is no core"
            module.set_submodule(layer.name, StaticCore(core.part))
        elif precisions[layer.name] == "int8":
            bias = tensor(checkpoint.vector(layer.bias)).to(torch.float32) if layer.bias else None
            module.set_submodule(layer.name, UnpackedLinear(*read_quantized(checkpoint, layer, "int8"), bias))
        else:
            module.set_submodule(layer.name, read_linear(checkpoint, layer, precisions[layer.name]))
    report("quantize", len(layers), len(layers), "layers")
    del module.embedding
    module.drop_tables()
    names = graph_names(target.npu_options.prefill_lengths)
    return {name: HexagonGraph(module, kind, tokens, target.cache_length).eval() for name, kind, tokens in names}
