"""How much each part of a decoder matters: by what it does on real text, or by the size of its weights.

By activation, as Minitron does (arXiv:2407.14679): MLP channels and attention heads by the mean size of what
they put out, hidden channels by the mean size of the normalised states, layers by how far they turn the residual stream
(block influence, ShortGPT, arXiv:2403.03853). By L1: the sum of the absolute weights that belong to the part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from firsttoken.decoder.parts import Decoder, Embedding, Linear, Norm
from firsttoken.distill.cut_sizes import attention_of, sizes_of
from firsttoken.weight_source import Source

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Importance:
    """Larger matters more. ``layers`` ``[layers]``, ``hidden`` ``[hidden size]``, ``heads`` ``[layers, query heads]``, ``mlp`` ``[layers, MLP width]``."""

    layers: Tensor
    hidden: Tensor
    heads: Tensor
    mlp: Tensor


def by_l1(model: PreTrainedModel, decoder: Decoder) -> Importance:
    """Sums of absolute weights of a transformers model that is described by ``decoder``."""
    heads, mlp, layers = [], [], []

    def size(part: Embedding | Linear) -> Tensor:
        return taken(model.get_parameter(part.weight.name).detach(), part.weight).abs()

    hidden = size(decoder.embedding).sum(0)
    for block in decoder.layers:
        attention = attention_of(block)
        assert attention.k is not None and attention.v is not None, "`cut_sizes.check_cuttable` refuses the others"
        q, k, v, o = (size(part) for part in (attention.q, attention.k, attention.v, attention.output))
        assert block.mlp.gate is not None, "`cut_sizes.check_cuttable` refuses the others"
        gate, up, down = (size(part) for part in (block.mlp.gate, block.mlp.up, block.mlp.down))
        count = attention.core.heads
        heads.append(q.reshape(count, -1).sum(1) + o.t().reshape(count, -1).sum(1))
        mlp.append(gate.sum(1) + up.sum(1) + down.sum(0))
        hidden = hidden + sum(m.sum(0) for m in (q, k, v, gate, up)) + o.sum(1) + down.sum(1)
        layers.append(torch.stack([m.sum() for m in (q, k, v, o, gate, up, down)]).sum())
    return Importance(torch.stack(layers), hidden, torch.stack(heads), torch.stack(mlp))


def module_of(model: nn.Module, part: Linear | Norm) -> nn.Module:
    """The module of a transformers model that holds a part's weight."""
    assert part.weight is not None, "a norm without a weight has no module of its own"
    return model.get_submodule(part.weight.name.removesuffix(".weight"))


@torch.no_grad()
def by_activation(model: PreTrainedModel, decoder: Decoder, batches: Iterable[Tensor]) -> Importance:
    """Runs token batches ``[batch, length]`` through the model and averages over all positions, in float64."""
    count, positions, sizes = len(decoder.layers), 0, sizes_of(decoder)
    layers = torch.zeros(count, dtype=torch.float64)
    hidden = torch.zeros(sizes.hidden_size, dtype=torch.float64)
    heads = torch.zeros(count, sizes.heads, dtype=torch.float64)
    mlp = torch.zeros(count, sizes.intermediate_size, dtype=torch.float64)

    def add_heads(number: int) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            heads[number] += given[0].unflatten(-1, (sizes.heads, -1)).norm(dim=-1).flatten(0, -2).double().sum(0).cpu()

        return hook

    def add_mlp(number: int) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            mlp[number] += given[0].abs().flatten(0, -2).double().sum(0).cpu()

        return hook

    def add_hidden(_module: nn.Module, _given: tuple[Tensor, ...], states: Tensor) -> None:
        hidden.add_(states.abs().flatten(0, -2).double().sum(0).cpu())

    def add_layer(number: int) -> Callable[..., None]:
        def hook(_module: nn.Module, given: tuple[Tensor, ...], keywords: dict[str, Tensor], result: Tensor | tuple[Tensor, ...]) -> None:
            before = given[0] if given else keywords["hidden_states"]
            after = result[0] if isinstance(result, tuple) else result
            layers[number] += (1 - nn.functional.cosine_similarity(before, after, dim=-1)).double().sum().cpu()

        return hook

    handles = []
    for number, block in enumerate(decoder.layers):
        handles.append(module_of(model, attention_of(block).output).register_forward_pre_hook(add_heads(number)))
        handles.append(module_of(model, block.mlp.down).register_forward_pre_hook(add_mlp(number)))
        assert block.attention_norm is not None and block.mlp_norm is not None, "`cut_sizes.check_cuttable` refuses the others"
        handles += [module_of(model, norm).register_forward_hook(add_hidden) for norm in (block.attention_norm, block.mlp_norm)]
        assert block.attention_norm.weight is not None
        whole = model.get_submodule(block.attention_norm.weight.name.rsplit(".", 2)[0])  # the layer that the norm stands in
        handles.append(whole.register_forward_hook(add_layer(number), with_kwargs=True))
    training = model.training
    model.eval()
    try:
        for tokens in batches:
            model.model(input_ids=tokens.to(model.device), use_cache=False)
            positions += tokens.numel()
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    if not positions:
        raise ValueError("no calibration tokens; expected at least one batch")
    return Importance(layers / positions, hidden / (2 * count * positions), heads / positions, mlp / positions)


def taken(tensor: Tensor, source: Source, put: Tensor | None = None) -> Tensor:
    """The stored rows that ``source`` takes from a checkpoint's tensor, in its order; ``put`` replaces them in it."""
    begin, end = source.rows or (0, len(tensor))
    rows = torch.arange(begin, end)
    if source.order is not None:
        rows = rows.view(-1, source.period or len(source.order))[:, list(source.order)].flatten()
    if put is not None:
        tensor[rows] = put
    return tensor[rows]
