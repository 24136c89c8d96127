"""Dropout of a student while it trains, where its own architecture has none.

As in the Transformer (Vaswani et al. 2017, arXiv:1706.03762, section 5.4): of the embeddings, and of what every attention and MLP adds to the
residual stream. It is done by hooks, so that neither the layers nor the config of the checkpoint change, and random numbers are PyTorch's, whose
state goes along with every training state.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from firsttoken.errors import FirstTokenError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# what transformers calls the parts of a layer that add to the residual stream
ATTENTION = ("self_attn", "linear_attn", "mamba", "conv")
MLP = ("mlp", "feed_forward", "block_sparse_moe", "shared_mlp")


def add_dropout(student: PreTrainedModel, rate: float) -> list[RemovableHandle]:
    """Drops, while ``student`` is in training mode, a share ``rate`` of those outputs and scales the rest by ``1 / (1 - rate)``.

    Returns what takes it out again. Raises `FirstTokenError` for a family whose layers are called otherwise.
    """
    places: list[nn.Module] = [student.get_input_embeddings()]
    for number, layer in enumerate(student.model.layers):
        parts = dict(layer.named_children())
        found = [[parts[name] for name in names if name in parts] for names in (ATTENTION, MLP)]
        if not all(found):
            raise FirstTokenError(
                f"training.dropout: layer {number} of {student.config.model_type} has {', '.join(parts)}, and none of {', '.join(ATTENTION if not found[0] else MLP)}; leave dropout out"
            )
        places += [module for several in found for module in several]
    return [place.register_forward_hook(dropping(rate)) for place in places]


def dropping(rate: float) -> Callable[..., Any]:
    """The hook: of a tuple the first is the output."""

    def hook(module: nn.Module, _given: tuple[Any, ...], result: Tensor | tuple[Any, ...]) -> Tensor | tuple[Any, ...]:
        if isinstance(result, tuple):
            return nn.functional.dropout(result[0], rate, module.training), *result[1:]
        return nn.functional.dropout(result, rate, module.training)

    return hook
