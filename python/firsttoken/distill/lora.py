"""Students that are trained through low-rank adapters (LoRA, Hu et al. 2022, arXiv:2106.09685) of the library peft.

The adapters lie inside the student's own layers, ``W x + alpha / rank * B A x``; at the end they are added to ``W``, and what is left is the
student's ordinary architecture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from firsttoken.distill.student_options import Lora
from firsttoken.errors import FirstTokenError
from firsttoken.extras import need

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def add_adapters(model: PreTrainedModel, lora: Lora) -> PreTrainedModel:
    """Puts adapters into ``model``, which stays the object that it is, and freezes all else.

    ``B`` begins as zero, so that nothing changes before training; ``A`` follows PyTorch's seed. Raises `FirstTokenError` for targets that
    the model does not have, and without peft.
    """
    need("lora", "student.lora")
    from peft import LoraConfig, inject_adapter_in_model

    targets = lora.targets if isinstance(lora.targets, str) else list(lora.targets)
    head, found = model.get_output_embeddings(), [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)]
    names = sorted({name.rpartition(".")[2] for name in found if model.get_submodule(name) is not head})
    if absent := [name for name in lora.targets if not isinstance(targets, str) and name not in names]:
        raise FirstTokenError(
            f"student.lora.targets: {absent[0]!r} is not a layer of {model.config.model_type}; expected some of {', '.join(names)}"
        )
    # the head and what is tied to it are multiplied in chunks by the loss, which knows no adapters
    config = LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=names if isinstance(targets, str) else targets, bias="none"
    )  # fmt: skip
    inject_adapter_in_model(config, model)
    return model


def merged(model: PreTrainedModel) -> PreTrainedModel:
    """Adds the adapters to the weights and takes them out; every parameter can be trained again. Raises `FirstTokenError` for weights that become infinite or NaN."""
    from peft.tuners.lora import LoraLayer

    for name, layer in [(name, module) for name, module in model.named_modules() if isinstance(module, LoraLayer)]:
        place, _, last = name.rpartition(".")
        layer.merge()
        plain = layer.get_base_layer()
        if not all(torch.isfinite(weight).all() for weight in plain.parameters()):
            raise FirstTokenError(
                f"student.lora: {name} holds NaN or infinite values with its adapter added; try a lower learning_rate or alpha"
            )
        setattr(model.get_submodule(place), last, plain)
    if hasattr(model, "peft_config"):
        del model.peft_config
    return model.requires_grad_(True)
