"""The router: its arithmetic by hand, its choice against trying all thresholds, and trained models of two sizes."""

import pytest
import torch
from torch import nn

from firsttoken.distill.classifiers.router import Router, budgets, choose_threshold, flops_of, probabilities, route
from firsttoken.errors import FirstTokenError

SMALL = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.55, 0.45], [0.2, 0.8]])
LARGE = torch.tensor([[0.1, 0.9], [0.3, 0.7], [0.2, 0.8], [0.9, 0.1]])
LABELS = torch.tensor([0, 1, 1, 1])


def test_a_route_counts_who_answered_and_what_it_cost():
    assert route(SMALL, LARGE, LABELS, 0.0, (1, 10)) == (0.0, 0.5, 1, 0)
    assert route(SMALL, LARGE, LABELS, 0.7, (1, 10)) == (0.7, 1.0, 6, 0.5)
    assert route(SMALL, LARGE, LABELS, 2.0, (1, 10)) == (2.0, 0.5, 11, 1)


def test_the_choice_is_the_best_that_the_budget_pays():
    random = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (200,), generator=random)
    truth = nn.functional.one_hot(labels, 3).float()
    small = (truth + 1.5 * torch.randn(200, 3, generator=random)).softmax(-1)
    large = (2 * truth + torch.randn(200, 3, generator=random)).softmax(-1)
    costs, found = (1.0, 20.0), []
    for budget in (1.0, *budgets(costs), 21.0):
        chosen = choose_threshold(small, large, labels, costs, budget)
        got = route(small, large, labels, chosen, costs)
        grid = [route(small, large, labels, step / 2000, costs) for step in range(2200)]
        assert got.cost <= budget and got.accuracy >= max(each.accuracy for each in grid if each.cost <= budget)
        found.append(got.accuracy)
    assert found == sorted(found) and found[-1] > found[0] + 0.1
    assert budgets(costs) == [3.0, 6.0, 11.0]


def test_the_router_gives_each_sample_the_logits_of_whom_it_believes():
    torch.manual_seed(0)
    small, large, inputs = nn.Linear(4, 3), nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3)), torch.randn(40, 4)
    threshold = probabilities(small, inputs).amax(-1).median().item()
    asked = small(inputs).softmax(-1).amax(-1) < threshold
    seen = []
    large.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    got = Router(small, large, threshold)(inputs)
    assert 5 < asked.sum() < 35 and seen == [int(asked.sum())]
    torch.testing.assert_close(got[asked], large(inputs[asked]))
    torch.testing.assert_close(got[~asked], small(inputs[~asked]))
    labels = torch.randint(0, 3, (40,))
    figures = route(probabilities(small, inputs), probabilities(large, inputs), labels, threshold, (1, 2))
    assert figures.accuracy == pytest.approx((got.argmax(-1) == labels).double().mean().item())


def test_costs_are_pytorchs_count():
    assert flops_of(nn.Linear(10, 7), torch.zeros(4, 10)) == 2 * 10 * 7
    assert flops_of(nn.Conv2d(2, 3, 3, padding=1), torch.zeros(2, 2, 8, 8)) == 2 * 64 * 2 * 9 * 3


@pytest.mark.parametrize(
    "costs,budget,count,message",
    [
        ((2.0, 1.0), 3.0, 4, "expected the small model's first"),
        ((1.0, 5.0), 0.5, 4, "below the small model's own cost 1"),
        ((1.0, 5.0), 2.0, 0, "no samples to choose a threshold on"),
    ],
)
def test_what_cannot_be_chosen_is_said(costs, budget, count, message):
    with pytest.raises(FirstTokenError, match=message):
        choose_threshold(SMALL[:count], LARGE[:count], LABELS[:count], costs, budget)
