"""Data that needs no download: ``(inputs, labels)`` for a seed; a label below 0 is unknown."""

import torch
from torch import Tensor

from firsttoken.distill.classifiers.recipe import ClassifierRecipe, user_function
from firsttoken.distill.classifiers.tasks import label_matrix
from firsttoken.distill.modules import UNLABELLED
from firsttoken.errors import FirstTokenError


def load_data(recipe: ClassifierRecipe, seed: int) -> tuple[Tensor, Tensor]:
    """The recipe's data. Raises `FirstTokenError` for a function of the user's that gives something else."""
    if recipe.classifier.make is not None:
        inputs, labels = user_function(recipe, recipe.classifier.make)(seed)
        if recipe.tasks is not None:
            return inputs, label_matrix(recipe.tasks, labels, len(inputs), recipe.classifier.make)
        if len(inputs) != len(labels) or labels.dtype != torch.int64:
            raise FirstTokenError(
                f"{recipe.classifier.make}: gave {len(inputs)} inputs and {len(labels)} labels of {labels.dtype}; expected equally many, labels int64"
            )
        return inputs, labels.clamp_min(UNLABELLED)  # -100, too, is a label that nobody knows
    if recipe.classifier.texts is not None:
        from firsttoken.distill.classifiers.encoder import encode

        texts, numbers = texts_of(recipe, seed)
        return encode(texts), torch.tensor(numbers).clamp_min(UNLABELLED)
    if recipe.classifier.data == "docstring-tasks":
        from firsttoken.distill.classifiers.docstring_tasks import docstring_tasks

        assert recipe.tasks is not None, "the recipe was checked for tasks"
        inputs, named = docstring_tasks()
        return inputs, label_matrix(recipe.tasks, named, len(inputs), recipe.classifier.data)
    if recipe.tasks is not None:
        raise FirstTokenError(f"data {recipe.classifier.data} has one task; with [[task]] expected docstring-tasks or make")
    assert recipe.classifier.data is not None, "a classifier names its data, or a function that makes it"
    makers = {"digits": digits, "breast-cancer": breast_cancer, "movement": movement, "docstrings": docstrings}
    return makers[recipe.classifier.data](seed)


def texts_of(recipe: ClassifierRecipe, seed: int) -> tuple[list[str], list[int]]:
    """The texts behind a recipe's data, and their labels. Raises `FirstTokenError` for a function of the user's that gives something else."""
    if recipe.classifier.texts is None:
        from firsttoken.distill.classifiers.encoder import docstring_texts

        return docstring_texts()
    texts, labels = (list(part) for part in user_function(recipe, recipe.classifier.texts)(seed))
    whole = all(isinstance(text, str) for text in texts) and all(isinstance(label, int) for label in labels)
    if not texts or len(texts) != len(labels) or not whole:
        raise FirstTokenError(
            f"{recipe.classifier.texts}: gave {len(texts)} texts and {len(labels)} labels; expected a list of strings and as many whole numbers"
        )
    return texts, labels


def split(labels: Tensor, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Places for training and held out, in an order that the seed decides."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    cut = int(share * len(labels))
    return order[:cut], order[cut:]


def need_scikit_learn() -> None:
    """Raises `FirstTokenError` saying what to install."""
    from importlib.util import find_spec

    if find_spec("sklearn") is None:
        raise FirstTokenError(
            "this recipe's data comes with scikit-learn, which is not installed; install it with: pip install scikit-learn"
        )


def digits(seed: int) -> tuple[Tensor, Tensor]:
    """1797 pictures of 8 by 8."""
    need_scikit_learn()
    from sklearn.datasets import load_digits

    inputs, labels = load_digits(return_X_y=True)
    return torch.tensor(inputs, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16, torch.tensor(labels)


def breast_cancer(seed: int) -> tuple[Tensor, Tensor]:
    """569 samples of 30 measures, each brought to mean 0 and deviation 1."""
    need_scikit_learn()
    from sklearn.datasets import load_breast_cancer

    inputs, labels = load_breast_cancer(return_X_y=True)
    values = torch.tensor(inputs, dtype=torch.float32)
    return (values - values.mean(0)) / values.std(0), torch.tensor(labels)


def movement(seed: int) -> tuple[Tensor, Tensor]:
    """1600 made-up accelerometer series of 48 steps and 3 axes: still, walking, running, turning."""
    random = torch.Generator().manual_seed(1000 + seed)
    draw = lambda low, high: low + (high - low) * torch.rand(1600, 1, generator=random)  # noqa: E731
    labels = torch.arange(1600) % 4
    time = torch.arange(48)[None] / 16
    phase = 2 * torch.pi * draw(0, 1)
    speed = torch.tensor([0.3, 1.8, 2.4, 1.0])[labels][:, None] * draw(0.75, 1.3)
    swing = torch.tensor([0.15, 0.8, 1.0, 0.6])[labels][:, None] * draw(0.5, 1.5)
    wave = torch.sin(2 * torch.pi * speed * time + phase)
    sharp = torch.where((labels == 2)[:, None], wave.abs(), wave)
    axes = torch.stack([swing * wave, swing * sharp, torch.where((labels == 3)[:, None], time * draw(-0.5, 0.5), 0.2 * wave)], dim=-1)
    return axes + 0.8 * torch.randn(axes.shape, generator=random), labels


def docstrings(seed: int) -> tuple[Tensor, Tensor]:
    """Docstrings of the Python standard library as MiniLM's tokens; the label is the package they come from."""
    from firsttoken.distill.classifiers.encoder import docstring_tokens

    return docstring_tokens()
