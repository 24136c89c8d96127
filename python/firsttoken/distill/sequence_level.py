"""Sequence-level distillation (Kim and Rush 2016, arXiv:1606.07947): the student is trained on what its teacher writes.

The answers lie in the work folder, one line a prompt, and are training data like any other.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from firsttoken.bundle.atomic import remove
from firsttoken.distill.generate import AnswerSettings, Placing, generate
from firsttoken.distill.recipe import Recipe, TextSource
from firsttoken.distill.work_folder import alone, held_work
from firsttoken.errors import FirstTokenError
from firsttoken.json_lines import json_lines
from firsttoken.progress import Report

ANSWERS = "answers.jsonl"  # a name that `held_back` never keeps out of training


def answered(
    recipe: Recipe,
    work: Path,
    restart: bool,
    bar: Callable[[], AbstractContextManager[Report]],
    say: Callable[[str], None],
    however_long: bool = False,
) -> Recipe:
    """Lets the first teacher answer the recipe's prompts, or goes on with it; returns the recipe with the answers as training data.

    A recipe that asks for none is returned as it is. Raises `FirstTokenError`, for answers of another teacher or other prompts too.
    """
    asked = recipe.sequence_level
    if asked is None:
        return recipe
    alone("[sequence_level]", "make the answers with `firsttoken distill generate` and name the file in [[data.train]]")
    if recipe.teachers[0].device == "split":
        raise FirstTokenError(
            'device = "split": what the teacher writes for [sequence_level] is written on one device; make the answers first with `firsttoken distill generate` and name the file in [[data.train]]'
        )
    held = held_work(work)
    output = work / ANSWERS
    try:
        if restart:
            for path in (output, output.with_name(f"{ANSWERS}.json")):
                remove(path)
        settings = AnswerSettings(asked.max_tokens, asked.temperature, recipe.seed)
        teacher = recipe.teachers[0]
        device = recipe.training.device if teacher.device == "auto" else teacher.device
        placing = Placing(dtype=teacher.dtype, device=device, however_long=however_long)
        with bar() as report:
            count = generate(recipe.teacher_folder(), recipe.path(asked.prompts), output, settings, report, placing)
    finally:
        os.close(held)
    cut = sum(line.get("stopped") != "end" for _, line in json_lines(output))
    say(f"the teacher answered {count:,} prompts" + (f"; {cut:,} of the answers were cut at {asked.max_tokens} tokens" if cut else ""))
    train = (*recipe.data.train, TextSource(files=(str(output),), domain=asked.domain))
    return recipe.model_copy(update={"sequence_level": None, "data": recipe.data.model_copy(update={"train": train})})
