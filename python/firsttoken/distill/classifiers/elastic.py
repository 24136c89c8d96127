"""One set of weights, several widths: a slimmable network (Yu et al., arXiv:1812.08928).

A narrower network is the first channels of every layer. Batch norms cannot be shared, since narrower layers have other means: each
width has its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn
from torch.func import functional_call

from firsttoken.distill.modules import ModuleDistillation


class Elastic(nn.Module):
    """The networks that ``build(width)`` gives for ``widths``, of which the widest's weights hold all.

    ``use`` chooses the one that is computed, the widest at first; ``extract`` gives it as a network of its own.
    """

    def __init__(self, build: Callable[[float], nn.Module], widths: tuple[float, ...]) -> None:
        super().__init__()
        self.widths = tuple(sorted(widths))
        self.active = self.widths[-1]
        self._build = build
        self.shared = build(self.active)
        with torch.device("meta"):  # shapes alone: their weights are slices of the shared ones
            narrow = [build(width) for width in self.widths[:-1]]
        self.norms = nn.ModuleList(nn.ModuleDict(_own_norms(each)) for each in narrow)
        # not modules of this one, since what is on "meta" cannot be saved; their norms are
        self._narrow = dict(zip(self.widths, narrow, strict=False))

    def use(self, width: float) -> None:
        """Chooses the width that is computed from now on."""
        assert width in self.widths, "widths are those that it was made with"
        self.active = width

    def train(self, mode: bool = True) -> Self:
        for each in self._narrow.values():
            each.train(mode)
        return super().train(mode)

    def forward(self, inputs: Tensor) -> Tensor:
        if self.active not in self._narrow:
            return self.shared(inputs)
        narrow = self._narrow[self.active]
        return functional_call(narrow, self._slices(narrow), (inputs,))

    def _slices(self, narrow: nn.Module) -> dict[str, Tensor]:
        """The shared weights that a narrower network consists of, as views."""
        whole = dict(self.shared.named_parameters())
        return {name: whole[name][tuple(map(slice, each.shape))] for name, each in narrow.named_parameters() if each.is_meta}

    def extract(self, width: float) -> nn.Module:
        """Returns a network of its own with copies of the weights of one width; it computes what this one does with that width."""
        with torch.random.fork_rng(devices=[]):
            made = self._build(width)
        source = self._narrow.get(width, self.shared)
        state = {name: value for name, value in source.state_dict().items() if not value.is_meta}
        if width in self._narrow:
            state |= self._slices(source)
        made.load_state_dict(state)
        return made.train(self.training)


def _own_norms(narrow: nn.Module) -> dict[str, nn.Module]:
    """Gives a network on "meta" real batch norms, and returns them."""
    found = {name: each for name, each in narrow.named_modules() if isinstance(each, nn.BatchNorm2d)}
    for each in found.values():
        each.to_empty(device="cpu").reset_parameters()
    return {name.replace(".", "-"): each for name, each in found.items()}


class ElasticDistillation(ModuleDistillation):
    """Trains an `Elastic` student: each step is the mean of its widths' losses, all on the same samples and answers (Algorithm 1 there, with the mean for the sum). Held-out scores are the widest's."""

    student: Elastic

    def _learn(self, *given: object) -> tuple[Tensor, Tensor]:
        found = []
        for width in self.student.widths:  # the widest is last, and stays in use
            self.student.use(width)
            found.append(super()._learn(*given))  # type: ignore[arg-type]
        losses, parts = zip(*found, strict=True)
        return torch.stack(losses).mean(0), torch.stack(parts).mean(0)
