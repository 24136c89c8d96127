"""The loss of a batch against a plain computation with full logits; splitting a batch changes nothing; masks are exact."""

import pytest
import torch
from families_on_disk import random_model

from firsttoken.distill.losses.attention import attention_transfer
from firsttoken.distill.losses.divergence import forward_kl
from firsttoken.distill.losses.hidden import hidden_l2
from firsttoken.distill.objective import Distillation, Moment
from firsttoken.distill.recipe import Loss
from firsttoken.distill.teachers import LiveTeacher, domain_weights
from firsttoken.errors import FirstTokenError

VOCABULARY = 120  # the heads have more rows: padding


@pytest.fixture
def models():
    student = random_model("qwen2", seed=1, num_hidden_layers=1).requires_grad_(True)
    return student, random_model("qwen2", seed=2, vocab_size=140), random_model("qwen2-untied", seed=3)


def batch(seed=0, rows=4, length=12):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, VOCABULARY, (rows, length), generator=generator)
    labels = tokens.clone()
    labels[0, :5] = -100
    labels[2, 7:] = -100
    return tokens, labels, torch.tensor([0, 1, 0, 1][:rows]), torch.arange(rows)


def objective(student, teachers, *losses, domains=("a", "b"), **options):
    return Distillation(student, teachers, tuple(Loss(**loss) for loss in losses), domains, VOCABULARY, chunk=5, **options)


def moment(*weights, progress=0.5, temperature=2.0):
    return Moment(progress, temperature, weights)


def logits_of(model, tokens):
    return model(input_ids=tokens).logits[:, :-1, :VOCABULARY]


def test_two_weighted_teachers_and_labels_against_full_logits(models):
    student, first, second = models
    tokens, labels, domain, index = batch()
    made = objective(
        student, [LiveTeacher("1", first, 3.0), LiveTeacher("2", second, 1.0)], {"kind": "forward_kl"}, {"kind": "cross_entropy"}
    )
    counted = labels[:, 1:] != -100
    count = float(counted.sum())
    loss, parts = made(tokens, labels, domain, index, moment(0.7, 0.3), count)
    ours = logits_of(student, tokens)
    kl = 0.75 * forward_kl(ours, logits_of(first, tokens), 2.0) + 0.25 * forward_kl(ours, logits_of(second, tokens), 2.0)
    kl = kl[counted].sum() / count
    hard = torch.nn.functional.cross_entropy(ours[counted], labels[:, 1:][counted])
    torch.testing.assert_close(loss, 0.7 * kl + 0.3 * hard)
    torch.testing.assert_close(parts, torch.stack([kl, hard]).detach())
    wanted = torch.autograd.grad(0.7 * kl + 0.3 * hard, list(student.parameters()))
    for got, want in zip(torch.autograd.grad(loss, list(student.parameters())), wanted, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)


def test_teachers_of_domains(models):
    student, first, second = models
    shares = domain_weights([LiveTeacher("1", first, 2.0, ("a",)), LiveTeacher("2", second, 1.0)], ("a", "b", "c"))
    torch.testing.assert_close(shares, torch.tensor([[2 / 3, 1 / 3], [0.0, 1.0], [0.0, 1.0]]))
    tokens, labels, domain, index = batch()
    made = objective(student, [LiveTeacher("1", first, domains=("a",))], {"kind": "forward_kl"})
    loss, _ = made(tokens, labels, domain, index, moment(1.0), 1.0)
    alone, _ = made(tokens[domain == 0], labels[domain == 0], domain[domain == 0], index[:2], moment(1.0), 1.0)
    torch.testing.assert_close(loss, alone)  # domain b has no teacher


@pytest.mark.parametrize(
    "kind", ["forward_kl", "reverse_kl", "jensen_shannon", "skewed_kl", "cross_entropy", "hidden_l2", "hidden_cosine", "attention"]
)
def test_how_a_step_is_divided_changes_nothing_and_masked_labels_are_exact(models, kind):
    student, first, _ = models
    student.set_attn_implementation("eager")
    first.set_attn_implementation("eager")
    tokens, labels, domain, index = batch()
    made = objective(student, [LiveTeacher("1", first)], {"kind": kind})
    count = float((labels[:, 1:] != -100).sum())
    whole, _ = made(tokens, labels, domain, index, moment(1.0), count)
    halves = [made(tokens[r], labels[r], domain[r], index[r], moment(1.0), count)[0] for r in (slice(0, 1), slice(1, 4))]
    torch.testing.assert_close(sum(halves), whole)
    # tokens after the last label of a row are seen by no counted position, so they may be anything
    changed = tokens.clone()
    changed[2, 7:] = 3
    torch.testing.assert_close(made(changed, labels, domain, index, moment(1.0), count)[0], whole, rtol=1e-6, atol=1e-7)
    nothing, _ = made(tokens, torch.full_like(labels, -100), domain, index, moment(1.0), count)
    assert nothing.item() == 0
    nothing.backward()
    assert all(p.grad is None or not p.grad.any() for p in student.parameters())


def test_hidden_and_attention_losses_against_the_models_own_outputs(models):
    student, first, _ = models
    for model in (student, first):
        model.set_attn_implementation("eager")
    tokens, labels, domain, index = batch()
    made = objective(student, [LiveTeacher("1", first)], {"kind": "hidden_l2", "pairs": [[0, 1]]}, {"kind": "attention", "pairs": [[0, 0]]})
    counted = labels[:, 1:] != -100
    ours, theirs = (m.model(input_ids=tokens, output_hidden_states=True, output_attentions=True) for m in (student, first))
    hidden = hidden_l2(ours.hidden_states[1], theirs.hidden_states[2], relative=True)[:, :-1][
        counted
    ].sum()  # equal widths: the projection is the identity
    attention = attention_transfer(ours.attentions[0], theirs.attentions[0])[:, :-1][counted].sum()
    loss, parts = made(tokens, labels, domain, index, moment(0.5, 2.0), 10.0)
    torch.testing.assert_close(parts, torch.stack([hidden, attention]).detach() / 10)
    torch.testing.assert_close(loss, (0.5 * hidden + 2 * attention) / 10)
    loss.backward()
    assert made.projections["0-0-0"].map.weight.grad.abs().sum() > 0


def test_lower_layers_come_first():
    student, teacher = random_model("qwen2", seed=1, num_hidden_layers=2).requires_grad_(True), random_model("qwen2", seed=2)
    tokens, labels, domain, index = batch()
    made = objective(student, [LiveTeacher("1", teacher)], {"kind": "hidden_l2"}, span=0.8)
    for progress, trained in ((0.1, {"0-0-0"}), (0.5, {"0-0-0", "0-0-1"})):
        made.zero_grad()
        made(tokens, labels, domain, index, moment(1.0, progress=progress), 1.0)[0].backward()
        assert {name for name, p in made.projections.items() if p.map.weight.grad is not None and p.map.weight.grad.any()} == trained


def test_the_held_out_score(models):
    student, first, _ = models
    tokens, labels, *_ = batch()
    made = objective(student, [LiveTeacher("1", first)], {"kind": "forward_kl"})
    counted = labels[:, 1:] != -100
    entropy, kld, count = made.score({"input_ids": tokens, "labels": labels}).tolist()
    ours = logits_of(student, tokens)
    assert count == counted.sum()
    assert entropy == pytest.approx(
        torch.nn.functional.cross_entropy(ours[counted], labels[:, 1:][counted], reduction="sum").item(), rel=1e-5
    )
    assert kld == pytest.approx(forward_kl(ours, logits_of(first, tokens))[counted].sum().item(), rel=1e-5)


def test_layers_that_are_not_there_are_named(models):
    student, first, _ = models
    with pytest.raises(FirstTokenError, match="pair \\[1, 0\\] names a layer that is not there; expected 0 to 0 for the student"):
        objective(student, [LiveTeacher("1", first)], {"kind": "hidden_l2", "pairs": [[1, 0]]})


def test_teachers_are_not_trained_nor_saved(models):
    student, first, _ = models
    made = objective(student, [LiveTeacher("1", first)], {"kind": "hidden_cosine"})
    assert not any("teacher" in name or "shares" in name for name in made.state_dict())
    assert {name.split(".")[0] for name, _ in made.named_parameters()} == {"student", "projections"}
