"""A small trained-on-nothing teacher, a little text, and recipes over both."""

import copy
import json
import os
import subprocess
import sys

import pytest

from firsttoken.demo import held_out_text
from firsttoken.distill.recipe import Recipe, check_recipe


@pytest.fixture(scope="session")
def texts(tmp_path_factory):
    """A folder with three text files of a few thousand tokens, a held-out file and a chat file."""
    folder = tmp_path_factory.mktemp("texts")
    text = held_out_text()
    for number in range(3):
        (folder / f"part{number}.txt").write_text(text[number * 3000 : (number + 1) * 3000], encoding="utf-8")
    (folder / "held_out.md").write_text(text[20_000:24_000], encoding="utf-8")
    chats = [
        {
            "messages": [{"role": "user", "content": f"What is {n}?"}, {"role": "assistant", "content": f"{n} is a number."}],
            "domain": "numbers",
        }
        for n in range(20)
    ]
    (folder / "chats.jsonl").write_text("".join(json.dumps(chat) + "\n" for chat in chats), encoding="utf-8")
    return folder


@pytest.fixture
def recipe_values(tiny_model, texts):
    """Values of a recipe that trains in a second or two; a copy to change."""
    return copy.deepcopy(
        {
            "name": "tiny",
            "summary": "test",
            "seed": 3,
            "teacher": [{"checkpoint": str(tiny_model)}],
            "student": {"cut": {"layers": 1, "intermediate_size": 48}},
            "data": {
                "train": [{"files": [str(texts / "part*.txt")]}],
                "held_out": [str(texts / "held_out.md")],
                "length": 32,
                "held_out_windows": 8,
            },
            "loss": [{"kind": "forward_kl", "weight": 0.7}, {"kind": "cross_entropy", "weight": 0.3}],
            "temperature": {"start": 5, "end": 1},
            "training": {"steps": 6, "batch": 4, "learning_rate": 1e-3, "evaluate_every": 3},
        }
    )


@pytest.fixture
def make_recipe(recipe_values):
    """Returns a function that makes the recipe with changes by dotted name, such as ``{"training.steps": 9}``."""

    def make(changes: dict | None = None) -> Recipe:
        for name, value in (changes or {}).items():
            *path, last = name.split(".")
            place = recipe_values
            for part in path:
                place = place[int(part)] if part.isdigit() else place.setdefault(part, {})
            if value is None:
                place.pop(last, None)
            else:
                place[last] = value
        return check_recipe(recipe_values)

    return make


@pytest.fixture
def torchrun(tmp_path):
    """Returns a function that distils a recipe in two processes (gloo, CPU), started by torchrun as a user would.

    ``before`` is Python that each process runs first, ``environment`` what `accelerate launch` would set; with ``dies`` it must fail.
    """

    def start(recipe: Recipe, output, before: str = "", environment: dict[str, str] | None = None, dies: bool = False) -> str:
        script = tmp_path / "child.py"
        script.write_text(
            f"{before}\nimport json, sys\nfrom firsttoken.distill.distill import distill\nfrom firsttoken.distill.recipe import Recipe\n"
            "distill(Recipe.model_validate(json.loads(sys.argv[1])), sys.argv[2])\n"
        )
        values = json.dumps(recipe.model_dump(mode="json", by_alias=True))
        command = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--nproc-per-node",
            "2",
            "--master-port",
            "29533",
            str(script),
            values,
            str(output),
        ]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})})
        assert (done.returncode != 0) == dies, done.stderr[-3000:]
        return done.stdout

    return start
