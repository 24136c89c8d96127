"""Quantization-aware training: a transformers decoder that computes as its exported file will.

torchao's ``QATConfig`` swaps linear layers and embedding for ones that round weights and activations on the way
(Jacob et al., arXiv:1712.05877; gradients pass straight through). Weights are rounded with the arithmetic of the
runtime that is trained for: torchao's for ExecuTorch, which exports with it (int4 scales in bfloat16, as XNNPACK keeps
them), and `backends.tflite.quantize`'s for TensorFlow Lite. Layers in fp16 or fp32 stay as they are.
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from firsttoken.backends.tflite.quantize import SMALLEST_BOUND
from firsttoken.decoder.walk import Layer

BITS = {"int8": torch.int8, "int4": torch.int4}  # type: ignore[attr-defined]  # PyTorch's stubs lack int4
Trained = TypeVar("Trained", bound=nn.Module)
SMALLEST_SCALE = 6e-8  # the smallest float16 above zero


def prepare(model: nn.Module, layers: Sequence[Layer], precisions: Mapping[str, str], group_size: int, runtime: str) -> list[str]:
    """Makes ``model`` (Hugging Face names) round the layers that ``precisions`` gives int8 or int4; returns their names.

    ``layers`` are the plan's, ``runtime`` is ``tflite`` or ``executorch``. Weights stay float32 parameters. Undone by
    `finish`.
    """
    from torchao.quantization import Int8DynamicActivationIntxWeightConfig, IntxWeightOnlyConfig, PerAxis, PerGroup, quantize_
    from torchao.quantization.qat import QATConfig

    rounded = []
    for layer in layers:
        precision = precisions[layer.name]
        if precision not in BITS or layer.weight is None:
            continue
        path = "lm_head" if layer.name == "head" else layer.weight.name.removesuffix(".weight")
        granularity = PerGroup(group_size) if precision == "int4" else PerAxis(0)
        if layer.kind == "embedding":
            base = IntxWeightOnlyConfig(weight_dtype=BITS[precision], granularity=granularity)
        else:
            base = Int8DynamicActivationIntxWeightConfig(weight_dtype=BITS[precision], weight_granularity=granularity)
        quantize_(model, QATConfig(base, step="prepare"), filter_fn=lambda _, name, path=path: name == path)
        if runtime == "tflite":
            model.get_submodule(path).weight_fake_quantizer = TfliteRounding(precision, group_size)
        elif precision == "int4" and layer.kind == "linear":
            model.get_submodule(path).weight_fake_quantizer = XnnpackInt4Rounding(group_size)
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


class Rounding(nn.Module):
    """Weights ``[rows, columns]`` rounded by `rounded`, with the gradient of the identity; takes torchao's place in its layers."""

    config = None  # torchao asks for it when it puts plain layers back

    def forward(self, weight: Tensor) -> Tensor:
        with torch.no_grad():
            rounded = self.rounded(weight)
        return weight + (rounded - weight).detach()

    def rounded(self, weight: Tensor) -> Tensor:
        raise NotImplementedError


class XnnpackInt4Rounding(Rounding):
    """torchao's int4 groups as XNNPACK keeps them in a .pte: the scales in bfloat16."""

    def __init__(self, group_size: int) -> None:
        super().__init__()
        self.group_size = group_size

    def rounded(self, weight: Tensor) -> Tensor:
        """What the file's integers stand for, float32 ``[rows, columns]``."""
        from torchao.quantization import IntxUnpackedToInt8Tensor

        made = IntxUnpackedToInt8Tensor.from_hp(weight, (1, self.group_size), BITS["int4"])
        return (made.qdata.unflatten(1, (-1, self.group_size)) * made.scale.bfloat16().float()[:, :, None]).flatten(1)


class TfliteRounding(Rounding):
    """As `backends.tflite.quantize` does."""

    def __init__(self, precision: str, group_size: int) -> None:
        super().__init__()
        self.precision, self.group_size = precision, group_size

    def rounded(self, weight: Tensor) -> Tensor:
        """What the file's integers stand for, float32 ``[rows, columns]``."""
        if self.precision == "int8":
            scale = weight.abs().amax(1, keepdim=True).clamp_min(float(SMALLEST_BOUND)) / 127
            return (weight / scale).round().clamp(-127, 127) * scale
        grouped = weight.unflatten(1, (-1, self.group_size))
        scale = grouped.abs().amax(2, keepdim=True).clamp_min(float(SMALLEST_BOUND)) / 7
        scale = scale.bfloat16().half().float().clamp_min(SMALLEST_SCALE)
        return ((grouped / scale).round().clamp(-8, 7) * scale).flatten(1)
