"""What the student writes: greedy as transformers' own `generate`, drawn with the right probabilities, and the loss on it by the paper's formula."""

import numpy as np
import pytest
import scipy
import torch
from families_on_disk import random_model

from firsttoken.distill.objective import Distillation, Moment
from firsttoken.distill.on_policy import StudentWriter, draw, start_of
from firsttoken.distill.recipe import Loss
from firsttoken.distill.student_options import OnPolicy
from firsttoken.distill.teachers import LiveTeacher

VOCABULARY, LENGTH, END, FILLER = 120, 24, 7, 5


@pytest.fixture
def student():
    return random_model("qwen2", seed=1).requires_grad_(True)


def batch(rows=6, seed=0):
    tokens = torch.randint(8, VOCABULARY, (rows, LENGTH), generator=torch.Generator().manual_seed(seed))
    labels = tokens.clone()
    labels[0, :5], labels[1, :9], labels[1, 14:17] = -100, -100, -100
    return {"input_ids": tokens, "labels": labels, "domain": torch.zeros(rows, dtype=torch.long), "index": torch.arange(rows)}


def writer(ends=(END,), **options):
    return StudentWriter(OnPolicy(**{"share": 1.0, **options}), VOCABULARY, ends, FILLER, seed=3)


def test_greedy_is_what_transformers_generates(student):
    given = batch()
    made = writer(temperature=1e-4, ends=()).rewrite(student, given, list(range(6)))
    for row, labels in enumerate(made["labels"].tolist()):
        start = next(n for n, label in enumerate(labels) if label != -100)
        prompt = given["input_ids"][row : row + 1, :start]
        suppress = list(range(VOCABULARY, student.config.vocab_size))  # rows of the head that are no token
        with torch.no_grad():
            own = student.generate(
                prompt, max_length=LENGTH, do_sample=False, suppress_tokens=suppress, eos_token_id=None, pad_token_id=0, attention_mask=torch.ones_like(prompt)
            )  # fmt: skip
        assert made["input_ids"][row].tolist() == own[0].tolist()
        assert labels[start:] == own[0, start:].tolist()


def test_drawn_tokens_have_the_models_probabilities():
    logits = torch.tensor([0.3, 2.0, -1.0, 1.0, -torch.inf, 0.0])
    wanted = scipy.special.softmax(logits.numpy().astype(float) / 1.7)
    uniform = torch.from_numpy(np.random.default_rng(0).random(20_000))
    counts = np.bincount(draw(logits.expand(20_000, -1), uniform, 1.7).numpy(), minlength=6)
    assert counts[4] == 0
    seen = wanted > 0
    assert scipy.stats.chisquare(counts[seen], 20_000 * wanted[seen]).pvalue > 0.01
    assert draw(logits[None], torch.tensor([1 - 1e-16], dtype=torch.float64), 1.7).item() == 5


def test_every_token_is_drawn_from_the_students_own_distribution(student):
    """Recomputed without a cache: each token is where its number lies among the running sums."""
    made = writer(ends=()).rewrite(student, batch(), list(range(6)))
    with torch.no_grad():
        logits = student(input_ids=made["input_ids"]).logits[..., :VOCABULARY].double()
    sums = torch.softmax(logits, -1).cumsum(-1).numpy()
    checked = 0
    for row in range(6):
        drawn = np.random.default_rng([3, row])
        drawn.random()  # whether the window is chosen
        start = start_of(batch()["labels"][row].tolist(), drawn, None)
        uniform = drawn.random(LENGTH)
        for place in range(start, LENGTH):
            token, running = int(made["input_ids"][row, place]), sums[row, place - 1]
            assert (running[token - 1] if token else 0) - 1e-5 <= uniform[place] <= running[token] + 1e-5
            checked += 1
    assert checked > 60


def test_prompts_are_kept_and_only_what_was_written_is_a_label(student):
    given = batch()
    made = writer(max_new_tokens=4, prompt_tokens=6, ends=()).rewrite(student, given, list(range(6)))
    assert made["written"].all()
    starts = [[5], [9, 17], *[[6]] * 4]
    for row, labels in enumerate(made["labels"].tolist()):
        places = [n for n, label in enumerate(labels) if label != -100]
        assert places[0] in starts[row] and places == list(range(places[0], places[0] + 4))
        assert torch.equal(made["input_ids"][row, : places[0]], given["input_ids"][row, : places[0]])
        assert made["input_ids"][row, places].tolist() == [labels[n] for n in places]
        assert (made["input_ids"][row, places[-1] + 1 :] == FILLER).all()
    assert torch.equal(given["labels"], batch()["labels"]) and torch.equal(given["input_ids"], batch()["input_ids"])


def test_it_ends_with_its_end_token(student):
    free = writer(ends=()).rewrite(student, batch(), list(range(6)))
    stop = int(free["input_ids"][3, 15])
    made = writer(ends=(stop,)).rewrite(student, batch(), list(range(6)))
    for row in range(6):
        labels, own = made["labels"][row], free["labels"][row]
        said = own[own != -100].tolist()
        wanted = said[: said.index(stop) + 1] if stop in said else said
        assert labels[labels != -100].tolist() == wanted


def test_share_batches_and_dropout_state(student):
    """Half of the windows, the same ones and the same words however a step is divided up, and a student in training mode is that afterwards."""
    given, half = batch(), writer(share=0.5)
    student.train()
    places = list(range(100, 106))
    whole = half.rewrite(student, given, places)
    assert student.training and 0 < whole["written"].sum() < 6
    for rows in (slice(0, 2), slice(2, 6)):
        part = half.rewrite(student, {name: value[rows] for name, value in given.items()}, places[rows])
        assert all(torch.equal(part[name], whole[name][rows]) for name in part)
    untouched = ~whole["written"]
    assert torch.equal(whole["input_ids"][untouched], given["input_ids"][untouched])
    many = [np.random.default_rng([3, position]).random() < 0.3 for position in range(3000)]
    assert abs(np.mean(many) - 0.3) < 0.03
    other = half.rewrite(student, given, list(range(200, 206)))
    assert not torch.equal(other["input_ids"], whole["input_ids"])


def test_the_loss_of_a_mixed_batch_is_gkds_and_labels_teach_on_text_alone(student):
    """``(1 - lambda) E_data + lambda E_student`` of the generalised divergence, in numpy from full logits."""
    teacher = random_model("qwen2", seed=2)
    made = writer(share=0.5).rewrite(student, batch(), list(range(100, 106)))
    losses = (Loss(kind="jensen_shannon", beta=0.3), Loss(kind="cross_entropy"))
    objective = Distillation(student, [LiveTeacher("t", teacher)], losses, ("text",), VOCABULARY, chunk=5)
    counted = (made["labels"][:, 1:] != -100).numpy()
    loss, parts = objective(**made, moment=Moment(0.5, 1.0, (0.7, 0.2)), count=float(counted.sum()))
    with torch.no_grad():
        p, q = (
            scipy.special.softmax(model(input_ids=made["input_ids"]).logits[:, :-1, :VOCABULARY].double().numpy(), -1)
            for model in (teacher, student)
        )
    m = 0.3 * p + 0.7 * q
    divergence = (0.3 * p * np.log(p / m) + 0.7 * q * np.log(q / m)).sum(-1)[counted].sum() / counted.sum()
    text = counted & ~made["written"].numpy()[:, None]
    labels = made["labels"][:, 1:].numpy()
    hard = -np.log(np.take_along_axis(q, np.maximum(labels, 0)[..., None], -1)[..., 0])[text].sum() / counted.sum()
    assert parts.tolist() == pytest.approx([divergence, hard], rel=1e-4)
    assert loss.item() == pytest.approx(0.7 * divergence + 0.2 * hard, rel=1e-4)
