"""Several tasks on one encoder: the labels of all in one matrix, a head for each, and how right each is.

A class task has one column of the labels ``[samples, columns]``, a sequence task as many as its ``length``; -1 is unknown, and
stands behind the end of a sequence. A sequence is told one token at a time, each from those before it (teacher forcing).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from firsttoken.distill.classifiers.recipe import Task
from firsttoken.distill.losses.divergence import IGNORED, cross_entropy
from firsttoken.distill.mixing import Mixed
from firsttoken.distill.modules import UNLABELLED, ModuleDistillation
from firsttoken.distill.objective import Moment
from firsttoken.distill.recipe import Loss
from firsttoken.errors import FirstTokenError, nearest

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PADDING, BATCH = 0, 256


class Columns(NamedTuple):
    """Where a task's labels stand."""

    task: Task
    start: int
    stop: int

    def of(self, labels: Tensor) -> Tensor:
        """The task's labels: ``[samples]``, or ``[samples, length]`` of a sequence."""
        return labels[:, self.start] if self.task.length is None else labels[:, self.start : self.stop]


def columns_of(tasks: Sequence[Task]) -> Iterator[Columns]:
    """The tasks' places, in the recipe's order."""
    start = 0
    for task in tasks:
        stop = start + (task.length or 1)
        yield Columns(task, start, stop)
        start = stop


def label_matrix(tasks: Sequence[Task], labels: object, samples: int, where: str) -> Tensor:
    """The tasks' labels ``[samples, columns]`` of a dictionary ``name -> int64 [samples]`` or ``[samples, length]``.

    Raises `FirstTokenError` for one that is missing or of another shape.
    """
    if not isinstance(labels, Mapping):
        raise FirstTokenError(
            f"{where}: gave labels that are a {type(labels).__name__}; with [[task]] expected a dictionary, name -> labels"
        )
    parts = []
    for task in tasks:
        if task.name not in labels:
            raise FirstTokenError(
                f"{where}: gave no labels of task {task.name!r}{nearest(task.name, labels)}; there are {', '.join(map(str, labels))}"
            )
        given, shape = labels[task.name], [samples] if task.length is None else [samples, task.length]
        if list(given.shape) != shape or given.dtype != torch.int64:
            raise FirstTokenError(
                f"{where}: labels of task {task.name!r} are {given.dtype} {list(given.shape)}; expected int64 {shape} (a sequence has the task's length)"
            )
        parts.append(given.reshape(samples, -1))
    return torch.cat(parts, 1).clamp_min(UNLABELLED)


def sizes_of(tasks: Sequence[Task], labels: Tensor) -> list[int]:
    """How many classes, or kinds of token, each task has: those that its labels show."""
    return [int(place.of(labels).max()) + 1 for place in columns_of(tasks)]


def begun(tasks: Sequence[Task], labels: Tensor) -> Tensor:
    """What a sequence head reads: its labels one place later behind -1, which begins; of all sequence tasks side by side."""
    parts = [place.of(labels) for place in columns_of(tasks) if place.task.length is not None]
    return torch.cat([torch.cat([torch.full_like(p[:, :1], UNLABELLED), p[:, :-1]], 1) for p in parts], 1) if parts else labels[:, :0]


class SequenceHead(nn.Module):
    """A Transformer decoder of one layer over an encoder's states: logits ``[batch, length, size]`` of the next token."""

    def __init__(self, width: int, size: int, length: int) -> None:
        super().__init__()
        self.start = size
        self.tokens, self.place = nn.Embedding(size + 1, width), nn.Parameter(0.02 * torch.randn(length, width))
        self.decoder = nn.TransformerDecoderLayer(width, width // 32, 4 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, size)

    def forward(self, before: Tensor, states: Tensor, padding: Tensor) -> Tensor:
        """``before`` int64 ``[batch, length]`` begins with -1; ``states`` ``[batch, tokens, width]``; ``padding`` true where none."""
        length = before.shape[1]
        given = self.tokens(torch.where(before < 0, self.start, before)) + self.place
        later = torch.ones(length, length, dtype=torch.bool, device=before.device).triu(1)
        return self.out(self.norm(self.decoder(given, states, tgt_mask=later, memory_key_padding_mask=padding)))


class MultiTask(nn.Module):
    """A BERT with a head for each task; takes token ids and what `begun` gives, returns ``name -> logits``.

    ``pool`` gives the mean state ``[batch, width]``, from which classes are told; sequences are told from all states.
    """

    def __init__(self, bert: PreTrainedModel, tasks: Sequence[Task], sizes: Sequence[int]) -> None:
        super().__init__()
        self.bert, self.pool, self.tasks = bert, nn.Identity(), tuple(tasks)
        width = bert.config.hidden_size
        heads = [
            nn.Linear(width, size) if task.length is None else SequenceHead(width, size, task.length)
            for task, size in zip(tasks, sizes, strict=True)
        ]
        names = [f"of-{task.name}" for task in tasks]  # some names are a module's own, such as type
        self.heads = nn.ModuleDict(dict(zip(names, heads, strict=True)))

    def forward(self, tokens: Tensor, before: Tensor) -> dict[str, Tensor]:
        seen = (tokens != PADDING).long()
        states = self.bert(input_ids=tokens, attention_mask=seen).last_hidden_state
        weights = seen.to(states.dtype)[..., None]
        mean = self.pool((states * weights).sum(1) / weights.sum(1).clamp_min(1))
        found, start = {}, 0
        for task in self.tasks:
            head = self.heads[f"of-{task.name}"]
            if task.length is None:
                found[task.name] = head(mean)
            else:
                found[task.name] = head(before[:, start : start + task.length], states, seen == 0)
                start += task.length
        return found


class TaskDistillation(ModuleDistillation):
    """`ModuleDistillation` of modules that take ``(inputs, begun)`` and give ``name -> logits``: every head has every loss.

    A head's loss is that of a sample, of a sequence the mean over its tokens, times the task's weight.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | Sequence[tuple[nn.Module, float]] | None,
        losses: tuple[Loss, ...],
        example: tuple[Tensor, ...],
        layers: tuple[tuple[str, str], ...],
        tasks: Sequence[Task],
    ) -> None:
        self.tasks = tuple(tasks)
        super().__init__(student, teacher, losses, example, layers)

    def forward(self, inputs: Tensor, labels: Tensor, index: Tensor, moment: Moment, count: Tensor | float) -> tuple[Tensor, Tensor]:
        """As `ModuleDistillation.forward`; labels ``[batch, columns]``, and ``count`` counts labels, of which a sample has ``columns``."""
        return super().forward(inputs, labels, index, moment, count / labels.shape[1])

    def given(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        return inputs, begun(self.tasks, labels)

    def of_answers(
        self, loss: Loss, logits: dict[str, Tensor], taught: list[dict[str, Tensor]], labels: Tensor, mixed: Mixed | None, moment: Moment
    ) -> Tensor:
        total: Tensor = labels.new_zeros((), dtype=torch.float32)
        for place in columns_of(self.tasks):
            name, wanted = place.task.name, place.of(labels)
            value = self._of_head(loss, logits[name], [answers[name] for answers in taught], wanted, moment.temperature)
            if value.dim() > 1:
                known = wanted >= 0
                value = (value * known).sum(1) / known.sum(1).clamp_min(1)
            total = total + place.task.weight * value.sum()
        return total

    def _of_head(self, loss: Loss, logits: Tensor, taught: list[Tensor], labels: Tensor, temperature: float) -> Tensor:
        if loss.kind == "cross_entropy":
            return cross_entropy(logits, labels.where(labels >= 0, IGNORED), **loss.options)
        return self._divergence(loss, logits, taught, temperature)

    @torch.no_grad()
    def score(self, batch: dict[str, Tensor]) -> Tensor:
        """Sums over the known labels of all tasks: ``[cross-entropy, KL divergence from the teachers, labels, right ones]``, float64."""
        given = self.given(batch["inputs"], batch["labels"])
        logits, taught = self.student(*given), [teacher.model(*given) for teacher in self.teachers]
        total = torch.zeros(4, dtype=torch.float64, device=batch["labels"].device)
        for place in columns_of(self.tasks):
            labels = place.of(batch["labels"])
            known, name = labels >= 0, place.task.name
            kept, wanted = logits[name][known], labels[known]
            kl = self._divergence(Loss(kind="forward_kl"), kept, [answers[name][known] for answers in taught], 1.0).sum() if taught else 0.0
            parts = (cross_entropy(kept, wanted).sum(), kl, known.sum(), (kept.argmax(-1) == wanted).sum())
            total = total + torch.stack([torch.as_tensor(part, device=total.device).double() for part in parts])
        return total


@torch.no_grad()
def told(model: nn.Module, tasks: Sequence[Task], inputs: Tensor) -> dict[str, Tensor]:
    """What a model says of inputs, sequences greedily: ``name -> classes [samples]`` or ``tokens [samples, length]``, -1 after the end.

    Token 0 ends a sequence.
    """
    place = next(model.parameters()).device
    longest = max((task.length or 0 for task in tasks), default=0)
    width, parts = sum(task.length or 1 for task in tasks), []
    for batch in inputs.split(BATCH):
        labels = torch.full((len(batch), width), UNLABELLED, device=place)
        for _ in range(max(1, longest)):
            logits = model.eval()(batch.to(place), begun(tasks, labels))
            labels = torch.cat([logits[task.name].argmax(-1).reshape(len(batch), -1) for task in tasks], 1)
        parts.append(labels.cpu())
    labels = torch.cat(parts)
    found = {at.task.name: at.of(labels) for at in columns_of(tasks)}
    for task in tasks:
        if task.length is not None:
            ended = (found[task.name] == 0).long().cumsum(1)
            found[task.name] = found[task.name].where((ended == 0) | ((ended == 1) & (found[task.name] == 0)), UNLABELLED)
    return found


def task_figures(model: nn.Module, tasks: Sequence[Task], inputs: Tensor, labels: Tensor) -> dict[str, dict[str, float]]:
    """Per task the accuracy: right classes, or whole sequences right; and of a sequence the mean F1 of its tokens as a bag."""
    found, figures = told(model, tasks, inputs), {}
    for place in columns_of(tasks):
        got, wanted = found[place.task.name], place.of(labels)
        if place.task.length is None:
            known = wanted >= 0
            figures[place.task.name] = {"accuracy": (got == wanted)[known].double().mean().item()}
        else:
            known = (wanted >= 0).any(1)
            scores = [token_f1(a, b) for a, b in zip(got[known].tolist(), wanted[known].tolist(), strict=True)]
            figures[place.task.name] = {
                "accuracy": (got == wanted)[known].all(1).double().mean().item(),
                "f1": sum(scores) / max(1, len(scores)),
            }
    return figures


def token_f1(got: list[int], wanted: list[int]) -> float:
    """Harmonic mean of precision and recall of the tokens, as bags; ends (0) and what follows do not count."""
    from collections import Counter

    ours, theirs = (Counter(token for token in tokens if token > 0) for tokens in (got, wanted))
    both = (ours & theirs).total()
    return 2 * both / (ours.total() + theirs.total()) if both else float(not ours and not theirs)
