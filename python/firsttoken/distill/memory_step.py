"""What a training step allocates, found by taking one without data.

The models, the losses and the backward pass are the run's own code; PyTorch's fake tensors have shapes and no contents, so
that a step of any size is taken in seconds and in no memory. Where code asks for contents, the answer is the one that costs
most: every position counts, every teacher teaches.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from firsttoken.distill.cache import NODES, TeacherCache, inverse_temperatures
from firsttoken.distill.models import unchecked_decoder
from firsttoken.distill.objective import Distillation, Moment
from firsttoken.distill.recipe import Loss
from firsttoken.distill.teachers import AnyTeacher, CachedTeacher, LiveTeacher, TeacherOutputs


@dataclass(frozen=True)
class Model:
    """A model that takes part: its ``config.json``, attention and type of weights."""

    config: dict
    attention: str = "sdpa"
    dtype: str = "float32"


@dataclass(frozen=True)
class Cached:
    """A teacher's answers on disk: ``top`` tokens a position."""

    top: int


@dataclass(frozen=True)
class Step:
    """What a process computes in a forward and backward pass. ``accumulates``: gradients of an earlier one are there; ``shards``: they leave at once (FSDP)."""

    student: Model
    teachers: tuple[Model | Cached, ...]
    losses: tuple[Loss, ...]
    sequences: int
    length: int
    chunk: int
    apart: bool = False
    half: bool = False
    checkpointing: bool = False
    accumulates: bool = False
    shards: bool = False


@dataclass(frozen=True)
class Weights:
    """Bytes of a model, of its largest layer, and of what FSDP leaves whole on every process (the head, and what is tied to it); how many parameters."""

    whole: int
    layer: int
    head: int
    parameters: int


@dataclass(frozen=True)
class Taken:
    """Bytes at the peak of a step, beside weights and optimizer: ``gradients`` that are there then, and all else (``working``).

    ``activations`` is what the student's forward pass keeps, ``logits`` the most that the head and its losses add to what is there, ``teachers`` the most that
    a teacher's forward pass adds.
    """

    gradients: int
    working: int
    activations: int
    teachers: int
    logits: int
    trained: Weights  # the student, projections included
    frozen: tuple[Weights | None, ...]  # each teacher's; none for a cache


class Allocations(TorchDispatchMode):
    """Counts the storages that are alive, by the operations that make them."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = self.gradients = self.gradients_at_peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        name, kwargs = func.overloadpacket.__name__, kwargs or {}
        if name == "_local_scalar_dense":  # any(): yes; comparisons: no
            return getattr(args[0], "_is_any", False)
        masks = [each for each in args[1] if each is not None] if name == "index" else []
        if len(masks) == 1 and masks[0].dtype == torch.bool:
            result = args[0].new_empty(masks[0].numel(), *args[0].shape[masks[0].dim() :])
        else:
            result = func(*args, **kwargs)
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._meet(tensor)
        if name == "any":
            result._is_any = True
        return result

    def leave_out(self, model: nn.Module) -> None:
        """Does not count a model's weights, nor gradients that are there: views of them are met as results."""
        for tensor in (*model.parameters(), *model.buffers()):
            self._known.add(tensor.untyped_storage()._cdata)
            if tensor.grad is not None:
                self._known.add(tensor.grad.untyped_storage()._cdata)

    def _meet(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.now += size
        self.note()
        weakref.finalize(storage, self._leave, key, size)

    def _leave(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size

    def note(self) -> None:
        """Remembers the moment if it is the highest so far."""
        if self.now > self.peak:
            self.peak, self.gradients_at_peak = self.now, self.gradients

    @contextmanager
    def most(self) -> Iterator[list[int]]:
        """Yields a list into which goes what was allocated at most inside, beyond what was there."""
        found: list[int] = []
        before, peak, gradients = self.now, self.peak, self.gradients_at_peak
        self.peak = self.now
        yield found
        found.append(self.peak - before)
        if self.peak <= peak:
            self.peak, self.gradients_at_peak = peak, gradients


class UnreadCache(CachedTeacher):
    """A teacher on disk of which only the sizes are known."""

    def __init__(self, top: int) -> None:
        nodes = inverse_temperatures(1.0, 1.0)
        super().__init__("cache", TeacherCache(None, {}, {}, nodes))  # type: ignore[arg-type]  # it is not read
        self.top = top

    def look(self, tokens: Tensor, counted: Tensor, *_: Any) -> TeacherOutputs:
        """Rows of the right shapes."""
        known = torch.zeros(counted.numel(), self.top, dtype=torch.long)
        return TeacherOutputs(rows=(known, known.half(), torch.zeros(counted.numel(), NODES), self.cache.nodes))


def take(step: Step) -> Taken:
    """Takes a step without data and returns what it allocates, in bytes."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        student = unchecked_decoder(step.student.config, step.student.attention, step.student.dtype).train()
        if step.checkpointing:
            student.activation_checkpointing_enable()
        teachers = [_teacher(number, each) for number, each in enumerate(step.teachers)]
        models = [student, *(teacher.model for teacher in teachers if isinstance(teacher, LiveTeacher))]
        vocabulary = min(model.get_output_embeddings().weight.shape[0] for model in models)
        objective = Distillation(student, teachers, step.losses, ("all",), vocabulary, step.chunk).train()
        if step.accumulates and not step.shards:
            for parameter in objective.parameters():
                parameter.grad = torch.empty_like(parameter)
        return _measure(objective, step)


def _teacher(number: int, given: Model | Cached) -> AnyTeacher:
    if isinstance(given, Cached):
        return UnreadCache(given.top)
    return LiveTeacher(f"teacher {number}", unchecked_decoder(given.config, given.attention, given.dtype).eval().requires_grad_(False))


def _measure(objective: Distillation, step: Step) -> Taken:
    tokens = torch.zeros(step.sequences, step.length, dtype=torch.long)
    place = torch.arange(step.length).repeat(step.sequences, 1) % max(2, step.length // 2) if step.apart else None
    moment = Moment(1.0, 1.0, tuple(1.0 for _ in step.losses))
    seen = {"activations": 0, "teachers": 0, "logits": 0}
    with Allocations() as alive:
        for model in (objective, *(teacher.model for teacher in objective.teachers if isinstance(teacher, LiveTeacher))):
            alive.leave_out(model)
        _watch(objective, alive, seen)
        for parameter in objective.parameters():
            parameter.register_post_accumulate_grad_hook(_counts(alive, step))
        with torch.autocast("cpu", torch.bfloat16, enabled=step.half):
            loss, _ = objective(tokens, tokens, tokens[:, 0], tokens[:, 0], moment, 1.0, positions=place)
        loss.backward()
        alive.note()
    gradients = alive.gradients_at_peak
    already = sum(p.grad.nbytes for p in objective.parameters() if p.grad is not None) if step.accumulates and not step.shards else 0
    frozen = tuple(weights_of(teacher.model) if isinstance(teacher, LiveTeacher) else None for teacher in objective.teachers)
    return Taken(gradients + already, alive.peak - gradients, **seen, trained=weights_of(objective, objective.student), frozen=frozen)


def weights_of(whole: nn.Module, model: Any = None) -> Weights:
    """Sizes of ``whole``, whose decoder is ``model``."""
    model = model or whole
    layers = model.model.layers
    layer = max(sum(p.nbytes for p in each.parameters()) for each in layers)
    head = sum(p.nbytes for p in model.get_output_embeddings().parameters())
    return Weights(sum(p.nbytes for p in whole.parameters()), layer, head, sum(p.numel() for p in whole.parameters()))


def _counts(alive: Allocations, step: Step) -> Any:
    def hook(parameter: Tensor) -> None:
        assert parameter.grad is not None, "it was just accumulated"
        if step.shards:
            parameter.grad = None
        elif not step.accumulates:
            alive.gradients += parameter.grad.nbytes

    return hook


def _watch(objective: Distillation, alive: Allocations, seen: dict[str, int]) -> None:
    """Notes what the parts of the forward pass allocate."""
    begin = alive.now
    body, predictions = objective.student.model, objective.of_predictions

    def student_done(_module: nn.Module, _given: Any, _result: Any) -> None:
        seen["activations"] = alive.now - begin

    body.register_forward_hook(student_done)

    def of_predictions(*given: Any) -> tuple[Tensor, Tensor]:
        with alive.most() as found:
            result = predictions(*given)
        seen["logits"] = found[0]
        return result

    objective.of_predictions = of_predictions  # type: ignore[method-assign, assignment]  # of this one objective, which never trains
    for teacher in objective.teachers:
        _watch_teacher(teacher, alive, seen)


def _watch_teacher(teacher: AnyTeacher, alive: Allocations, seen: dict[str, int]) -> None:
    look = teacher.look

    def watched(*given: Any) -> TeacherOutputs:
        with alive.most() as found:
            result = look(*given)
        seen["teachers"] = max(seen["teachers"], found[0])
        return result

    teacher.look = watched  # type: ignore[method-assign, assignment]  # of this one teacher
