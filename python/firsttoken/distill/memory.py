"""The memory that a recipe needs on each device, before anything starts; what cannot fit is refused.

Weights, gradients and optimizer are arithmetic; what a step allocates beside them is found by taking one without data (`memory_step`).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace

from firsttoken.checkpoint import read_json
from firsttoken.decoder.families import describe
from firsttoken.decoder.walk import parameter_count
from firsttoken.distill import cut_sizes
from firsttoken.distill.cache import FACTS
from firsttoken.distill.memory_step import Cached, Model, Step, Taken, Weights, take
from firsttoken.distill.placing import processes, shards_student, training_device
from firsttoken.distill.recipe import CROSS_TOKENIZER, INSIDE, Recipe, Teacher
from firsttoken.distill.students import plan_stages
from firsttoken.errors import FirstTokenError

OPTIMIZER_STATES = 2  # Adam keeps two averages of every gradient
GATHERED = 2  # layers whose shards are together at once: the one that computes, and the next
DEFAULT_TOP = 64
RESERVE = 1_000_000_000  # bytes of a GPU left to driver, libraries and gaps: an assumption, not measured


@dataclass(frozen=True)
class Machine:
    """``devices`` of ``memory`` bytes (none: not said), one process each; ``shards`` says whether the student is trained under FSDP."""

    devices: int = 1
    memory: int | None = None
    shards: bool = False
    gpu: bool = True


@dataclass(frozen=True)
class Estimate:
    """Bytes on the fullest device: ``rows`` add up to the peak of a step; ``beside`` are moments outside of it, each by itself."""

    rows: tuple[tuple[str, int], ...]
    beside: tuple[tuple[str, int], ...]
    machine: Machine
    step: Step
    taken: Taken

    @property
    def training(self) -> int:
        return sum(size for _, size in self.rows)

    @property
    def peak(self) -> int:
        return max(self.training, *(size for _, size in self.beside), 0)

    @property
    def fits(self) -> bool:
        """Whether the peak is within the device's memory; true where that is not known."""
        return self.machine.memory is None or self.peak <= self.machine.memory


class CannotEstimate(FirstTokenError):
    """A model whose code does not run without data, or a step that is not one of those that are estimated."""


def estimate(recipe: Recipe, machine: Machine, checkpointing: bool | None = None) -> Estimate:
    """Estimates a recipe's training on a machine, with its own ``gradient_checkpointing`` or another. Only ``config.json`` of each model is read.

    Raises `FirstTokenError` for a batch that the devices cannot share, or a model that is not there.
    """
    across = next((loss.kind for loss in recipe.losses if loss.kind in CROSS_TOKENIZER), None)
    if recipe.student.lora is not None or across is not None:
        what = "student.lora" if recipe.student.lora is not None else f"loss {across}"
        raise CannotEstimate(f"memory is not estimated for {what}; try a small micro_batch")
    step = step_of(recipe, machine)
    if checkpointing is not None:
        step = replace(step, checkpointing=checkpointing)
    try:
        taken = take(step)
    except RuntimeError as error:  # of fake tensors: code that asks for contents
        raise CannotEstimate(
            f"memory cannot be estimated for {step.student.config['model_type']}: its step cannot be taken without data ({str(error).splitlines()[0][:120]}); try a small micro_batch"
        ) from None
    share = machine.devices if machine.shards else 1
    student = taken.trained
    rows = [
        ("student: weights", sharded(student, share) if machine.shards else student.whole),
        ("student: gradients", student.whole // share if machine.shards else taken.gradients),
        ("student: optimizer (Adam)", OPTIMIZER_STATES * student.whole // share),
    ]
    if processes_of(recipe, machine) > 1 and not machine.shards:
        rows.append(("student: buckets that gradients are exchanged in", student.whole))
    if machine.shards:
        rows.append(("student: gradients of what is together, before they are spread", GATHERED * student.layer))
    for number, (teacher, weights) in enumerate(zip(live(recipe), [w for w in taken.frozen if w], strict=True)):
        how, size = placed(teacher, weights, machine)
        if size:
            rows.append((f"teacher {number}: weights{how}", size))
    others = max(0, taken.working - taken.activations - taken.logits)
    rows += [
        (f"student: activations{', recomputed layer by layer' if step.checkpointing else ''}", min(taken.activations, taken.working)),
        (f"logits of {step.chunk} positions, their losses and gradients", min(taken.logits, max(0, taken.working - taken.activations))),
        ("what else is there at the peak (teacher's states, backward pass)", others),
    ]
    if machine.gpu:
        rows.append(("left to driver and gaps (assumed)", RESERVE))
    return Estimate(tuple(rows), tuple(moments(recipe, machine, taken, rows)), machine, step, taken)


def moments(recipe: Recipe, machine: Machine, taken: Taken, rows: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """What is on a device outside of training steps."""
    teachers = sum(size for name, size in rows if name.startswith("teacher"))
    reserve = RESERVE if machine.gpu else 0
    found = []
    if machine.shards:
        states = (1 + OPTIMIZER_STATES) * taken.trained.whole // machine.devices
        found.append(("scoring the whole student beside its shards", teachers + taken.trained.whole + states + reserve))
    if recipe.student.cut is not None:
        parameters = parameter_count(describe(config_of(recipe, recipe.teachers[0].checkpoint or "")))  # no loss may ask this teacher
        found.append(("cutting the student out of the teacher", teachers + 4 * parameters + reserve))
    return found


def live(recipe: Recipe) -> list[Teacher]:
    """The teachers that run."""
    return [teacher for teacher in asked(recipe) if teacher.checkpoint is not None]


def asked(recipe: Recipe) -> tuple[Teacher, ...]:
    """The teachers whose answers the losses need."""
    return recipe.teachers if any(loss.kind != "cross_entropy" for loss in recipe.losses) else ()


def sharded(weights: Weights, share: int) -> int:
    """Bytes of a model in shards on one process: its share, the head whole, and the layers that are together."""
    return (weights.whole - weights.head) // share + weights.head + GATHERED * weights.layer


def placed(teacher: Teacher, weights: Weights, machine: Machine) -> tuple[str, int]:
    """How a teacher's weights lie, and their bytes on the device that trains."""
    if teacher.sharded and machine.devices > 1:
        return f" (one of {machine.devices} shards, head, {GATHERED} layers)", sharded(weights, machine.devices)
    if teacher.device == "split":
        return f" (spread over {machine.devices})", weights.whole // machine.devices
    if teacher.device == "auto" or not machine.gpu or (teacher.device.partition(":")[2] in ("", "0") and teacher.device != "cpu"):
        return "", weights.whole
    return "", 0  # on a device of its own


def processes_of(recipe: Recipe, machine: Machine) -> int:
    """How many processes train: one a device, but one alone where a teacher is laid over all devices."""
    return 1 if any(teacher.device == "split" for teacher in recipe.teachers) else machine.devices


def step_of(recipe: Recipe, machine: Machine) -> Step:
    """What one process computes at once."""
    training = recipe.training
    sharing = processes_of(recipe, machine)
    if training.batch % sharing:
        raise FirstTokenError(f"training.batch {training.batch} cannot be shared by {sharing} devices; expected a multiple")
    each = training.batch // sharing
    micro = min(training.micro_batch or each, each)
    attention = "eager" if any(loss.kind == "attention" for loss in recipe.losses) else "sdpa"
    eager = attention if any(loss.kind in INSIDE for loss in recipe.losses) else "sdpa"
    return Step(
        Model(student_config(recipe), attention, recipe.student.dtype),
        tuple(model_of(recipe, teacher, eager) for teacher in asked(recipe)),
        recipe.losses,
        micro,
        recipe.data.length,
        training.head_chunk,
        not recipe.data.attend_across_documents,
        training.precision == "bf16",
        training.gradient_checkpointing,
        each > micro,
        machine.shards,
    )


def model_of(recipe: Recipe, teacher: Teacher, attention: str) -> Model | Cached:
    """A teacher's shape."""
    if teacher.cache is not None:
        path = recipe.path(teacher.cache) / FACTS
        top = read_json(path, "").get("k", DEFAULT_TOP) if path.exists() else DEFAULT_TOP
        return Cached(top)
    assert teacher.checkpoint is not None, "a teacher is a checkpoint or a cache"
    return Model(config_of(recipe, teacher.checkpoint), attention, teacher.dtype)


def config_of(recipe: Recipe, checkpoint: str) -> dict:
    """``config.json`` of a checkpoint, of a family that is known. Raises `FirstTokenError`."""
    config = read_json(recipe.checkpoint_folder(checkpoint) / "config.json", "a checkpoint needs it; its weights are not looked at here")
    describe(config)
    return config


def student_config(recipe: Recipe) -> dict:
    """The largest shape in which the student is trained."""
    source = recipe.student
    if source.config is not None:
        return read_json(recipe.path(source.config), "student.config names it")
    if source.checkpoint is not None:
        return config_of(recipe, source.checkpoint)
    assert recipe.teachers[0].checkpoint is not None, "a cut is of a checkpoint"
    config = config_of(recipe, recipe.teachers[0].checkpoint)
    sizes = next(stage.sizes for stage in plan_stages(recipe) if stage.steps or stage.name == "training")
    assert sizes is not None, "every stage of a cut has sizes"
    return cut_sizes.resized(config, sizes, range(sizes.layers))


def this_machine(recipe: Recipe) -> Machine:
    """The devices that this run has: an accelerator for each process, or the CPU's memory shared by the processes on it."""
    import psutil
    import torch

    device = training_device(recipe.training.device)
    if device.type == "cpu":
        here = int(os.environ.get("LOCAL_WORLD_SIZE", str(processes())))
        return Machine(processes(), psutil.virtual_memory().available // here, shards_student(), gpu=False)
    memory = torch.accelerator.get_memory_info(device)[1] if hasattr(torch.accelerator, "get_memory_info") else None
    split = any(teacher.device == "split" for teacher in recipe.teachers)
    return Machine(torch.accelerator.device_count() if split else processes(), memory, shards_student())


def check_memory(recipe: Recipe, say: Callable[[str], None] = print) -> None:
    """Raises `FirstTokenError` where a training cannot fit into this machine's memory, saying what would help; where that cannot be known, it is said."""
    machine = this_machine(recipe)
    if machine.memory is None or plainly_fits(recipe, machine):
        return
    try:
        found = estimate(recipe, machine)
    except CannotEstimate as error:
        say(f"note: {error}")
        return
    if not found.fits:
        raise FirstTokenError(refusal(recipe, found))


def plainly_fits(recipe: Recipe, machine: Machine) -> bool:
    """Whether a bound that is several times too high is within the memory: then no step needs to be taken to know."""
    step = step_of(recipe, machine)
    models = [step.student, *(teacher for teacher in step.teachers if isinstance(teacher, Model))]
    weights = sum(16 * parameter_count(describe(model.config)) for model in models) * 2
    numbers = [numbers_of(model.config) for model in models]
    widest = max(4 * each["hidden_size"] + each["intermediate_size"] for each in numbers)
    layers = sum(each["num_hidden_layers"] for each in numbers)
    heads = max(each["num_attention_heads"] for each in numbers)
    maps = step.length * heads if step.student.attention == "eager" else step.length
    positions = step.sequences * step.length
    logits = step.chunk * max(each["vocab_size"] for each in numbers) * (4 + len(step.losses))
    assert machine.memory is not None, "asked where it is known"
    return weights + 4 * 16 * positions * layers * (widest + maps) + 4 * 8 * logits + RESERVE < machine.memory


def numbers_of(config: dict) -> dict[str, int]:
    """The sizes that most of ``config.json`` have, also where they stand in ``text_config``; 0 for one that is not there."""
    text = config.get("text_config") or config
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    return {name: value if isinstance(value := text.get(name), int) else 0 for name in names}


def refusal(recipe: Recipe, found: Estimate) -> str:
    """Why a training does not fit, and what would help."""
    assert found.machine.memory is not None, "it did not fit into something"
    largest = "; ".join(f"{name} {size / 1e9:,.1f}" for name, size in sorted(found.rows, key=lambda row: -row[1])[:3])
    return (
        f"this training needs {found.peak / 1e9:,.1f} GB on each of {found.machine.devices} devices, and each has {found.machine.memory / 1e9:,.1f} GB "
        f"(most of it: {largest}); {'; '.join(helps(recipe, found)) or 'give more memory'}; `firsttoken distill estimate` shows all of it"
    )


def helps(recipe: Recipe, found: Estimate) -> list[str]:
    """Fields of the recipe that would make it smaller."""
    step, hints = found.step, []
    if step.sequences > 1:
        hints.append(f"micro_batch = {step.sequences // 2} halves the activations")
    if not step.checkpointing:
        hints.append("gradient_checkpointing = true recomputes them")
    if any(teacher.dtype == "float32" for teacher in live(recipe)):
        hints.append('dtype = "bfloat16" halves a teacher')
    if found.machine.devices > 1 and any(not teacher.sharded for teacher in live(recipe)):
        hints.append("sharded = true spreads it over the processes")
    if found.machine.devices > 1 and not found.machine.shards:
        hints.append("FSDP spreads the student (docs/bigger-machines.md)")
    return hints
