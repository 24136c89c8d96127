"""Where models lie changes no figure: shards, a device map, half precision, recomputed activations."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from firsttoken.distill import running
from firsttoken.distill.distill import distill
from firsttoken.distill.models import load_decoder
from firsttoken.distill.placing import named_device, open_teacher, training_device
from firsttoken.distill.teachers import LiveTeacher
from firsttoken.errors import FirstTokenError

SHARDS = """
import sys, json, torch
from pathlib import Path
from firsttoken.distill.models import load_decoder
from firsttoken.distill.placing import open_teacher
from firsttoken.distill.recipe import Recipe
from firsttoken.distill.teachers import LiveTeacher
recipe = Recipe.model_validate(json.loads(sys.argv[1]))
folder = recipe.teacher_folder()
whole, sharded = load_decoder(folder), open_teacher(recipe.teachers[0], folder, "sdpa", recipe)
tokens = torch.arange(40).reshape(2, 20) * 7
counted = torch.ones(2, 19, dtype=torch.bool)
ours, theirs = (LiveTeacher("t", m, follows=False).look(tokens, counted, tokens[:, 0], True, False) for m in (sharded, whole))
assert torch.equal(ours.hidden, theirs.hidden) and all(torch.equal(a, b) for a, b in zip(ours.states, theirs.states, strict=True))
layer = lambda model: sum(getattr(p, "to_local", lambda: p)().numel() for p in model.model.layers[0].parameters())
assert layer(sharded) <= layer(whole) / 2 + 8 and layer(whole) > 1000, (layer(sharded), layer(whole))
print("shards", layer(sharded), layer(whole), flush=True)
"""


def test_a_sharded_teacher_says_what_the_whole_one_says_and_teaches_the_same(make_recipe, tmp_path, torchrun):
    recipe = make_recipe({"teacher.0.sharded": True})
    assert torchrun(recipe, tmp_path / "two", SHARDS).count("shards") == 2
    distill(recipe, tmp_path / "one", say=lambda line: None)
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    for name, tensor in one.items():
        assert (two[name] - tensor).abs().max() < 2e-3 and (two[name] - tensor).abs().mean() < 1e-5, name


@pytest.mark.parametrize("losses", [["forward_kl", "hidden_l2"], ["attention"]])
def test_a_teacher_laid_over_devices_and_recomputed_activations_change_nothing(make_recipe, tmp_path, losses):
    losses = [{"kind": kind} for kind in losses]
    distill(make_recipe({"loss": losses}), tmp_path / "plain", say=lambda line: None)
    recipe = make_recipe({"teacher.0.device": "split", "training.gradient_checkpointing": True, "training.device": "cpu"})
    distill(recipe, tmp_path / "other", say=lambda line: None)
    plain, other = (load_file(tmp_path / name / "model.safetensors") for name in ("plain", "other"))
    for name, tensor in plain.items():
        assert (other[name] - tensor).abs().max() < 1e-6, name


def test_a_teacher_in_half_precision_lies_in_half_the_memory_and_says_nearly_the_same(make_recipe, tiny_model):
    recipe = make_recipe({"teacher.0.dtype": "bfloat16", "teacher.0.device": "cpu"})
    half, whole = open_teacher(recipe.teachers[0], tiny_model, "sdpa", recipe), load_decoder(tiny_model)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}
    tokens, counted = torch.arange(40).reshape(2, 20) * 7, torch.ones(2, 19, dtype=torch.bool)
    ours, theirs = (LiveTeacher("t", model).look(tokens, counted, tokens[:, 0], False, False).hidden for model in (half, whole))
    assert 0 < (ours.float() - theirs).abs().max() < 0.05 * theirs.abs().max()


def test_a_student_in_half_precision_trains_and_is_written_as_asked(make_recipe, tmp_path):
    changes = {"student.dtype": "bfloat16", "teacher.0.dtype": "bfloat16", "training.steps": 20, "training.learning_rate": 3e-3}
    distill(make_recipe(changes | {"training.evaluate_every": 20}), tmp_path / "half", say=lambda line: None)
    figures = json.loads((tmp_path / "half/distillation.json").read_text())["figures"]
    assert figures["student"]["cross_entropy"] < figures["student as cut"]["cross_entropy"] - 0.05
    written = load_file(tmp_path / "half/model.safetensors")
    assert all(tensor.dtype == torch.float32 and torch.equal(tensor, tensor.bfloat16().float()) for tensor in written.values())


def test_only_weights_are_halved_and_adapters_are_added_in_full(make_recipe, tiny_model, tmp_path, monkeypatch):
    """A rounded table of rotations would be another model; and of a small update half precision would keep nothing."""
    buffers = []
    of = running.DistillRun.objective

    def watched(self, model, *given):
        made = of(self, model, *given)
        buffers.extend((name, each.dtype) for name, each in model.named_buffers())
        return made

    monkeypatch.setattr(running.DistillRun, "objective", watched)
    student = {"checkpoint": str(tiny_model), "dtype": "bfloat16", "lora": {"rank": 2}}
    changes = {"student": student, "training.steps": 4, "training.evaluate_every": 4, "training.learning_rate": 1e-4}
    distill(make_recipe(changes | {"loss": [{"kind": "cross_entropy"}]}), tmp_path / "half", say=lambda line: None)
    assert {dtype for name, dtype in buffers if "inv_freq" in name} == {torch.float32}
    written, before = load_file(tmp_path / "half/model.safetensors"), load_decoder(tiny_model).state_dict()
    changed = [name for name, tensor in written.items() if not torch.equal(tensor, before[name].bfloat16().float())]
    assert changed and any(not torch.equal(written[name], written[name].bfloat16().float()) for name in changed)


def test_devices_that_are_not_there_are_named(make_recipe, tiny_model):
    if training_device().type != "cpu":
        pytest.skip("for a machine without an accelerator")
    with pytest.raises(FirstTokenError, match="teacher tiny: device 'cuda:1' is not there; this machine has cpu"):
        recipe = make_recipe({"teacher.0.device": "cuda:1"})
        open_teacher(recipe.teachers[0], tiny_model, "sdpa", recipe)
    assert named_device("cpu", "x") == torch.device("cpu")
    with pytest.raises(FirstTokenError, match="--device: device 'gpu' is unknown; expected auto, cpu, or one such as cuda:0"):
        named_device("gpu", "--device")
    for changes, expected in (
        ({"teacher.0.device": "gpu"}, "device"),
        ({"teacher.0.device": "cpu", "teacher.0.sharded": True}, "leave one of the two out"),
        (
            {"teacher.0.sharded": None, "teacher.0.checkpoint": None, "teacher.0.cache": "x", "student": {"config": "c.json"}},
            "a cache has none of them",
        ),
    ):
        with pytest.raises(FirstTokenError, match=expected):
            make_recipe(changes)


def test_a_teacher_over_all_devices_is_for_one_process(make_recipe, tiny_model, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    recipe = make_recipe({"teacher.0.device": "split"})
    with pytest.raises(FirstTokenError, match="torchrun started 2; expected sharded = true"):
        open_teacher(recipe.teachers[0], tiny_model, "sdpa", recipe)


def test_where_it_is_computed_is_not_what_is_computed(make_recipe):
    plain = make_recipe().what_decides()
    assert make_recipe({"teacher.0.sharded": True, "training.gradient_checkpointing": True}).what_decides() == plain
    assert not {"dtype", "attend_across_documents"} & {*plain["teachers"][0], *plain["student"], *plain["data"]}, (
        "what runs of before had not"
    )
    assert make_recipe({"student.dtype": "bfloat16"}).what_decides()["student"]["dtype"] == "bfloat16"


def test_a_tokens_logits_do_not_depend_on_the_document_before(make_recipe, texts, tiny_model):
    from firsttoken.distill.documents import training_windows
    from firsttoken.distill.objective import Distillation
    from firsttoken.tokenizer import Tokenizer

    recipe = make_recipe({"data.attend_across_documents": False, "data.train": [{"files": [str(texts / "chats.jsonl")]}]})
    windows, model = training_windows(recipe, Tokenizer(tiny_model)), load_decoder(tiny_model)
    starts = [(row, column) for row, column in np.argwhere(windows.positions == 0) if column]
    row, column = starts[0]
    tokens, positions = (torch.from_numpy(array[row : row + 1]).long() for array in (windows.tokens, windows.positions))
    changed = torch.cat([tokens[:, :column].flip(1), tokens[:, column:]], dim=1)
    assert not torch.equal(tokens, changed) and len(starts) > 3
    for attention in ("sdpa", "eager"):
        model.set_attn_implementation(attention)
        with torch.no_grad():
            kept = [model(input_ids=each, position_ids=positions, use_cache=False).logits[:, column:] for each in (tokens, changed)]
            alone = model(input_ids=tokens[:, column:], position_ids=positions[:, column:], use_cache=False).logits
            seen = [model(input_ids=each, use_cache=False).logits[:, column:] for each in (tokens, changed)]
        assert torch.allclose(*kept, atol=1e-5) and torch.allclose(kept[0], alone, atol=1e-5) and not torch.allclose(*seen, atol=1e-3)
    made = Distillation(model, [LiveTeacher("t", load_decoder(tiny_model))], recipe.losses, windows.domains, 4096)
    scores = [
        made.score(
            {
                "input_ids": each,
                "labels": torch.full_like(each, -100).index_put((torch.tensor(0), torch.tensor(column + 1)), each[0, column + 1]),
                "positions": positions,
            }
        )
        for each in (tokens, changed)
    ]
    assert scores[0].tolist() == pytest.approx(scores[1].tolist(), abs=1e-4) and scores[0][2] == 1


def test_documents_stay_apart_through_a_whole_training(make_recipe, tmp_path, texts):
    changes = {"data.attend_across_documents": False, "data.train": [{"files": [str(texts / "chats.jsonl")]}], "training.steps": 2}
    distill(make_recipe(changes), tmp_path / "apart", say=lambda line: None)
    distill(make_recipe({"data.attend_across_documents": True}), tmp_path / "seen", say=lambda line: None)
    apart, seen = (load_file(tmp_path / name / "model.safetensors") for name in ("apart", "seen"))
    assert any(not torch.equal(apart[name], seen[name]) for name in apart)


def test_a_model_whose_state_runs_on_is_refused(tmp_path):
    from families_on_disk import random_model

    from firsttoken.distill.models import check_apart

    with pytest.raises(FirstTokenError, match=r"the student \(lfm2\) carries a state from one document to the next"):
        check_apart(random_model("lfm2"), "the student")
    check_apart(random_model("gemma3"), "the student")
