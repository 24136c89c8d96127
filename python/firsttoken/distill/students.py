"""Where a student comes from: a checkpoint, a config.json, or its teacher, cut in one or many steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from firsttoken.checkpoint import Checkpoint, read_json
from firsttoken.decoder.families import describe
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import open_decoder
from firsttoken.distill import cut_sizes
from firsttoken.distill.cut import choose, cut_tensors
from firsttoken.distill.importance import by_activation, by_l1
from firsttoken.distill.models import check_length, load_decoder, make_decoder
from firsttoken.distill.recipe import Recipe
from firsttoken.distill.text_alignment import is_same_tokenizer
from firsttoken.distill.windows import Windows
from firsttoken.errors import FirstTokenError
from firsttoken.tokenizer import Tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel


CALIBRATION_BATCH = 4


@dataclass
class Stage:
    """One training: what is cut before it, and how many steps follow. ``sizes`` None cuts nothing."""

    name: str
    steps: int
    sizes: cut_sizes.Sizes | None = None
    history: list[dict] = field(default_factory=list)


def plan_stages(recipe: Recipe) -> list[Stage]:
    """Returns the trainings that a recipe asks for, before any work. Raises `FirstTokenError` for an impossible cut."""
    cut = recipe.student.cut
    if cut is None:
        return [Stage("training", recipe.training.steps)]
    with Checkpoint(recipe.teacher_folder()) as checkpoint:
        goal = cut_sizes.target_sizes(open_decoder(checkpoint), cut)
        steps = cut_sizes.plan_steps(checkpoint.config, goal, cut.most_per_step)
    if not steps:
        raise FirstTokenError("student.cut changes nothing; give at least one size below the teacher's")
    stages = [Stage(f"cut {n} of {len(steps)}", cut.steps_between, sizes) for n, sizes in enumerate(steps[:-1], 1)]
    return [*stages, Stage("training", recipe.training.steps, steps[-1])]


def student_decoder(recipe: Recipe) -> Decoder:
    """The shape of the student that the recipe ends with, read without its weights. Raises `FirstTokenError`."""
    source = recipe.student
    if source.config is not None:
        return describe(read_json(recipe.path(source.config), "student.config names it"))
    with Checkpoint(recipe.checkpoint_folder(source.checkpoint) if source.checkpoint else recipe.teacher_folder()) as checkpoint:
        decoder = open_decoder(checkpoint)
        if source.cut is None:
            return decoder
        sizes = cut_sizes.target_sizes(decoder, source.cut)
        return describe(cut_sizes.resized(checkpoint.config, sizes, range(sizes.layers)))


def first_student(recipe: Recipe, attention: str) -> PreTrainedModel:
    """The student before any training; for a cut, the teacher it starts as. Weights from scratch follow the recipe's seed.

    Raises `FirstTokenError`, for windows that are longer than its positions too.
    """
    model = _first_student(recipe, attention)
    check_length(model, recipe.data.length, "the student")
    return model


def _first_student(recipe: Recipe, attention: str) -> PreTrainedModel:
    source = recipe.student
    if source.cut is not None:
        return load_decoder(recipe.teacher_folder(), attention)
    if source.checkpoint is not None:
        return load_decoder(recipe.checkpoint_folder(source.checkpoint), attention)
    assert source.config is not None, "a student is a cut, a checkpoint or a config"
    torch.manual_seed(recipe.seed)
    return make_decoder(read_json(recipe.path(source.config), "student.config names it"), attention=attention)


def cut_model(model: PreTrainedModel, recipe: Recipe, sizes: cut_sizes.Sizes, train: Windows, attention: str) -> PreTrainedModel:
    """Returns a smaller model made of the most important parts of ``model``, measured on the first training windows of the seed."""
    cut = recipe.student.cut
    assert cut is not None, "sizes come from a cut"
    # to_diff_dict would leave defaults out, and a default of today is not one of tomorrow
    config = model.config.to_dict()
    teacher = describe(config)
    now = cut_sizes.sizes_of(teacher)
    if cut.importance == "l1":
        importance = by_l1(model, teacher)
    else:
        chooser = torch.Generator().manual_seed(recipe.seed)
        chosen = torch.randperm(len(train), generator=chooser)[: cut.calibration_windows]
        tokens = torch.from_numpy(train.tokens[chosen.numpy()]).long()
        importance = by_activation(model, teacher, tokens.split(CALIBRATION_BATCH))
    kept = choose(importance, now, sizes)
    tensors = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    if teacher.tied_head:
        tensors.pop("lm_head.weight", None)
    smaller = cut_sizes.resized(config, sizes, kept.layers)
    made = make_decoder(smaller, cut_tensors(tensors, teacher, describe(smaller), kept), attention)
    return made.to(model.device)  # type: ignore[arg-type]  # transformers wraps it without its types


def settings_folder(recipe: Recipe) -> Path | None:
    """The checkpoint whose end tokens and generation settings the student keeps; None where its config.json has them: no teacher has its tokenizer."""
    if recipe.student.checkpoint is not None:
        return recipe.checkpoint_folder(recipe.student.checkpoint)
    checkpoint = next((teacher.checkpoint for teacher in recipe.teachers if teacher.checkpoint is not None), None)
    if checkpoint is None:
        return None
    folder = recipe.checkpoint_folder(checkpoint)
    own = recipe.tokenizer is None or is_same_tokenizer(Tokenizer(recipe.checkpoint_folder(recipe.tokenizer)), Tokenizer(folder))
    return folder if own else None


def tokenizer_folder(recipe: Recipe) -> Path:
    """Where the tokenizer comes from: the recipe's own, the student's, or the first teacher's. Raises `FirstTokenError`."""
    if recipe.tokenizer is not None:
        return recipe.checkpoint_folder(recipe.tokenizer)
    folder = settings_folder(recipe)
    if folder is None:
        raise FirstTokenError(
            'the recipe names no tokenizer: a student from a config without a teacher checkpoint needs tokenizer = "checkpoint folder"'
        )
    return folder
