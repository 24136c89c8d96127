"""Several streams of the hidden state ``[1, S, streams, hidden_size]`` (AltUp, arXiv 2301.13310), and sparse MLPs, in operators that XNNPACK takes.

A mean is a linear layer with one constant row, as in `norm`. No stream is cut out of the state while its length is a run-time one: XNNPACK takes
no slice of such a tensor, so what is needed of one stream is computed for itself.
"""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from firsttoken.decoder import parts
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import Named

if TYPE_CHECKING:
    from firsttoken.backends.executorch.model import DecoderModule


class CoefficientsModule(nn.Module):
    """``[1, S, columns]`` to ``[1, S, rows]``, or to the first stream's rows alone, which are kept a second time."""

    factors: Tensor
    offset: Tensor
    first_factors: Tensor
    first_offset: Tensor

    def __init__(self, part: parts.Coefficients) -> None:
        super().__init__()
        offset = torch.tensor(part.offset, device="cpu")
        for name, rows in (("", part.rows), ("first_", part.first)):
            self.register_buffer(f"{name}factors", torch.zeros(rows, part.columns, device="cpu"), persistent=False)
            self.register_buffer(f"{name}offset", offset[:rows].clone(), persistent=False)

    def fill(self, weight: Tensor) -> None:
        """Takes over a weight ``[rows, columns]``."""
        self.factors.copy_(weight)
        self.first_factors.copy_(weight[: len(self.first_factors)])

    def forward(self, x: Tensor, first: bool) -> Tensor:
        return functional.linear(x, self.first_factors, self.first_offset) if first else functional.linear(x, self.factors, self.offset)


class CutoffModule(nn.Module):
    """What is left of float32 ``[1, S, size]`` above its mean and so many standard deviations."""

    mean_row: Tensor

    def __init__(self, part: parts.Cutoff) -> None:
        super().__init__()
        self.deviations = part.deviations
        self.register_buffer("mean_row", torch.full((1, part.size), 1.0 / part.size, device="cpu"), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        centred = x - functional.linear(x, self.mean_row)
        return functional.relu(centred - torch.sqrt(functional.linear(centred * centred, self.mean_row)) * self.deviations)


def stream_constants(decoder: Decoder) -> dict[str, Tensor]:
    """The model's own constants for its streams, by name."""
    if decoder.streams is None:
        return {}
    later = torch.ones(1, 1, decoder.streams.count, 1, device="cpu")
    later[:, :, 0] = 0
    size = decoder.hidden_size
    return {"later_streams": later, "stream_mean": torch.full((1, size), 1.0 / size, device="cpu")}


class StreamsOps:
    """`decoder.forward.StreamedOps`, all in float32."""

    model: "DecoderModule"

    def stack(self, streams: list[Tensor]) -> Tensor:
        return torch.cat([x.to(torch.float32).unsqueeze(2) for x in streams], 2)

    def unstack(self, x: Tensor, count: int) -> list[Tensor]:
        return [x[:, :, number] for number in range(count)]

    def match(self, part: Named, x: Tensor, like: Tensor) -> Tensor:
        x = x.to(torch.float32)
        own, wanted = (functional.linear(t * t, self.model.stream_mean) for t in (x, like))
        return x * (torch.rsqrt(torch.clamp(own, min=part.floor)) * torch.sqrt(wanted))

    def coefficients(self, part: Named[parts.Coefficients], x: Tensor, first: bool = False) -> Tensor:
        return self.model.get_submodule(part.name)(x, first)

    def mix(self, factors: Tensor, x: Tensor) -> Tensor:
        streams, size = x.shape[2:]
        count = factors.shape[2] // streams
        mixed = torch.bmm(factors.view(-1, count, streams), x.view(-1, streams, size))
        return mixed.view(1, -1, size) if count == 1 else mixed.view(1, -1, count, size)

    def spread(self, x: Tensor, factors: Tensor | None, streams: int) -> Tensor:
        by = self.model.later_streams if factors is None else factors.view(1, -1, streams, 1)
        return x.view(1, -1, 1, x.shape[2]) * by

    def subtract(self, a: Tensor, b: Tensor) -> Tensor:
        return a - b

    def cut_off(self, part: Named[parts.Cutoff], x: Tensor) -> Tensor:
        return self.model.get_submodule(part.name)(x.to(torch.float32))
