"""Quantization-aware training: a transformers decoder that computes as its exported file will.

torchao's ``QATConfig`` swaps linear layers and embedding for ones that round weights and activations on the way
(Jacob et al., arXiv:1712.05877; gradients pass straight through). Weights are rounded with the arithmetic of the
runtime that is trained for: torchao's for ExecuTorch, which exports with it (int4 scales in bfloat16, as XNNPACK keeps
them), and `backends.tflite.quantize`'s for TensorFlow Lite. Layers in fp16 or fp32 stay as they are.
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
from torch import nn

from firsttoken.backends.interface import Backend
from firsttoken.decoder.walk import Layer
from firsttoken.errors import FirstTokenError
from firsttoken.precisions import PRECISIONS
from firsttoken.quant.plan import Plan
from firsttoken.weight_source import Stack

Trained = TypeVar("Trained", bound=nn.Module)

BITS = {8: torch.int8, 4: torch.int4}  # type: ignore[attr-defined]  # PyTorch's stubs lack int4


def prepare(model: nn.Module, layers: Sequence[Layer], precisions: Mapping[str, str], plan: Plan, backend: Backend) -> list[str]:
    """Makes ``model`` (Hugging Face names) round the layers that ``precisions`` gives integers; returns their names.

    ``precisions`` are what ``plan`` gives ``layers``, ``backend`` is the one that will export it. Weights stay float32 parameters. Undone by
    `finish`.
    """
    from torchao.quantization import Int8DynamicActivationIntxWeightConfig, IntxWeightOnlyConfig, PerAxis, PerGroup, quantize_
    from torchao.quantization.qat import QATConfig

    rounded = []
    for layer in layers:
        precision = PRECISIONS[precisions[layer.name]]
        if precision.scales is None or layer.weight is None:
            continue
        if precision.static is not None:
            raise FirstTokenError(
                f"training for quantization rounds activations as they come, which {precision.name} of {layer.name} does not; train with a plan that has int8 for it, and export by this one"
            )
        if isinstance(layer.weight, Stack):
            raise FirstTokenError(
                f"training for quantization does not know experts, whose weights transformers keeps in one tensor, not in layers ({layer.name}); "
                "export the checkpoint by a plan instead, or train a model without them"
            )
        path = "lm_head" if layer.name == "head" else layer.weight.name.removesuffix(".weight")
        columns = layer.matrix[1][1]
        group = plan.group(layer.name, columns)
        granularity = PerAxis(0) if group == columns else PerGroup(group)
        if layer.kind == "embedding":
            base = IntxWeightOnlyConfig(weight_dtype=BITS[precision.bits], granularity=granularity)
        else:
            base = Int8DynamicActivationIntxWeightConfig(weight_dtype=BITS[precision.bits], weight_granularity=granularity)
        quantize_(model, QATConfig(base, step="prepare"), filter_fn=lambda _, name, path=path: name == path)
        rounding = backend.weight_rounding(precision.name, layer.kind, group)
        if rounding is not None:
            model.get_submodule(path).weight_fake_quantizer = rounding
        states = None if layer.kind == "embedding" else backend.activation_rounding(precision.name, group, columns)
        if states is not None:
            model.get_submodule(path).activation_fake_quantizer = states
        rounded.append(layer.name)
    return rounded


def finish(model: Trained) -> Trained:
    """Puts plain layers back, with the weights as they were trained; returns ``model``."""
    from torchao.quantization import quantize_
    from torchao.quantization.qat import QATConfig
    from torchao.quantization.qat.embedding import FakeQuantizedEmbedding
    from torchao.quantization.qat.linear import FakeQuantizedLinear

    rounds = (FakeQuantizedLinear, FakeQuantizedEmbedding)
    quantize_(model, QATConfig(step="convert"), filter_fn=lambda module, _: isinstance(module, rounds))
    return model
