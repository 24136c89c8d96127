"""A student's own inputs beside its program: some to calibrate ranges on, some held out to prove what is exported of it."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from firsttoken.distill.classifiers.data import load_data, split
from firsttoken.distill.classifiers.recipe import ClassifierRecipe
from firsttoken.distill.classifiers.tasks import begun

CALIBRATION, HELD_OUT = "calibration.npz", "held_out.npz"
MOST = {CALIBRATION: 256, HELD_OUT: 1024}  # samples, the first of the seed's order
MOST_BYTES = 64 << 20  # of the arrays of one file


def write_samples(recipe: ClassifierRecipe, program: Path, folder: Path) -> None:
    """Writes `CALIBRATION` of the training part and `HELD_OUT` of the rest, as the recipe's first seed divides them, under the names of the program's
    inputs, with the labels of a single task (-1 where unknown)."""
    inputs, labels = load_data(recipe, recipe.seed)
    parts = split(labels, recipe.classifier.train_share, recipe.seed)
    names = torch.export.load(program).graph_signature.user_inputs
    for file, places in zip(MOST, parts, strict=True):
        chosen = places[: min(MOST[file], MOST_BYTES // max(1, inputs[:1].nbytes))]
        given: tuple[Tensor, ...] = (inputs[chosen],)
        if recipe.tasks is not None:
            given = (inputs[chosen], begun(recipe.tasks, labels[chosen]))
        arrays = {str(name): tensor.numpy() for name, tensor in zip(names, given, strict=True)}
        if recipe.tasks is None:
            arrays["labels"] = labels[chosen].numpy()
        np.savez(folder / file, **arrays)  # type: ignore[arg-type]  # numbers alone; to a numpy before 2.1 allow_pickle is another array


def class_names(recipe: ClassifierRecipe) -> list[str]:
    """What the classes of built-in data are called; nothing of a user's."""
    from firsttoken.distill.classifiers.encoder import LIBRARIES

    known = {
        "digits": [str(digit) for digit in range(10)],
        "breast-cancer": ["malignant", "benign"],
        "movement": ["still", "walking", "running", "turning"],
        "docstrings": list(LIBRARIES),
    }
    return known.get(recipe.classifier.data or "", [])
