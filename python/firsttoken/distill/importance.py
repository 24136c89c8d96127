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

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Importance:
    """Larger matters more. ``layers`` ``[layers]``, ``hidden`` ``[hidden size]``, ``heads`` ``[layers, query heads]``, ``mlp`` ``[layers, MLP width]``."""

    layers: Tensor
    hidden: Tensor
    heads: Tensor
    mlp: Tensor


def by_l1(model: PreTrainedModel) -> Importance:
    """Sums of absolute weights of a transformers decoder of the Llama family tree."""
    config, blocks = model.config, model.model.layers
    heads, mlp, layers = [], [], []
    hidden = model.model.embed_tokens.weight.detach().abs().sum(0)
    for block in blocks:
        q, k, v, o = (getattr(block.self_attn, f"{name}_proj").weight.detach().abs() for name in "qkvo")
        gate, up, down = (getattr(block.mlp, f"{name}_proj").weight.detach().abs() for name in ("gate", "up", "down"))
        count = config.num_attention_heads
        heads.append(q.reshape(count, -1).sum(1) + o.t().reshape(count, -1).sum(1))
        mlp.append(gate.sum(1) + up.sum(1) + down.sum(0))
        hidden = hidden + sum(m.sum(0) for m in (q, k, v, gate, up)) + o.sum(1) + down.sum(1)
        layers.append(sum(m.sum() for m in (q, k, v, o, gate, up, down)))
    return Importance(torch.stack(layers), hidden, torch.stack(heads), torch.stack(mlp))


@torch.no_grad()
def by_activation(model: PreTrainedModel, batches: Iterable[Tensor]) -> Importance:
    """Runs token batches ``[batch, length]`` through the model and averages over all positions, in float64."""
    config, blocks = model.config, model.model.layers
    count, positions = len(blocks), 0
    layers = torch.zeros(count, dtype=torch.float64)
    hidden = torch.zeros(config.hidden_size, dtype=torch.float64)
    heads = torch.zeros(count, config.num_attention_heads, dtype=torch.float64)
    mlp = torch.zeros(count, config.intermediate_size, dtype=torch.float64)

    def add_heads(number: int) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            heads[number] += given[0].unflatten(-1, (config.num_attention_heads, -1)).norm(dim=-1).flatten(0, -2).double().sum(0).cpu()

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
    for number, block in enumerate(blocks):
        handles.append(block.self_attn.o_proj.register_forward_pre_hook(add_heads(number)))
        handles.append(block.mlp.down_proj.register_forward_pre_hook(add_mlp(number)))
        handles += [norm.register_forward_hook(add_hidden) for norm in (block.input_layernorm, block.post_attention_layernorm)]
        handles.append(block.register_forward_hook(add_layer(number), with_kwargs=True))
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
