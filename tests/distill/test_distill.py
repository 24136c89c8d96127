"""Whole runs: what comes out is a checkpoint, every loss and kind of student works, and how a step is divided up does not matter."""

import json
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file

from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.walk import open_decoder
from firsttoken.distill import distill as module
from firsttoken.distill.distill import distill
from firsttoken.errors import FirstTokenError


def run(recipe, output, **options):
    lines = []
    distill(recipe, output, say=lines.append, **options)
    return output, lines


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


def test_a_cut_student_is_a_checkpoint_with_its_record_and_page(make_recipe, tmp_path, tiny_model):
    recipe = make_recipe()
    out, lines = run(recipe, tmp_path / "student")
    with Checkpoint(out) as checkpoint:
        config = open_decoder(checkpoint)
    assert (len(config.layers), config.layers[0].mlp.up.rows) == (1, 48)
    assert not (tmp_path / "student.work").exists() and sorted(p.name for p in tmp_path.iterdir()) == ["student"]
    record = json.loads((out / "distillation.json").read_text())
    with Checkpoint(tiny_model) as teacher:
        assert record["checkpoints"] == {"teacher 0": teacher.fingerprint()}
    figures = record["figures"]
    assert figures["student"]["cross_entropy"] < figures["student as cut"]["cross_entropy"]
    assert figures["student as written"] == pytest.approx(figures["student"], rel=1e-5)
    assert record["tokens seen"] == 6 * 4 * 32
    page = (out / "training.html").read_text(encoding="utf-8")
    assert (
        "<svg" in page
        and "forward_kl" in page
        and "http://" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace("http://creativecommons.org", "")
    )
    assert any("held-out perplexity" in line for line in lines) and any("tokens/s" in line and "T 5.00" in line for line in lines)
    generation = json.loads((out / "config.json").read_text())
    assert generation["model_type"] == "qwen2"


@pytest.mark.parametrize("loss", ["reverse_kl", "jensen_shannon", "skewed_kl", "hidden_l2", "hidden_cosine", "attention"])
def test_every_loss_falls(make_recipe, tmp_path, loss):
    recipe = make_recipe(
        {"loss": [{"kind": loss}], "training.steps": 30, "training.learning_rate": 3e-3, "temperature": 1, "training.evaluate_every": 30}
    )
    out, _ = run(recipe, tmp_path / "student", keep_work=True)
    record = json.loads((tmp_path / "student.work/stage-0/student/distillation.json").read_text())
    values = [entry[f"part_{loss}"] for entry in record["history"] if f"part_{loss}" in entry]
    assert len(values) == 30 and sum(values[-5:]) < 0.9 * sum(values[:5])
    assert (out / "model.safetensors").exists()


def test_a_student_from_a_checkpoint_and_from_scratch(make_recipe, tmp_path, tiny_model):
    student = shutil.copytree(tiny_model, tmp_path / "other")
    recipe = make_recipe({"student": {"checkpoint": str(student), "save_as": "bfloat16"}, "training.steps": 2})
    out, _ = run(recipe, tmp_path / "one")
    assert {t.dtype for t in load_file(out / "model.safetensors").values()} == {torch.bfloat16}
    config = json.loads((tiny_model / "config.json").read_text()) | {"num_hidden_layers": 1, "layer_types": None}
    (tmp_path / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    recipe = make_recipe({"student": {"config": str(tmp_path / "config.json")}, "training.steps": 2})
    out, _ = run(recipe, tmp_path / "two")
    again, _ = run(recipe, tmp_path / "three")
    assert weights(out) == weights(again)  # the seed decides the first weights


def test_without_a_teacher_the_labels_teach(make_recipe, tmp_path, tiny_model):
    recipe = make_recipe(
        {"teacher": [], "student": {"checkpoint": str(tiny_model)}, "loss": [{"kind": "cross_entropy"}], "training.steps": 3}
    )
    out, _ = run(recipe, tmp_path / "student")
    figures = json.loads((out / "distillation.json").read_text())["figures"]
    assert figures["student"]["cross_entropy"] < figures["student before"]["cross_entropy"] and "kld" not in figures["student"]


def test_many_small_cuts_with_training_between(make_recipe, tmp_path):
    recipe = make_recipe({"student": {"cut": {"intermediate_size": 80, "most_per_step": 0.005, "steps_between": 2}}, "training.steps": 2})
    out, lines = run(recipe, tmp_path / "student")
    cuts = [line for line in lines if line.startswith("cut ") and "parameters" in line]
    assert len(cuts) >= 1 and "after training" in str(json.loads((out / "distillation.json").read_text())["figures"])


def test_early_stop_keeps_the_best(make_recipe, tmp_path):
    recipe = make_recipe(
        {
            "training.steps": 40,
            "training.evaluate_every": 2,
            "training.learning_rate": 0.5,
            "training.early_stop": 2,
            "training.keep": "best",
            "training.schedule": "constant_with_warmup",
        }
    )
    _out, lines = run(recipe, tmp_path / "student", keep_work=True)
    assert any("no longer improved" in line for line in lines)
    record = json.loads((tmp_path / "student.work/stage-0/student/distillation.json").read_text())
    scores = [entry["eval_cross_entropy"] for entry in record["history"] if "eval_cross_entropy" in entry]
    assert record["figures"]["student"]["cross_entropy"] == pytest.approx(min(scores), rel=1e-5) and scores[-1] > min(scores)


def test_a_cached_teacher_is_enough(make_recipe, tmp_path, tiny_model):
    from firsttoken.distill.ask_teacher import cache

    student = shutil.copytree(tiny_model, tmp_path / "start")
    teacher = shutil.copytree(tiny_model, tmp_path / "teacher")
    changes = {"student": {"checkpoint": str(student)}, "teacher.0.checkpoint": str(teacher)}
    facts = cache(make_recipe(changes), tmp_path / "answers", top=32)
    assert facts["done"] == facts["windows"]
    shutil.rmtree(teacher)
    recipe = make_recipe({"teacher": [{"cache": str(tmp_path / "answers")}]})
    out, _ = run(recipe, tmp_path / "student")
    assert (out / "model.safetensors").exists()
    with pytest.raises(FirstTokenError, match="made for temperatures 1 to 5, asked for 9"):
        distill(make_recipe({"temperature": 9}), tmp_path / "hot")


def test_several_teachers_with_domains(make_recipe, tmp_path, tiny_model, texts):
    from families_on_disk import random_model, save

    other = save(random_model("qwen2", seed=9, vocab_size=4160), tmp_path / "padded")  # more rows than tokens
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_model / name, other / name)
    sources = [{"files": [str(texts / "part*.txt")], "domain": "code"}, {"files": [str(texts / "chats.jsonl")], "domain": "chat"}]
    teachers = [{"checkpoint": str(tiny_model), "weight": 2}, {"checkpoint": str(other), "domains": ["numbers"]}]
    _out, lines = run(make_recipe({"data.train": sources, "teacher": teachers}), tmp_path / "student")
    assert any("teacher padded" in line for line in lines)
    with pytest.raises(FirstTokenError, match="no training data has domain 'number' .did you mean 'numbers'"):
        distill(make_recipe({"teacher": [*teachers, {"checkpoint": str(tiny_model), "domains": ["number"]}]}), tmp_path / "x")


def test_micro_batches_change_nothing(make_recipe, tmp_path):
    whole, _ = run(make_recipe({"training.precision": "fp32"}), tmp_path / "one")
    parts, _ = run(make_recipe({"training.micro_batch": 2, "training.head_chunk": 7}), tmp_path / "two")
    one, two = (load_file(folder / "model.safetensors") for folder in (whole, parts))
    # Adam divides by the size of the gradient, so rounding shows at the learning rate's scale where a gradient is nearly zero
    for name, tensor in one.items():
        difference = (two[name] - tensor).abs()
        assert difference.max() < 2e-3 and difference.mean() < 1e-5, name


def test_half_precision_training_comes_close(make_recipe, tmp_path):
    full, _ = run(make_recipe(), tmp_path / "one")
    half, _ = run(make_recipe({"training.precision": "bf16"}), tmp_path / "two")
    scores = [json.loads((folder / "distillation.json").read_text())["figures"]["student"]["cross_entropy"] for folder in (full, half)]
    assert scores[0] == pytest.approx(scores[1], rel=0.02) and weights(full) != weights(half)


def test_an_existing_student_is_only_replaced_when_asked(make_recipe, tmp_path):
    (tmp_path / "student").mkdir()
    (tmp_path / "student/precious").write_text("x")
    with pytest.raises(FirstTokenError, match="exists; replace it with --force"):
        distill(make_recipe(), tmp_path / "student")
    with pytest.raises(FirstTokenError, match="other files, not a student"):
        run(make_recipe({"training.steps": 1}), tmp_path / "student", force=True)
    assert (tmp_path / "student/precious").exists()
    (tmp_path / "student/precious").unlink()
    run(make_recipe({"training.steps": 1}), tmp_path / "student", force=True)
    run(make_recipe({"training.steps": 1}), tmp_path / "student", force=True)


def test_a_student_that_was_written_wrong_is_not_published(make_recipe, tmp_path, monkeypatch):
    write = module.write_decoder

    def wrong(model, *arguments):
        write(model, *arguments)
        if not str(arguments[1]).count(".work"):
            with torch.no_grad():
                next(model.parameters()).mul_(1.5)

    monkeypatch.setattr(module, "write_decoder", wrong)
    with pytest.raises(FirstTokenError, match="the checkpoint is not what was trained"):
        distill(make_recipe({"training.steps": 1}), tmp_path / "student")
    assert not (tmp_path / "student").exists()


def test_a_teacher_of_another_tokenizer_is_refused(make_recipe, tmp_path, tiny_model):
    other = shutil.copytree(tiny_model, tmp_path / "other")
    values = json.loads((other / "tokenizer.json").read_text(encoding="utf-8"))
    values["added_tokens"].pop()
    (other / "tokenizer.json").write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(FirstTokenError, match="have different tokenizers"):
        distill(make_recipe({"student": {"checkpoint": str(other)}}), tmp_path / "student")


@pytest.mark.slow
def test_two_processes_give_the_one_process_result(make_recipe, tmp_path, torchrun):
    """DistributedDataParallel over gloo on the CPU."""
    recipe = make_recipe({"loss": [{"kind": "forward_kl"}, {"kind": "cross_entropy"}, {"kind": "hidden_l2"}]})
    said = torchrun(recipe, tmp_path / "two")
    one, lines = run(recipe, tmp_path / "one")
    shown = [
        re.findall(r"\d+\.\d+", line.split(", T ")[0])
        for text in (said.splitlines(), lines)
        for line in text
        if re.match(r"step \d+ of 6: loss", line)
    ]
    ours, theirs = shown[: len(shown) // 2], shown[len(shown) // 2 :]
    assert len(ours) == 6 and len(ours[0]) == 4  # the loss, which Adam does not feel the scale of, and its three parts
    assert [float(x) for line in ours for x in line] == pytest.approx([float(x) for line in theirs for x in line], abs=2e-3)
    figures = [json.loads((folder / "distillation.json").read_text())["figures"]["student"] for folder in (one, tmp_path / "two")]
    assert figures[0] == pytest.approx(figures[1], rel=1e-4)
    for name, tensor in load_file(one / "model.safetensors").items():
        difference = (load_file(tmp_path / "two/model.safetensors")[name] - tensor).abs()
        assert difference.max() < 2e-3 and difference.mean() < 1e-5, name


# accelerate shards only on accelerators; its question what the device is gets another answer here, all else is what runs there.
SHARDED_ON_CPU = """
import accelerate.state
from accelerate.utils import DistributedType
begin = accelerate.state.PartialState.__init__
def on_cpu(self, *given, **named):
    begin(self, *given, **named)
    if self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type = DistributedType.MULTI_XPU
accelerate.state.PartialState.__init__ = on_cpu
"""
DIES = """
import os
from firsttoken.distill import trainer
wait = trainer.DistillationTrainer.training_step
def training_step(self, *given, **named):
    if self.state.global_step == 4:
        os._exit(1)
    return wait(self, *given, **named)
trainer.DistillationTrainer.training_step = training_step
"""
FSDP = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_TRANSFORMER_CLS_TO_WRAP": "Qwen2DecoderLayer",
}


@pytest.mark.slow
def test_sharded_weights_give_the_one_process_result_also_after_a_kill(make_recipe, tmp_path, torchrun):
    losses = [{"kind": "forward_kl"}, {"kind": "hidden_l2"}]
    recipe = make_recipe({"loss": losses, "training.keep": "best"})
    torchrun(recipe, tmp_path / "two", SHARDED_ON_CPU + DIES, FSDP, dies=True)
    assert not (tmp_path / "two").exists()
    said = torchrun(recipe, tmp_path / "two", SHARDED_ON_CPU, FSDP)
    assert "going on from step 3 of 6" in said
    one, _ = run(recipe, tmp_path / "one")
    for name, tensor in load_file(one / "model.safetensors").items():
        difference = (load_file(tmp_path / "two/model.safetensors")[name] - tensor).abs()
        assert difference.max() < 2e-3 and difference.mean() < 1e-5, name
    figures = [
        json.loads((folder / "distillation.json").read_text())["figures"]["student as written"] for folder in (one, tmp_path / "two")
    ]
    assert figures[0] == pytest.approx(figures[1], rel=1e-4)


def test_what_cannot_be_sharded_is_refused(make_recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(FirstTokenError, match=r"\[quantize\] does not run under FSDP; train without it there"):
        distill(make_recipe({"quantize": {"plan": "int8", "steps": 1}}), tmp_path / "student")


@pytest.mark.slow
def test_the_student_goes_straight_into_export(make_recipe, tmp_path):
    from firsttoken.bundle.manifest import read_manifest
    from firsttoken.pipeline import export

    out, _ = run(make_recipe(), tmp_path / "student")
    [bundle] = export(out, tmp_path / "bundles", plan="fp32", targets=("tflite-xnnpack",))
    assert read_manifest(bundle).cpu.proof.passed
