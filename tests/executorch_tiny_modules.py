"""Tiny networks as modules, and their .pte files, each lowered once a session: images, tokens with a mask, series, a recurrence."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from torch import nn
from torch.export import Dim, export

from firsttoken.backends.executorch.module_backend import ExecutorchModules
from firsttoken.backends.module_backend import LoweredModule, ModuleJob
from firsttoken.modules.layers import module_layers
from firsttoken.modules.module import Module, ModuleInput, ModuleOutput


class Images(nn.Module):
    """One input channel, a batch norm that is not the identity, a depthwise convolution, squeeze and excitation, two branches that meet."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8)
        self.deep, self.point = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 8, 1)
        self.excite, self.head = nn.Conv2d(8, 8, 1), nn.Linear(8, 4)
        self.norm.running_mean.normal_(0, 0.3)
        self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x):
        x = functional.relu(self.norm(self.stem(x)))
        x = x + functional.hardswish(self.point(functional.relu(self.deep(x))))
        x = x * functional.hardsigmoid(self.excite(x.mean((2, 3), keepdim=True)))
        return self.head(x.mean((2, 3)))


class Tokens(nn.Module):
    """A layer of attention over tokens of which 0 is padding, with a mask as Hugging Face's BERT has it: the lowest float32."""

    def __init__(self, width=32):
        super().__init__()
        self.table, self.places = nn.Embedding(60, width), nn.Parameter(torch.randn(12, width) * 0.3)
        self.norm, self.last = nn.LayerNorm(width), nn.LayerNorm(width)
        self.norm.weight.data.uniform_(0.5, 1.5)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down, self.head = nn.Linear(width, 64), nn.Linear(64, width), nn.Linear(width, 4)

    def heads(self, x):
        return x.view(x.shape[0], x.shape[1], 4, -1).transpose(1, 2)

    def forward(self, tokens):
        seen = tokens != 0
        x = self.table(tokens) + self.places[: tokens.shape[1]]
        lowest = torch.finfo(torch.float32).min
        mask = torch.where(seen, 0.0, lowest)[:, None, None, :].expand(-1, 1, tokens.shape[1], -1)
        y = self.norm(x)
        mixed = functional.scaled_dot_product_attention(
            *(self.heads(part(y)) for part in (self.query, self.key, self.value)), attn_mask=mask
        )
        x = x + self.out(mixed.transpose(1, 2).reshape(x.shape))
        x = x + self.down(functional.gelu(self.up(self.last(x))))
        weight = seen.to(x.dtype)[..., None]
        return self.head((x * weight).sum(1) / weight.sum(1).clamp_min(1))


class Series(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Conv1d(3, 8, 3, padding=1), nn.Conv1d(8, 8, 3, 2), nn.Linear(8, 4)

    def forward(self, x):
        return self.head(functional.relu(self.second(functional.relu(self.first(x)))).mean(2))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(3, 8, batch_first=True), nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


NETWORKS = {
    "images": (Images, lambda count: torch.randn(count, 1, 16, 16)),
    "tokens": (Tokens, lambda count: torch.randint(1, 60, (count, 12)) * (torch.arange(12) < 9)),
    "series": (Series, lambda count: torch.randn(count, 3, 20)),
    "recurrent": (Recurrent, lambda count: torch.randn(count, 3, 3)),
}


def module_of(network: nn.Module, example: tuple[torch.Tensor, ...], name: str = "tiny", **more) -> Module:
    """A network as a module with a free batch; inputs are called "x0", "x1" …, the output "scores"."""
    batch = Dim("batch", min=1, max=1 << 16)
    program = export(network.eval(), example, dynamic_shapes=tuple({0: batch} for _ in example), strict=False)
    inputs = tuple(
        ModuleInput(f"x{place}", str(one.dtype).partition(".")[2], ("batch", *one.shape[1:])) for place, one in enumerate(example)
    )
    with torch.no_grad():
        width = network(*example).shape[1:]
    return Module(name, program, inputs, (ModuleOutput("scores", ("batch", *width)),), example, "0" * 64, **more)


@cache
def tiny(name: str) -> tuple[Module, np.ndarray]:
    """A module and 24 inputs of it."""
    torch.manual_seed(3)
    network, inputs = NETWORKS[name]
    made, values = network(), inputs(24)
    return module_of(made, (values[:2],), name), values.numpy()


def scores(module: Module, values: np.ndarray) -> np.ndarray:
    return module.run(torch.from_numpy(values))["scores"].numpy()


MADE: dict = {}  # shared: each test file that takes the fixture has one of its own


@dataclass
class TinyFiles:
    """.pte files of the tiny networks; ``precisions``: one by the name of a layer or its kind, all others FP32."""

    folder: Path
    made: dict

    def job(self, name: str, precisions: dict[str, str]) -> ModuleJob:
        module, values = tiny(name)
        layers = module_layers(module.program)
        chosen = {layer.name: precisions.get(layer.name, precisions.get(layer.kind, "fp32")) for layer in layers}
        return ModuleJob(module, layers, chosen, {"x0": values}, {layer.name: "percentile" for layer in layers})

    def lower(self, name: str, **precisions: str) -> tuple[Path, LoweredModule, ModuleJob]:
        key = (name, *sorted(precisions.items()))
        if key not in self.made:
            job, path = self.job(name, precisions), self.folder / f"{len(self.made)}.pte"
            self.made[key] = path, ExecutorchModules().lower(job, path), job
        return self.made[key]

    def run(self, name: str, values: np.ndarray, **precisions: str) -> np.ndarray:
        path, lowered, _ = self.lower(name, **precisions)
        runner = ExecutorchModules().open(path, lowered.methods, 1)
        try:
            return runner.run({"x0": values})["scores"]
        finally:
            runner.close()


@pytest.fixture(scope="session")
def tiny_files(tmp_path_factory) -> TinyFiles:
    return TinyFiles(tmp_path_factory.mktemp("modules"), MADE)
