"""Training one model of a classifier's recipe; what is finished is read back from its folder."""

from __future__ import annotations

import copy
import json
import statistics
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from firsttoken.atomic_file import write_text
from firsttoken.bundle.atomic import remove
from firsttoken.checkpoint import read_json
from firsttoken.distill.classifiers.data import split
from firsttoken.distill.classifiers.elastic import Elastic, ElasticDistillation
from firsttoken.distill.classifiers.models import make_model, make_multi_task
from firsttoken.distill.classifiers.prune import need_torch_pruning, plan_steps, pruned
from firsttoken.distill.classifiers.recipe import ClassifierRecipe, ClassifierStudent, Model, Prune
from firsttoken.distill.classifiers.tasks import TaskDistillation, begun, sizes_of, task_figures
from firsttoken.distill.losses.divergence import IGNORED
from firsttoken.distill.losses.triplet import nearest_is_same
from firsttoken.distill.mixing import check_mixable
from firsttoken.distill.models import parameters_of
from firsttoken.distill.modules import ModuleDistillation, ModulePlan, outputs_of
from firsttoken.distill.train_module import train_module

WEIGHTS = "model.safetensors"
Teachers = Sequence[tuple[nn.Module, float]]
Layers = tuple[tuple[str, str], ...]
Samples = tuple[Tensor, Tensor]  # inputs and labels


def check_models(recipe: ClassifierRecipe, data: Samples) -> None:
    """Raises `FirstTokenError` for layers that cannot follow each other, channels that cannot leave or samples that cannot be mixed."""
    inputs, labels = data
    if recipe.tasks is not None:
        return
    classes = int(labels.max()) + 1
    if recipe.mixing is not None:
        check_mixable(recipe.mixing, inputs)
    if recipe.student.prune is not None:
        need_torch_pruning()
        plan_steps(make_model(recipe, recipe.teachers[0], inputs, classes), inputs[:2], recipe.student.prune)
    for model in (*recipe.teachers, recipe.student):
        if model.arch is not None:
            make_model(recipe, model, inputs, classes)


def fit(
    recipe: ClassifierRecipe,
    model: Model,
    plan: ModulePlan,
    data: Samples,
    folder: Path,
    teachers: Teachers = (),
    layers: Layers = (),
    start: int = 0,
    origin: nn.Module | None = None,
    copies: Samples | None = None,
) -> tuple[nn.Module, dict, list[dict]]:
    """Trains one model on the training share and scores it on the rest; a finished training is read back from ``folder``.

    ``teachers`` are ``(module, weight)``; without them only samples with a label are trained on, with them all but those of label -100. ``copies`` are trained on besides.
    ``start`` tells apart the first weights of models of one seed. A student that is pruned begins as ``origin``. Returns the model, its figures (of an elastic one the widest's, and all under ``widths``) and the course of
    its training.
    """
    inputs, labels = data
    prune = model.prune if isinstance(model, ClassifierStudent) else None
    torch.manual_seed(plan.seed + 1_000_003 * start)  # the first weights: the same for both students
    if recipe.tasks is not None:
        made = make_multi_task(recipe, model, sizes_of(recipe.tasks, labels))
    elif prune is None:
        made = make_model(recipe, model, inputs, int(labels.max()) + 1)
    else:
        assert origin is not None, "a student that is pruned comes from its teacher"
        made = prune_in_steps(recipe, prune, plan, data, folder, teachers, layers, origin, copies)
    return train(recipe, made, plan, data, folder, teachers, layers, copies, model is recipe.student)


def prune_in_steps(
    recipe: ClassifierRecipe,
    prune: Prune,
    plan: ModulePlan,
    data: Samples,
    folder: Path,
    teachers: Teachers,
    layers: Layers,
    origin: nn.Module,
    copies: Samples | None = None,
) -> nn.Module:
    """Returns ``origin`` with the channels of the last step, trained ``prune.steps_between`` steps after each step before it."""
    example = data[0][:2]
    made = copy.deepcopy(origin).requires_grad_(True).cpu()
    steps = plan_steps(made, example, prune)
    between = plan.model_copy(update={"training": plan.training.model_copy(update={"steps": prune.steps_between})})
    for number, widths in enumerate(steps, 1):
        made = pruned(made, example, widths)
        if number < len(steps):
            made, _, _ = train(recipe, made, between, data, folder / f"step-{number}", teachers, layers, copies)
            made = made.cpu()
    return made


def train(
    recipe: ClassifierRecipe,
    made: nn.Module,
    plan: ModulePlan,
    data: Samples,
    folder: Path,
    teachers: Teachers,
    layers: Layers,
    copies: Samples | None = None,
    is_student: bool = False,
) -> tuple[nn.Module, dict, list[dict]]:
    """Trains ``made`` as it is and scores it, or reads back what was trained; see `fit`."""
    from safetensors.torch import load_model, save_model

    from firsttoken.distill.watch import Watch

    inputs, labels = data
    train_on, held_out = split(labels, recipe.classifier.train_share, plan.seed)
    objective = objective_of(recipe, made, plan, data, teachers, layers if teachers else ())
    if recipe.tasks is None:
        train_on = train_on[labels[train_on] != IGNORED] if teachers else train_on[labels[train_on] >= 0]
    trained = inputs[train_on], labels[train_on]
    if copies is not None and len(copies[0]):
        kept = slice(None) if teachers else copies[1] >= 0
        trained = torch.cat([trained[0], copies[0][kept]]), torch.cat([trained[1], copies[1][kept]])
    done, weights = folder / "figures.json", folder / WEIGHTS
    if done.exists():
        load_model(made, str(weights))
        found = read_json(done, "")
        return made, found["figures"], found["history"]
    history: list[dict] = []
    watch = Watch(f"{folder.parent.name}, {folder.name}", plan.training.batch, lambda _: None, "samples")
    figures: dict = train_module(
        objective,
        plan,
        trained,
        (inputs[held_out], labels[held_out]),
        folder / "states",
        history,
        (watch,),
    )
    watch.close()
    if isinstance(made, Elastic):
        figures["widths"] = figures_of_widths(made, inputs[held_out], labels[held_out])
    if recipe.tasks is not None:
        figures["tasks"] = task_figures(made, recipe.tasks, inputs[held_out], labels[held_out])
        figures["accuracy"] = statistics.fmean(each["accuracy"] for each in figures["tasks"].values())
    embedding = next((loss.layer for loss in recipe.losses if loss.layer is not None), None)
    if embedding is not None and is_student:
        figures["recall_at_1"] = recall_at_1(made, embedding, inputs[held_out], labels[held_out])
    remove(folder / "states")
    save_model(made, str(weights))
    write_text(done, json.dumps({"figures": figures, "history": history}) + "\n")
    return made, figures, history


def objective_of(
    recipe: ClassifierRecipe, made: nn.Module, plan: ModulePlan, data: Samples, teachers: Teachers, layers: Layers
) -> ModuleDistillation:
    """What trains ``made``, by what kind of model it is."""
    inputs, labels = data
    if recipe.tasks is not None:
        example = inputs[:2], begun(recipe.tasks, labels[:2])
        return TaskDistillation(made, teachers or None, plan.losses, example, layers, recipe.tasks)
    kind = ElasticDistillation if isinstance(made, Elastic) else ModuleDistillation
    return kind(made, teachers or None, plan.losses, inputs[:2], layers, plan.mixing, plan.seed)


def figures_of_widths(made: Elastic, inputs: Tensor, labels: Tensor) -> list[dict]:
    """Of each width: its size, and its held-out accuracy as a network of its own."""
    from firsttoken.distill.classifiers.size import multiply_adds

    found = []
    inputs, labels = inputs[labels >= 0], labels[labels >= 0]
    for width in made.widths:
        network = made.extract(width).eval().cpu()
        with torch.no_grad():
            right = (network(inputs).argmax(-1) == labels).double().mean()
        found.append(
            {
                "width": width,
                "parameters": parameters_of(network),
                "multiply_adds": multiply_adds(network, (inputs[:1],)),
                "accuracy": float(right),
            }
        )
    return found


@torch.no_grad()
def recall_at_1(model: nn.Module, layer: str, inputs: Tensor, labels: Tensor) -> float:
    """How often the embedding that ``layer`` gives lies nearest to one of the same label."""
    place = next(model.parameters()).device
    found = []
    for batch in inputs.split(256):
        with outputs_of(model.eval(), [layer]) as seen:
            model(batch.to(place))
        found.append(seen[layer].flatten(1).cpu())
    return nearest_is_same(torch.cat(found)[labels >= 0], labels[labels >= 0])
