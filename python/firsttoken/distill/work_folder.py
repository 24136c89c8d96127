"""The folder next to the output in which a run keeps what it needs to go on: ``OUTPUT.work``.

It holds ``identity.json`` (what the run is made from), one folder a stage, and nothing that the student needs later.
"""

import json
import os
import re
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from firsttoken.atomic_file import write_text
from firsttoken.bundle.atomic import lock, remove
from firsttoken.checkpoint import Checkpoint, read_json
from firsttoken.distill.recipe import CROSS_TOKENIZER, Recipe
from firsttoken.errors import FirstTokenError
from firsttoken.safe_text import visible
from firsttoken.tokenizer import Tokenizer

if TYPE_CHECKING:  # it imports torch, which asking a server does without
    from firsttoken.distill.windows import Windows

IDENTITY = "identity.json"
# All that runs put there, with what a kill leaves of it.
OURS = re.compile(
    r"identity\.json|held_out\.txt|\.(identity\.json|held_out\.txt)\.[\w-]+\.partial|\.encoding\.lock|\.?encoded-\w+|answers\.jsonl(\.json)?|\.answers\.jsonl\.json\.[\w-]+\.partial|stage-\d+|seed-\d+|trial-\d+|quantize"
)


# What a call with `restart` has made by itself before it opens the folder; named by what it was made of, or made anew.
JUST_MADE = re.compile(r"\.encoding\.lock|encoded-\w+|answers\.jsonl(\.json)?")


def work_folder(output: Path) -> Path:
    """Where the run for ``output`` keeps its state."""
    return output.with_name(f"{output.name}.work")


def identity_of(recipe: Recipe, train: "Windows", held_out: "Windows") -> dict:
    """What decides the result: every field of the recipe, the checkpoints, the data and the libraries' versions."""
    from importlib.metadata import version

    folders = {f"teacher {n}": t.checkpoint for n, t in enumerate(recipe.teachers) if t.checkpoint} | (
        {"student": recipe.student.checkpoint} if recipe.student.checkpoint else {}
    )
    prints = {}
    for who, folder in folders.items():
        with Checkpoint(recipe.checkpoint_folder(folder)) as checkpoint:
            prints[who] = checkpoint.fingerprint()
    quantize = recipe.quantize
    plans: dict[str, object] = {}
    if any(
        loss.kind in CROSS_TOKENIZER for loss in recipe.losses
    ):  # others need the teacher's to be the student's, which the data depends on
        plans["teachers' tokenizers"] = [
            sha256(Tokenizer(recipe.checkpoint_folder(t.checkpoint)).engine.to_str().encode()).hexdigest()
            for t in recipe.teachers
            if t.checkpoint
        ]
    if quantize is not None:
        from firsttoken.quant.plan import load_plan
        from firsttoken.targets.target import load_target

        plans["quantization plan"] = load_plan(recipe.declared(quantize.plan)).model_dump(mode="json", by_alias=True)
        plans["quantization target"] = load_target(recipe.declared(quantize.target)).model_dump(mode="json")
    return {
        **plans,
        "recipe": recipe.what_decides(),
        "checkpoints": prints,
        "training data": train.fingerprint(),
        "held-out data": held_out.fingerprint(),
        "packages": {package: version(package) for package in ("torch", "transformers", "accelerate")},
    }


def open_work(folder: Path, identity: dict, restart: bool) -> int:
    """Makes or reopens the work folder and returns its lock, to be kept open. Raises `FirstTokenError`.

    A run whose recipe, checkpoints, data or packages differ from those it began with is refused, naming what differs.
    """
    held = held_work(folder)
    if restart:
        for each in folder.iterdir():
            if not JUST_MADE.fullmatch(each.name):
                remove(each)
    path = folder / IDENTITY
    if path.exists():
        try:
            check_same(folder, read_json(path, ""), identity)
        except FirstTokenError:
            os.close(held)
            raise
    else:
        write_text(path, json.dumps(identity, indent=1) + "\n")
    return held


def held_work(folder: Path) -> int:
    """Makes the work folder where there is none and returns its lock, to be kept open. Raises `FirstTokenError` for what is not a run's, or another's."""
    foreign = foreign_in(folder)
    if foreign or folder.is_symlink():
        raise FirstTokenError(
            f"{folder}: a run keeps its state here, but it holds {visible(foreign[0]) if foreign else 'a link'!r}, which is not a run's; move it away, or choose another output with -o"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = lock(folder)
    except OSError as error:
        raise FirstTokenError(f"{folder}: cannot be written ({error.strerror}); choose another output with -o") from None
    if held is None:
        raise FirstTokenError(f"{folder}: another run is at work on it; wait for it, or choose another output with -o")
    return held


def check_same(folder: Path, began: dict, now: dict) -> None:
    """Raises `FirstTokenError` naming the first thing in which a run that goes on differs from what it began with."""
    changed = first_difference(began, now)
    if changed:
        where, before, after = changed
        raise FirstTokenError(
            f"{folder}: this run began with {where} = {shorten(before)}, now it is {shorten(after)}; put it back to go on, give --restart to start over, or choose another output with -o"
        )


def foreign_in(folder: Path) -> list[str]:
    """What lies in a work folder and was not put there by a run; empty where there is no folder."""
    return sorted(name for name in os.listdir(folder) if not OURS.fullmatch(name)) if folder.is_dir() else []


def remove_work(folder: Path, say: Callable[[str], None]) -> None:
    """Removes what a finished run kept; what someone else put there in the meantime stays, and it is said."""
    if not foreign_in(folder):
        remove(folder)
        return
    for path in folder.iterdir():
        if OURS.fullmatch(path.name):
            remove(path)
    say(f"{folder}: holds what is not the run's and stays")


def alone(what: str, instead: str = "start it without torchrun") -> None:
    """Raises `FirstTokenError` under ``torchrun`` with several processes, for what is only for one."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes > 1:
        raise FirstTokenError(f"{what} runs in one process, and torchrun started {processes}; {instead}")


def first_difference(old: object, new: object, place: str = "") -> tuple[str, object, object] | None:
    """Returns ``(place, old value, new value)`` of the first leaf that differs, or None."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys([*old, *new]):
            found = first_difference(old.get(key), new.get(key), f"{place}.{key}" if place else str(key))
            if found:
                return found
        return None
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, pair in enumerate(zip(old, new, strict=True)):
            found = first_difference(*pair, f"{place}[{number}]")
            if found:
                return found
        return None
    return None if old == new else (place, old, new)


def shorten(value: object) -> str:
    """A value for an error message."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
