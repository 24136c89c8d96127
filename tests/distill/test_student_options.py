"""Whole runs with what a recipe says beside its losses: on-policy windows, adapters, dropout, teachers with other tokenizers; killed, they end alike."""

import json
import os
import signal
import subprocess
import sys

import pytest
import torch
from families_on_disk import random_model, save
from other_tokenizer import write_tokenizer
from safetensors.torch import load_file

from firsttoken.distill.distill import distill
from firsttoken.distill.losses.divergence import cross_entropy
from firsttoken.distill.models import load_decoder
from firsttoken.errors import FirstTokenError

ON_POLICY = {"share": 0.5, "max_new_tokens": 12, "temperature": 0.9}


def run(recipe, output, **options):
    lines = []
    distill(recipe, output, say=lines.append, **options)
    return output, lines


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


def parts_of(folder):
    record = json.loads((folder.with_name(f"{folder.name}.work") / "stage-0/student/distillation.json").read_text())
    return [entry for entry in record["history"] if "loss" in entry]


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """A teacher with another tokenizer and a vocabulary of its own size."""
    folder = write_tokenizer(tmp_path_factory.mktemp("foreign") / "teacher")
    return save(random_model("llama3", seed=4, vocab_size=300, max_position_embeddings=512), folder)


def test_label_smoothing_against_the_formula():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 9, generator=generator, dtype=torch.float64)
    labels = torch.tensor([[0, 8, -100, 3, 3], [1, -100, 1, 2, 4]])
    value = cross_entropy(logits, labels, label_smoothing=0.2)
    log_q = logits - logits.exp().sum(-1, keepdim=True).log()
    wanted = -(0.8 * log_q.gather(-1, labels.clamp_min(0)[..., None])[..., 0] + 0.2 * log_q.mean(-1))
    torch.testing.assert_close(value, wanted.masked_fill(labels == -100, 0))


def test_an_on_policy_run_does_not_depend_on_how_its_steps_are_divided(make_recipe, tmp_path):
    whole, _ = run(make_recipe({"on_policy": ON_POLICY, "training.steps": 2}), tmp_path / "whole")
    parts, _ = run(make_recipe({"training.micro_batch": 1}), tmp_path / "parts")
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (whole, parts))
    for name, value in ours.items():
        torch.testing.assert_close(theirs[name], value, rtol=1e-3, atol=2e-5)


def test_on_policy_answers_of_chats_alone(make_recipe, tmp_path, texts, monkeypatch):
    """The student writes where answers stand, and the loss falls."""
    from firsttoken.distill.on_policy import StudentWriter

    seen = []
    rewrite = StudentWriter.rewrite

    def watched(self, student, batch, positions, *taught):
        made = rewrite(self, student, batch, positions, *taught)
        seen.extend(zip(batch["labels"].tolist(), made["labels"].tolist(), strict=True))
        return made

    monkeypatch.setattr(StudentWriter, "rewrite", watched)
    changes = {"data.train": [{"files": [str(texts / "chats.jsonl")]}], "on_policy": {"share": 1.0}, "loss": [{"kind": "reverse_kl"}]}
    changes |= {"training.steps": 12, "training.learning_rate": 1e-2, "temperature": 1, "training.evaluate_every": 12}
    out, _ = run(make_recipe(changes), tmp_path / "student", keep_work=True)
    assert len(seen) == 12 * 4
    for given, made in seen:
        first = next(n for n, label in enumerate(made) if label != -100)
        assert given[first] != -100 and (given[first - 1] == -100 or -100 not in given[:first])
    values = [entry["part_reverse_kl"] for entry in parts_of(out)]
    assert sum(values[-3:]) < 0.9 * sum(values[:3])


def test_a_published_lora_student_answers_as_with_its_adapters(make_recipe, tmp_path, tiny_model, monkeypatch):
    from firsttoken.distill import lora

    adapted, tokens = [], torch.arange(40)[None] + 100
    merged = lora.merged

    def watched(model):
        with torch.no_grad():
            adapted.append(model.eval()(input_ids=tokens).logits)
        return merged(model)

    monkeypatch.setattr(lora, "merged", watched)
    student = {"checkpoint": str(tiny_model), "lora": {"rank": 4, "alpha": 8, "dropout": 0.1}}
    teacher = save(random_model("qwen2", seed=9, vocab_size=4096, max_position_embeddings=2048), tmp_path / "teacher")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (teacher / name).write_bytes((tiny_model / name).read_bytes())
    changes = {"teacher.0.checkpoint": str(teacher), "student": student, "training.learning_rate": 0.02, "temperature": 1}
    out, _ = run(make_recipe(changes), tmp_path / "student")
    before, after = load_file(tiny_model / "model.safetensors"), load_file(out / "model.safetensors")
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name].float(), after[name])}
    assert changed == {name for name in before if "_proj.weight" in name}
    with torch.no_grad():
        published = load_decoder(out)(input_ids=tokens).logits
        first = load_decoder(tiny_model)(input_ids=tokens).logits
    torch.testing.assert_close(published, adapted[0], rtol=1e-4, atol=1e-4)
    assert (published - first).abs().max() > 0.05
    figures = json.loads((out / "distillation.json").read_text())["figures"]
    assert figures["student"]["kld"] < figures["student before"]["kld"]


def test_cut_in_steps_with_adapters_and_dropout(make_recipe, tmp_path):
    changes = {
        "student": {"cut": {"intermediate_size": 80, "most_per_step": 0.005, "steps_between": 2}, "lora": {"rank": 2}},
        "training.steps": 2,
        "training.dropout": 0.1,
    }
    out, lines = run(make_recipe(changes), tmp_path / "student")
    assert sum("parameters" in line for line in lines) >= 2
    assert not any("lora" in name for name in load_file(out / "model.safetensors"))


@pytest.mark.parametrize("kind", ["uld", "gold"])
def test_a_teacher_with_another_tokenizer_teaches(make_recipe, tmp_path, tiny_model, foreign, kind):
    changes = {
        "teacher": [{"checkpoint": str(foreign)}, {"checkpoint": str(tiny_model), "weight": 0.5}],
        "student": {"checkpoint": str(tiny_model)},
        "loss": [{"kind": kind}],
        "training.steps": 12,
        "training.learning_rate": 1e-2,
        "training.evaluate_every": 12,
        "temperature": 1,
    }
    out, lines = run(make_recipe(changes), tmp_path / "student", keep_work=True)
    values = [entry[f"part_{kind}"] for entry in parts_of(out)]
    assert len(values) == 12 and sum(values[-3:]) < 0.9 * sum(values[:3])
    assert any("has another tokenizer" in line and "%" in line for line in lines)


def test_a_student_from_scratch_keeps_its_own_end_token(make_recipe, tmp_path, tiny_model, foreign):
    config = json.loads((tiny_model / "config.json").read_text()) | {"eos_token_id": 4000, "num_hidden_layers": 1, "layer_types": None}
    (tmp_path / "config.json").write_text(json.dumps({name: value for name, value in config.items() if value is not None}))
    assert json.loads((foreign / "config.json").read_text())["eos_token_id"] != 4000
    changes = {
        "tokenizer": str(tiny_model),
        "teacher": [{"checkpoint": str(foreign)}],
        "student": {"config": str(tmp_path / "config.json")},
    }
    changes |= {"loss": [{"kind": "cross_entropy"}, {"kind": "uld"}], "training.steps": 1, "training.evaluate_every": 1}
    out, _ = run(make_recipe(changes), tmp_path / "student")
    assert json.loads((out / "config.json").read_text())["eos_token_id"] == 4000


def test_the_loss_across_tokenizers_is_that_of_the_places_where_both_stand(tiny_model, foreign):
    """Against plain forward passes over the prefixes' own texts: every aligned position's teacher has read exactly the student's text."""
    from firsttoken.demo import held_out_text
    from firsttoken.distill.foreign_teacher import ForeignTeacher
    from firsttoken.distill.losses.cross_tokenizer import uld
    from firsttoken.distill.objective import Distillation, Moment
    from firsttoken.distill.recipe import Loss
    from firsttoken.distill.text_alignment import TextAlignment
    from firsttoken.tokenizer import Tokenizer

    ours, theirs = Tokenizer(tiny_model), Tokenizer(foreign)
    student, model = load_decoder(tiny_model), load_decoder(foreign)
    tokens = torch.tensor(ours.encode(held_out_text()[:600], begin=False)[:32])[None]
    labels = tokens.clone()
    labels[:, :4] = -100
    made = Distillation(
        student, [ForeignTeacher("f", model, TextAlignment(ours, theirs))], (Loss(kind="uld"),), ("a",), ours.vocab_size, chunk=5
    )
    loss, _ = made(tokens, labels, torch.tensor([0]), torch.tensor([0]), Moment(0.5, 2.0, (1.0,)), 10.0)
    total, met = 0.0, 0
    whole = theirs.encode(ours.decode(tokens[0].tolist()), begin=False)
    for place in range(3, 31):
        text = ours.decode(tokens[0, : place + 1].tolist())
        count = next((n for n in range(len(whole) + 1) if theirs.decode(whole[:n]) == text), None)
        if count:
            with torch.no_grad():
                q = student(input_ids=tokens[:, : place + 1]).logits[0, -1, : ours.vocab_size]
                p = model(input_ids=torch.tensor([whole[:count]])).logits[0, -1, : theirs.vocab_size]
            total, met = total + uld(q, p, 2.0).item(), met + 1
    assert met > 5 and loss.item() == pytest.approx(total / 10, rel=1e-4)
    loss.backward()


def test_a_teacher_with_another_tokenizer_is_refused_with_other_losses(make_recipe, tmp_path, tiny_model, foreign):
    changes = {"teacher": [{"checkpoint": str(foreign)}], "student": {"checkpoint": str(tiny_model)}}
    with pytest.raises(FirstTokenError, match="have different tokenizers.*uld or gold"):
        distill(make_recipe(changes), tmp_path / "student")
    short = save(random_model("llama3", seed=4, vocab_size=300, max_position_embeddings=33), tmp_path / "short")
    write_tokenizer(short)
    changes = {"teacher": [{"checkpoint": str(short)}], "loss": [{"kind": "uld"}]}
    with pytest.raises(FirstTokenError, match="a window of 32 tokens of the student's is [0-9]+ of its own, and it was made for 33"):
        distill(make_recipe(changes), tmp_path / "student", say=lambda line: None)


# The child of the kill test: dies by SIGKILL in a step after the first state.
CHILD = """
import json, os, signal, sys, torch
torch.set_num_threads(1)
from firsttoken.distill import trainer
from firsttoken.distill.distill import distill
from firsttoken.distill.recipe import Recipe
step = trainer.DistillationTrainer.training_step
def training_step(self, *a, **k):
    if self.state.global_step == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, *a, **k)
trainer.DistillationTrainer.training_step = training_step
distill(Recipe.model_validate(json.loads(sys.argv[1])), sys.argv[2])
"""


@pytest.mark.slow
def test_killed_with_all_of_it_the_weights_are_those_of_an_uninterrupted_run(make_recipe, tmp_path, tiny_model, foreign):
    """On-policy windows, adapters with dropout of their own, dropout, smoothed labels, a teacher with another tokenizer."""
    changes = {
        "teacher": [{"checkpoint": str(foreign)}],
        "student": {"checkpoint": str(tiny_model), "lora": {"rank": 4, "dropout": 0.2}},
        "loss": [{"kind": "uld"}, {"kind": "cross_entropy", "weight": 0.3, "label_smoothing": 0.1}],
        "training.dropout": 0.1,
        "training.micro_batch": 2,
        "on_policy": ON_POLICY,
    }
    recipe = make_recipe(changes)
    values = json.dumps(recipe.model_dump(mode="json", by_alias=True))
    output = tmp_path / "killed"
    killed = subprocess.run(
        [sys.executable, "-c", CHILD, values, str(output)], capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        straight, _ = run(recipe, tmp_path / "straight")
        _, lines = run(recipe, output)
    finally:
        torch.set_num_threads(threads)
    assert any("going on from step 3 of 6" in line for line in lines)
    assert weights(output) == weights(straight)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"on_policy": {"share": 0.5, "tempreature": 1}}, "tempreature.*did you mean 'temperature'"),
        ({"on_policy": {"share": 0}}, "share"),
        ({"on_policy": {"share": 1}, "loss": [{"kind": "cross_entropy"}]}, "on_policy lets a teacher judge what the student writes"),
        ({"on_policy": {"share": 1}, "teacher": [{"cache": "x"}], "student": {"checkpoint": "y"}}, "a cache holds answers to the training data"),
        ({"on_policy": {"prompt_tokens": 32}}, "prompt_tokens 32 leaves nothing to write in windows of 32 tokens"),
        ({"student": {"config": "c.json", "lora": {}}}, "a student from a config has random ones; give a checkpoint or a cut"),
        ({"student": {"checkpoint": "y", "lora": {"rnak": 2}}}, "rnak.*did you mean 'rank'"),
        ({"loss": [{"kind": "forward_kl", "label_smoothing": 0.1}]}, "label_smoothing has no meaning for forward_kl; expected it with cross_entropy"),
        ({"loss": [{"kind": "uld", "beta": 0.1}]}, "beta has no meaning for uld; expected it with jensen_shannon, gold"),
        ({"loss": [{"kind": "uld"}], "teacher": [{"cache": "x"}], "student": {"checkpoint": "y"}}, "a cache holds the most likely tokens only"),
        ({"training.dropout": 1.0}, "dropout"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(make_recipe, changes, message):
    with pytest.raises(FirstTokenError, match=message):
        make_recipe(changes)


def test_recipes_without_it_say_what_they_said(make_recipe):
    """Work folders of before these fields go on: a field that is absent is None, and differs in nothing."""
    from firsttoken.distill.work_folder import first_difference

    decides = make_recipe().what_decides()
    old = json.loads(json.dumps(decides))
    old.pop("on_policy")
    old["student"].pop("lora")
    old["training"].pop("dropout")
    for loss in old["losses"]:
        loss.pop("label_smoothing")
    assert first_difference(old, decides) is None


def test_sharded_students_are_refused_what_does_not_run(make_recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(FirstTokenError, match=r"\[on_policy\] does not run under FSDP"):
        distill(make_recipe({"on_policy": ON_POLICY}), tmp_path / "a")
    with pytest.raises(FirstTokenError, match="student.lora does not run under FSDP"):
        distill(make_recipe({"on_policy": None, "student.lora": {"rank": 2}}), tmp_path / "a")
