"""Modules of a few thousand weights with what converters fold: batch norms, the scale of attention, tables at fixed places, unrolled steps."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.export import Dim

from firsttoken.modules.module import Module, ModuleInput, ModuleOutput


class ConvNet(nn.Module):
    """A residual block, a depthwise convolution and a head; float32 ``[batch, 3, 12, 12]`` to ``[batch, 5]``."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.block = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8))
        self.depthwise = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1, groups=8, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.point = nn.Conv2d(8, 16, 1)
        self.head = nn.Linear(16, 5)

    def forward(self, image: Tensor) -> Tensor:
        states = self.stem(image)
        states = torch.relu(states + self.block(states))
        return self.head(torch.relu(self.point(self.depthwise(states))).mean((2, 3)))


class Encoder(nn.Module):
    """One block of attention over tokens int64 ``[batch, length]``; two classifications from the mean state."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(50, 32), nn.Embedding(16, 32)
        self.query, self.key, self.value, self.out = (nn.Linear(32, 32) for _ in range(4))
        self.norm, self.up, self.down = nn.LayerNorm(32), nn.Linear(32, 64), nn.Linear(64, 32)
        self.topic, self.tone = nn.Linear(32, 4), nn.Linear(32, 3)

    def forward(self, tokens: Tensor) -> dict[str, Tensor]:
        batch, length = tokens.shape
        states = self.words(tokens) + self.places(torch.arange(length))
        heads = [part(states).view(batch, length, 2, 16).transpose(1, 2) for part in (self.query, self.key, self.value)]
        mixed = nn.functional.scaled_dot_product_attention(*heads).transpose(1, 2).reshape(batch, length, 32)
        states = self.norm(states + self.out(mixed))
        states = (states + self.down(nn.functional.gelu(self.up(states)))).mean(1)
        return {"topic": self.topic(states), "tone": self.tone(states)}


class Series(nn.Module):
    """Two layers of an LSTM over float32 ``[batch, 4, 3]``."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(3, 16, 2, batch_first=True), nn.Linear(16, 4)

    def forward(self, series: Tensor) -> Tensor:
        return self.head(self.lstm(series)[0][:, -1])


def with_statistics(network: nn.Module, seed: int = 0) -> nn.Module:
    """Seeds its weights, and gives batch norms factors of both signs, means and variances, as training leaves them."""
    generator = torch.Generator().manual_seed(seed)
    for part in network.modules():
        for parameter in part.parameters(recurse=False):
            nn.init.normal_(parameter, 0, 0.3, generator=generator)
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean = torch.randn(part.num_features, generator=generator) * 0.1
            part.running_var = torch.rand(part.num_features, generator=generator) + 0.5
    return network.eval()


def conv_net() -> Module:
    return traced(
        "conv-net",
        with_statistics(ConvNet()),
        (torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(1)),),
        ["image"],
        {"output": 5},
        {},
    )


def encoder(lengths: tuple[int, ...] = (6, 10)) -> Module:
    tokens = torch.randint(1, 50, (2, 10), generator=torch.Generator().manual_seed(1))
    return traced(
        "encoder", with_statistics(Encoder()), (tokens,), ["tokens"], {"topic": 4, "tone": 3}, {"batch": (1, 3), "length": lengths}
    )


def series() -> Module:
    return traced(
        "series",
        with_statistics(Series()),
        (torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(1)),),
        ["series"],
        {"output": 4},
        {},
    )


def traced(
    name: str,
    network: nn.Module,
    example: tuple[Tensor, ...],
    inputs: list[str],
    outputs: Mapping[str, int],
    lengths: Mapping[str, tuple[int, ...]],
) -> Module:
    """A module with a batch of any size, and, where ``lengths`` has it, a length."""
    batch, length = Dim("batch", min=1, max=64), Dim("length", min=2, max=16)
    dynamic = tuple({0: batch, 1: length} if "length" in lengths else {0: batch} for _ in example)
    program = torch.export.export(network, example, dynamic_shapes=dynamic)
    kinds = {torch.float32: "float32", torch.int64: "int64"}
    shapes = [("batch", "length") if "length" in lengths else ("batch", *tensor.shape[1:]) for tensor in example]
    return Module(
        name,
        program,
        tuple(ModuleInput(one, kinds[tensor.dtype], shape) for one, tensor, shape in zip(inputs, example, shapes, strict=True)),
        tuple(ModuleOutput(one, ("batch", size)) for one, size in outputs.items()),
        example,
        "of a test",
        dict(lengths),
    )
