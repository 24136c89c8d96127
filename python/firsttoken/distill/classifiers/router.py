"""A student's size chosen by the input's difficulty: the small model answers, and where it is unsure the large one is asked.

The threshold on the small model's confidence is chosen on one half of the held-out samples and judged on the other (a cascade;
Viola and Jones 2001, and for language models FrugalGPT, arXiv:2305.05176).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from firsttoken.errors import FirstTokenError


class Route(NamedTuple):
    """What a threshold does: shares, from 0 to 1, and a mean cost in the unit of the costs."""

    threshold: float  # the least probability of its class at which the small model's answer stands
    accuracy: float
    cost: float
    asked_large: float


def flops_of(model: nn.Module, example: Tensor) -> int:
    """Floating point operations of one sample in ``example`` ``[samples, …]``, counted by PyTorch; two for a multiply-add."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(example)
    return counter.get_total_flops() // len(example)


def route(small: Tensor, large: Tensor, labels: Tensor, threshold: float, costs: tuple[float, float]) -> Route:
    """A threshold's accuracy and mean cost on class probabilities ``[samples, classes]`` of both models, and their costs a sample.

    The small model always runs; the large one where the small one's likeliest class is less likely than the threshold.
    """
    sure, answer = small.max(-1)
    asked = sure < threshold
    right = torch.where(asked, large.argmax(-1), answer) == labels
    share = asked.double().mean().item()
    return Route(threshold, right.double().mean().item(), costs[0] + share * costs[1], share)


def choose_threshold(small: Tensor, large: Tensor, labels: Tensor, costs: tuple[float, float], most_cost: float) -> float:
    """The threshold of the best accuracy on these samples whose mean cost is at most ``most_cost``; of equals, the cheapest.

    Raises `FirstTokenError` for a budget below the small model's own cost, or models that are not paired by size.
    """
    if not 0 < costs[0] < costs[1]:
        raise FirstTokenError(
            f"costs are {costs[0]:g} and {costs[1]:g}; expected the small model's first, above 0, and the large one's above it"
        )
    if most_cost < costs[0]:
        raise FirstTokenError(f"the budget {most_cost:g} is below the small model's own cost {costs[0]:g}; give at least that")
    if len(labels) == 0:
        raise FirstTokenError("there are no samples to choose a threshold on; give some that neither model was trained on")
    # between two neighbouring confidences nothing changes, so the confidences themselves are all that there is to try
    tried = [0.0, *sorted(set(small.max(-1).values.tolist())), 2.0]
    routes = [route(small, large, labels, threshold, costs) for threshold in tried]
    return max((each for each in routes if each.cost <= most_cost), key=lambda each: (each.accuracy, -each.cost)).threshold


@torch.no_grad()
def probabilities(model: nn.Module, inputs: Tensor) -> Tensor:
    """Class probabilities ``[samples, classes]`` of a module that gives logits."""
    return torch.cat([model.eval()(batch).float().softmax(-1).cpu() for batch in inputs.split(256)])


class Router(nn.Module):
    """Answers a batch with the small model, and with the large one what the small one is unsure of; gives the logits of whom it believed."""

    def __init__(self, small: nn.Module, large: nn.Module, threshold: float) -> None:
        super().__init__()
        self.small, self.large, self.threshold = small, large, threshold

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs ``[batch, …]`` to logits ``[batch, classes]``; the large model runs on the unsure ones alone."""
        logits = self.small(inputs)
        asked = logits.float().softmax(-1).amax(-1) < self.threshold
        return logits.masked_scatter(asked[:, None], self.large(inputs[asked]).to(logits.dtype)) if asked.any() else logits


def budgets(costs: tuple[float, float], shares: Sequence[float] = (0.1, 0.25, 0.5)) -> list[float]:
    """Mean costs at which the large model may be asked for these shares of the samples."""
    return [costs[0] + share * costs[1] for share in shares]
