"""A module by what a user gives: a student's folder, a .pt2, a function."""

import json

import numpy as np
import pytest
from module_subjects import picture_program

from firsttoken.errors import FirstTokenError
from firsttoken.file_hash import hash_file
from firsttoken.modules.recognized import is_module_source
from firsttoken.modules.sources import open_source

BUILD = """
import torch
from torch import nn

def build():
    return {"module": nn.Linear(3, 2), "example": torch.zeros(1, 3), "labels": ["no", "yes"]}

def pair():
    return nn.Linear(3, 2), torch.zeros(1, 3)

def strange():
    return {"modul": 1}

def broken():
    raise KeyError("nothing")
"""


@pytest.fixture
def student(tmp_path):
    folder = tmp_path / "student"
    folder.mkdir()
    program = picture_program(folder / "model.pt2")
    (folder / "model-width-0.5.pt2").write_bytes(program.read_bytes())
    record = {
        "recipe name": "mine",
        "recipe": {"seed": 1},
        "seeds": [{"teacher": {"accuracy": 0.9}, "student distilled": {"accuracy": 0.8}}],
        "classes": ["a", "b", "c"],
        "programs": {
            name: {"width": width, "sha256": hash_file(program)} for name, width in (("model.pt2", 1.0), ("model-width-0.5.pt2", 0.5))
        },
    }
    (folder / "distillation.json").write_text(json.dumps(record))
    np.savez(folder / "held_out.npz", picture=np.zeros((2, 2, 6, 6), np.float32), labels=np.array([0, 1]))
    return folder


def test_a_student(student):
    source = open_source(student, width=0.5)
    assert source.module.labels == ("a", "b", "c") and source.held_out["labels"].tolist() == [0, 1] and source.calibration is None
    assert (source.lineage.recipe, source.lineage.teachers, source.lineage.accuracy) == ("mine", {"teacher": 0.9}, None)
    assert open_source(student).lineage.accuracy == 0.8


def test_a_student_that_was_changed(student):
    with pytest.raises(FirstTokenError, match="has no width 0.7; it has 0.5, 1"):
        open_source(student, width=0.7)
    (student / "model.pt2").write_bytes(b"else")
    with pytest.raises(FirstTokenError, match="was damaged or replaced"):
        open_source(student)


def test_functions(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(BUILD)
    monkeypatch.chdir(tmp_path)
    assert open_source("mine.py:build").module.labels == ("no", "yes") and open_source("mine.py:pair").module.name == "mine"
    for name, said in (
        ("strange", "returned 'modul' (did you mean 'module'"),
        ("broken", "line 15: KeyError"),
        ("absent", "has no function 'absent'"),
    ):
        with pytest.raises(FirstTokenError) as refused:
            open_source(f"mine.py:{name}")
        assert said in str(refused.value)


def test_what_is_a_module_and_what_is_not(student, tmp_path):
    (tmp_path / "weights.pth").write_bytes(b"")
    assert (
        is_module_source(student)
        and is_module_source("mine.py:build")
        and is_module_source("x.pt2")
        and is_module_source(tmp_path / "weights.pth")
    )
    assert not is_module_source("demo") and not is_module_source("Owner/Name") and not is_module_source(tmp_path)
    with pytest.raises(FirstTokenError, match="is a pickle of weights, which says no network"):
        open_source(tmp_path / "weights.pth")
