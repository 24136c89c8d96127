"""mixup and CutMix: what is mixed with what, how shares are distributed, and what is learned of a mixed sample."""

import pytest
import scipy.stats
import torch
from pydantic import ValidationError
from torch import nn

from firsttoken.distill.mixing import Mixing, mix
from firsttoken.distill.modules import ModuleDistillation
from firsttoken.distill.objective import Moment
from firsttoken.distill.recipe import Loss
from firsttoken.errors import FirstTokenError

PICTURES = torch.arange(6.0)[:, None, None, None].expand(6, 3, 8, 8) * 100 + torch.arange(192.0).reshape(3, 8, 8) / 1000


def test_mixup_is_the_mean_by_shares_that_are_beta_distributed():
    mixed = mix(Mixing(mixup=0.4), PICTURES, (1, 2))
    torch.testing.assert_close(mixed.inputs, mixed.share * PICTURES + (1 - mixed.share) * PICTURES[mixed.partner])
    shares = [mix(Mixing(mixup=0.4), PICTURES[:1], (7, draw)).share for draw in range(400)]
    assert scipy.stats.kstest(shares, scipy.stats.beta(0.4, 0.4).cdf).pvalue > 0.01


def test_cutmix_puts_one_box_of_the_partner_in_and_counts_its_area():
    kept = []
    for draw in range(60):
        mixed = mix(Mixing(cutmix=1.0), PICTURES, (draw,))
        own, theirs = mixed.inputs == PICTURES, mixed.inputs == PICTURES[mixed.partner]
        assert bool((own | theirs).all())
        moved = mixed.partner != torch.arange(6)
        for pasted in ~own[moved]:
            rows, columns = pasted.any(0).any(1).nonzero(), pasted.any(0).any(0).nonzero()
            box = pasted[:, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] if len(rows) else pasted[:, :0]
            assert bool(box.all()) and box.numel() == pasted.sum()  # a whole box, of all channels
            assert mixed.share == pytest.approx(1 - box[0].numel() / 64)
        kept.append(mixed.share)
    assert min(kept) < 0.4 and max(kept) > 0.9


def test_what_is_drawn_is_the_draws_alone():
    mixing = Mixing(mixup=0.3, cutmix=1.0)
    torch.manual_seed(0)
    once = [mix(mixing, PICTURES, (3, draw)) for draw in range(40)]
    torch.manual_seed(1)
    again = [mix(mixing, PICTURES, (3, draw)) for draw in range(40)]
    assert all(torch.equal(a.inputs, b.inputs) and a.share == b.share for a, b in zip(once, again, strict=True))
    cut = sum(bool(((each.inputs == PICTURES) | (each.inputs == PICTURES[each.partner])).all()) for each in once)
    assert 8 < cut < 32  # both kinds, about equally often
    assert 8 < sum(mix(Mixing(mixup=1.0, chance=0.5), PICTURES, (draw,)) is None for draw in range(40)) < 32


def test_a_mixed_sample_is_learned_as_both_labels_and_scored_unmixed():
    torch.manual_seed(0)
    student, teacher = nn.Sequential(nn.Flatten(), nn.Linear(192, 5)), nn.Sequential(nn.Flatten(), nn.Linear(192, 5))
    inputs, labels = torch.randn(6, 3, 8, 8), torch.tensor([0, 1, 2, 3, 4, -100])
    losses = (Loss(kind="cross_entropy"), Loss(kind="forward_kl"))
    made = ModuleDistillation(student, teacher, losses, inputs, mixing=Mixing(mixup=1.0), seed=5)
    moment, index = Moment(0.25, 1.0, (0.5, 0.5)), torch.arange(6)
    loss, parts = made.train()(inputs, labels, index, moment, 6.0)
    mixed = mix(made.mixing, inputs, (5, 1 << 38, 0))
    logits = student(mixed.inputs)
    targets = torch.zeros(6, 5)  # the labels as distributions; no label is none
    for row in range(6):
        for label, share in ((labels[row], mixed.share), (labels[mixed.partner[row]], 1 - mixed.share)):
            if label >= 0:
                targets[row, label] += share
    hard = -(targets * logits.log_softmax(-1)).sum() / 6
    soft = nn.functional.kl_div(logits.log_softmax(-1), teacher(mixed.inputs).log_softmax(-1), reduction="sum", log_target=True) / 6
    torch.testing.assert_close(parts, torch.stack([hard, soft]).detach())
    torch.testing.assert_close(loss, (hard + soft) / 2)
    plain = ModuleDistillation(student, teacher, losses, inputs)
    assert torch.equal(made.eval()(inputs, labels, index, moment, 6.0)[1], plain.eval()(inputs, labels, index, moment, 6.0)[1])


def test_what_cannot_be_mixed_is_named():
    with pytest.raises(FirstTokenError, match="cutmix: inputs are .30. each; expected pictures"):
        mix(Mixing(cutmix=1.0), torch.zeros(4, 30), (0,))
    with pytest.raises(FirstTokenError, match="inputs are torch.int64, which cannot be mixed"):
        mix(Mixing(mixup=1.0), torch.zeros(4, 30, dtype=torch.long), (0,))
    with pytest.raises(ValidationError, match="mixing needs mixup, cutmix or both"):
        Mixing()
