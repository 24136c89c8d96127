"""Samples that nobody labelled: which there are, and which labels the teachers give them."""

import torch
from torch import Tensor, nn

from firsttoken.distill.classifiers.recipe import ClassifierRecipe
from firsttoken.distill.losses.divergence import IGNORED
from firsttoken.distill.modules import UNLABELLED
from firsttoken.errors import FirstTokenError

BATCH = 256


def hide_labels(labels: Tensor, train: Tensor, share: float | None, seed: int) -> Tensor:
    """Labels ``[samples]`` of which, among the places ``train``, only a share drawn by the seed stays; the rest is `UNLABELLED`.

    Raises `FirstTokenError` where none would stay.
    """
    if share is None:
        return labels
    kept = int(share * len(train))
    if kept == 0:
        raise FirstTokenError(
            f"classifier.labelled_share = {share} leaves none of {len(train)} training samples a label; give a larger one"
        )
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(7919 + seed))
    hidden = labels.clone()
    hidden[train[order[kept:]]] = UNLABELLED
    return hidden


def check_unlabelled(recipe: ClassifierRecipe, labels: Tensor) -> None:
    """Raises `FirstTokenError` for [pseudo_labels] where all training samples, whose labels these are, have one; or where none has."""
    if not (labels >= 0).any():
        raise FirstTokenError("no training sample has a label, and teachers learn from labels; give some, as numbers from 0")
    if recipe.pseudo_labels is not None and (labels >= 0).all():
        raise FirstTokenError(
            "pseudo_labels: every training sample has a label; give classifier.labelled_share, or labels of -1 for samples without one"
        )


@torch.no_grad()
def answers_of(teachers: list[tuple[nn.Module, float]], inputs: Tensor) -> Tensor:
    """Class probabilities ``[samples, classes]`` of teachers ``(module, weight)``, averaged by weight."""
    total = sum(weight for _, weight in teachers)
    parts = []
    for batch in inputs.split(BATCH):
        answers = []
        for model, weight in teachers:
            place = next(model.parameters()).device
            answers.append(weight / total * model.eval()(batch.to(place)).float().softmax(-1).cpu())
        parts.append(torch.stack(answers).sum(0))
    return torch.cat(parts)


def pseudo_label(
    recipe: ClassifierRecipe, inputs: Tensor, labels: Tensor, truth: Tensor, train: Tensor, teachers: list[tuple[nn.Module, float]]
) -> tuple[Tensor, dict]:
    """Returns labels in which unlabelled training samples have the teachers', where they are sure, and how many were taken.

    A sample below the threshold becomes -100, which is not trained on. ``soft`` keeps `UNLABELLED`: the sample is learned from
    the teachers' probabilities alone. ``truth`` only counts how many were right, where it is known.
    """
    wanted = recipe.pseudo_labels
    assert wanted is not None, "a recipe with [pseudo_labels]"
    unlabelled = train[labels[train] < 0]
    sure, classes = answers_of(teachers, inputs[unlabelled]).max(-1)
    taken = sure >= wanted.threshold
    filled = labels.clone()
    filled[unlabelled] = torch.where(taken, classes if wanted.labels == "hard" else UNLABELLED, IGNORED)
    known = taken & (truth[unlabelled] >= 0)
    counts: dict = {"labelled": len(train) - len(unlabelled), "unlabelled": len(unlabelled), "taken": int(taken.sum())}
    if known.any():
        counts["right"] = (classes == truth[unlabelled])[known].double().mean().item()
    return filled, counts


def in_words(counts: dict) -> str:
    """What was taken, for people."""
    right = f", {100 * counts['right']:.2f} % of them right" if "right" in counts else ""
    return f"pseudo-labels: {counts['taken']:,} of {counts['unlabelled']:,} unlabelled samples taken{right}; {counts['labelled']:,} have labels"
