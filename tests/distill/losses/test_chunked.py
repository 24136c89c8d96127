"""The chunked head against one full product, and its memory against the full logits."""

import os
import subprocess
import sys

import pytest
import torch

from firsttoken.distill.losses.chunked import chunked_head_loss
from firsttoken.distill.losses.divergence import cross_entropy, forward_kl


def tensors(positions=13, width=5, vocab=17, seed=0):
    generator = torch.Generator().manual_seed(seed)
    make = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    labels = torch.randint(0, vocab, (positions,), generator=generator)
    labels[::4] = -100
    return make(positions, width), make(vocab, width), make(vocab), make(positions, vocab), labels


def loss_with(teacher, labels):
    def loss_of(logits, where):
        counted = labels[where] != -100
        kl, hard = (forward_kl(logits, teacher[where], 2.0) * counted).sum(), cross_entropy(logits, labels[where]).sum()
        return 0.7 * kl + 0.3 * hard, torch.stack([kl, hard])

    return loss_of


@pytest.mark.parametrize("chunk", [1, 4, 13, 100])
@pytest.mark.parametrize("with_bias", [True, False])
def test_values_and_gradients_are_those_of_the_full_logits(chunk, with_bias):
    hidden, weight, bias, teacher, labels = tensors()
    inputs = [hidden.requires_grad_(), weight.requires_grad_(), *([bias.requires_grad_()] if with_bias else [])]
    full, parts = loss_with(teacher, labels)(torch.nn.functional.linear(*inputs), slice(0, 13))
    expected = torch.autograd.grad(3 * full, inputs)
    value, shown = chunked_head_loss(hidden, weight, bias if with_bias else None, loss_with(teacher, labels), chunk)
    torch.testing.assert_close(value, full)
    torch.testing.assert_close(shown, parts.detach())
    for got, wanted in zip(torch.autograd.grad(3 * value, inputs), expected, strict=True):
        torch.testing.assert_close(got, wanted)


def test_gradcheck():
    hidden, weight, bias, teacher, labels = tensors()
    inputs = [t.requires_grad_() for t in (hidden, weight, bias)]
    assert torch.autograd.gradcheck(lambda *t: chunked_head_loss(*t, loss_with(teacher, labels), 5)[0], inputs)


def test_masked_positions_have_exactly_no_gradient():
    hidden, weight, _, teacher, labels = tensors()
    value, _ = chunked_head_loss(hidden.requires_grad_(), weight, None, loss_with(teacher, labels), 4)
    [slope] = torch.autograd.grad(value, hidden)
    assert (slope[labels == -100] == 0).all() and (slope[labels != -100] != 0).any(-1).all()


def test_what_needs_no_gradient_gets_none_and_evaluation_works():
    hidden, weight, _bias, teacher, labels = tensors()
    value, _ = chunked_head_loss(hidden, weight.requires_grad_(), None, loss_with(teacher, labels), 4)
    value.backward()
    assert hidden.grad is None and weight.grad is not None
    with torch.no_grad():
        plain, _ = chunked_head_loss(hidden, weight, None, loss_with(teacher, labels), 4)
    torch.testing.assert_close(plain, value.detach())


def test_under_autocast_the_head_is_computed_in_half_precision_and_its_gradient_kept_in_float32():
    hidden, weight, _, teacher, labels = (t.float() if t.is_floating_point() else t for t in tensors())
    seen = []

    def loss_of(logits, where):
        seen.append(logits.dtype)
        return loss_with(teacher, labels)(logits, where)

    exact, _ = chunked_head_loss(hidden, weight.requires_grad_(), None, loss_of, 4)
    [wanted] = torch.autograd.grad(exact, weight)
    with torch.autocast("cpu", torch.bfloat16):
        half, _ = chunked_head_loss(hidden, weight, None, loss_of, 4)
    [got] = torch.autograd.grad(half, weight)
    assert seen[0] == torch.float32 and seen[-1] == torch.bfloat16 and got.dtype == torch.float32
    assert (got - wanted).norm() < 0.05 * wanted.norm()


def test_wrong_arguments():
    hidden, weight, _, teacher, labels = tensors()
    with pytest.raises(ValueError, match="at least one"):
        chunked_head_loss(hidden, weight, None, loss_with(teacher, labels), 0)
    with pytest.raises(ValueError, match="expected \\[positions, width\\]"):
        chunked_head_loss(hidden[None], weight, None, loss_with(teacher, labels), 4)


PEAK = """
import re, sys, torch
from firsttoken.distill.losses.chunked import chunked_head_loss
from firsttoken.distill.losses.divergence import forward_kl
torch.set_num_threads(1)
def peak():  # not ru_maxrss, which remembers the size of the process that started this one
    return int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]) * 1024
positions, vocab, width = 512, 151_936, 16
hidden = torch.randn(positions, width, requires_grad=True)
weight = torch.randn(vocab, width, requires_grad=True)
theirs, head = torch.randn(positions, width), torch.randn(vocab, width)
def loss_of(logits, where):
    loss = forward_kl(logits, theirs[where] @ head.t(), 2.0).sum()
    return loss, loss
chunked_head_loss(hidden[:1], weight, None, loss_of, 1)[0].backward()
before = peak()
chunked_head_loss(hidden, weight, None, loss_of, int(sys.argv[1]))[0].backward()
print(peak() - before)
"""


@pytest.mark.slow
def test_the_logits_of_a_152k_vocabulary_never_exist_at_once():
    """Peak resident memory of forward and backward in a process of its own, 512 positions by 151,936 tokens."""
    full_logits = 512 * 151_936 * 4
    environment = os.environ | {
        "MALLOC_MMAP_THRESHOLD_": "1048576"
    }  # what is freed goes back at once: the peak is of what lives, the same in every run
    peak = {
        chunk: int(
            subprocess.run([sys.executable, "-c", PEAK, str(chunk)], check=True, capture_output=True, text=True, env=environment).stdout
        )
        for chunk in (16, 512)
    }
    # several tensors of a chunk live at once, never one of all positions: 0.31 GB here, 1.24 GB for 2048 positions
    assert peak[16] < 0.4 * full_logits
    assert peak[512] > 3 * full_logits  # one chunk: what the full computation takes; shows that the measure sees it
