"""Small models that a recipe can name; each takes one tensor and gives logits ``[batch, classes]``."""

from functools import partial

import torch
from torch import Tensor, nn

from firsttoken.distill.classifiers.recipe import ClassifierRecipe, ClassifierStudent, Model, user_function


def make_model(recipe: ClassifierRecipe, model: Model, inputs: Tensor, classes: int) -> nn.Module:
    """Builds a model for inputs like ``inputs``, with random weights that follow torch's seed. Raises `FirstTokenError` for an impossible one."""
    if model.make is not None:
        return user_function(recipe, model.make)()
    if model.arch is not None:
        from firsttoken.distill.classifiers.arch_model import build
        from firsttoken.distill.classifiers.elastic import Elastic

        network = partial(build, model.arch, tuple(inputs.shape[1:]), classes)
        widths = model.widths if isinstance(model, ClassifierStudent) else None
        return network() if widths is None else Elastic(lambda width: network(width=width), widths)
    if model.kind == "cnn":
        return cnn(model.width, (inputs.shape[1], inputs.shape[2], inputs.shape[3]), classes)
    if model.kind == "mlp":
        return mlp(inputs[0].numel(), model.width, classes)
    if model.kind == "lstm":
        return Recurrent(model.layers, model.width, inputs.shape[-1], classes)
    if model.kind == "row-transformer":
        return RowTransformer(model.width, model.layers, (inputs.shape[-2], inputs.shape[-1]), classes)
    if model.kind == "mpnet":
        from firsttoken.distill.classifiers.mpnet import mpnet

        return mpnet(classes)
    from firsttoken.distill.classifiers.encoder import make_encoder, minilm

    return minilm(classes) if model.kind == "minilm" else make_encoder(model.width, model.layers, classes)


def make_multi_task(recipe: ClassifierRecipe, model: Model, sizes: list[int]) -> nn.Module:
    """Builds an encoder with a head for each of the recipe's tasks, whose sizes are given."""
    from firsttoken.distill.classifiers.encoder import minilm_bert, small_bert
    from firsttoken.distill.classifiers.tasks import MultiTask

    if model.make is not None:
        return user_function(recipe, model.make)()
    assert recipe.tasks is not None, "several tasks"
    return MultiTask(minilm_bert() if model.kind == "minilm" else small_bert(model.width, model.layers), recipe.tasks, sizes)


def cnn(width: int, shape: tuple[int, int, int] = (1, 8, 8), classes: int = 10) -> nn.Module:
    """Two convolutions and a linear head for pictures ``[batch, channels, height, width]``."""
    channels, height, across = shape
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear((height // 2) * (across // 2) * width, classes),
    )


def mlp(inputs: int, width: int, classes: int) -> nn.Module:
    """One hidden layer."""
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, classes))


class Recurrent(nn.Module):
    """An LSTM over ``[batch, steps, channels]`` whose last state is classified."""

    def __init__(self, layers: int, width: int, channels: int, classes: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, width, layers, batch_first=True)
        self.head = nn.Linear(width, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.lstm(inputs)[0][:, -1])


class RowTransformer(nn.Module):
    """A Transformer encoder over the rows of a picture ``[batch, 1, rows, columns]``."""

    def __init__(self, width: int, layers: int, shape: tuple[int, int] = (8, 8), classes: int = 10) -> None:
        super().__init__()
        self.rows = nn.Linear(shape[1], width)
        self.place = nn.Parameter(0.02 * torch.randn(shape[0], width))
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True), layers)
        self.head = nn.Linear(width, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.encoder(self.rows(inputs.squeeze(1)) + self.place).mean(1))
