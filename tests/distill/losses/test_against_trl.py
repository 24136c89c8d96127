"""The losses against what TRL's trainers computed on the same batches; scripts/trl_reference.py wrote it down."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from firsttoken.distill.losses.cross_tokenizer import gold, uld
from firsttoken.distill.losses.divergence import forward_kl, jensen_shannon, reverse_kl

TRL = json.loads((Path(__file__).parent / "trl_reference.json").read_text())
ROWS, LENGTH, OURS, THEIRS = 2, 7, 23, 31
MATCHED = torch.tensor([[2, 3, 11, 20], [5, 4, 0, 30]])


def logits(seed, vocabulary):
    return torch.from_numpy(2 * np.random.default_rng(seed).normal(size=(ROWS, LENGTH, vocabulary)))


@pytest.mark.parametrize("case", TRL["jensen_shannon"], ids=str)
def test_generalised_jensen_shannon_and_its_ends(case):
    student, teacher, temperature = logits(0, OURS), logits(1, OURS), case["temperature"]
    if case["beta"] in (0, 1):
        value = {0: forward_kl, 1: reverse_kl}[case["beta"]](student, teacher, temperature)
    else:
        value = jensen_shannon(student, teacher, temperature, case["beta"])
    counted = torch.ones(ROWS, LENGTH, dtype=torch.bool)
    counted[0, :2] = False
    assert value[counted].mean().item() / temperature**2 == pytest.approx(case["loss"], rel=1e-9)  # TRL does not multiply by T**2


@pytest.mark.parametrize("case", TRL["uld"], ids=str)
def test_sorted_distance(case):
    assert uld(logits(2, OURS), logits(3, THEIRS), case["temperature"]).mean().item() == pytest.approx(case["loss"], rel=1e-9)


@pytest.mark.parametrize("case", TRL["gold"], ids=str)
def test_hybrid_loss(case):
    value = gold(logits(2, OURS), logits(3, THEIRS), case["temperature"], case["beta"], (MATCHED[0], MATCHED[1]))
    assert value.mean().item() == pytest.approx(case["loss"], rel=1e-6)  # TRL clamps and keeps its weight in float32
