"""Distillation beyond decoders: any two PyTorch modules that give class logits for the same input.

CNN, BERT-style encoder, LSTM, MLP, in any pair. Hidden states are taken by module name (`torch.nn.Module.get_submodule`),
so nothing has to be rewritten; feature maps ``[batch, channels, height, width]`` go through a 1x1 convolution, all else
through a linear map.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from firsttoken.distill.losses.attention import activation_attention_transfer, attention_transfer
from firsttoken.distill.losses.divergence import DIVERGENCES, IGNORED, cross_entropy
from firsttoken.distill.losses.hidden import Projection, hidden_cosine, hidden_l2, positions_of
from firsttoken.distill.losses.triplet import semi_hard_triplet
from firsttoken.distill.mixing import Mixed, Mixing, mix
from firsttoken.distill.objective import Moment, part_names
from firsttoken.distill.recipe import CROSS_TOKENIZER, INSIDE, Loss, Training
from firsttoken.distill.schedules import Scheduled, constant
from firsttoken.errors import FirstTokenError, nearest

UNLABELLED = -1  # the label of a sample that counts in a batch, and whose class nobody knows


class ModulePlan(BaseModel):
    """What a recipe says about training, for modules: losses, temperature, steps, seed, mixed samples."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    seed: int = 0
    temperature: Scheduled = constant(1.0)
    losses: tuple[Loss, ...] = Field(min_length=1)
    training: Training
    mixing: Mixing | None = None


class ModuleDistillation(nn.Module):
    """A student module with its teacher (or None) and losses; ``layers`` pairs module names, ``(student's, teacher's)``.

    ``teacher`` may also be several ``(module, weight)``: the divergences from them are averaged by weight, and there are no
    ``layers``. All modules take one tensor ``[batch, …]`` and return logits ``[batch, classes]``. ``example`` is an input for
    measuring the layers' widths. ``name:1`` takes the second of several results, such as an encoder's attention maps. With
    ``mixing`` all modules see the same mixed samples while it trains, drawn by ``seed``. Raises `FirstTokenError` for a layer
    that is not there, losses without a teacher, or layers with several.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | Sequence[tuple[nn.Module, float]] | None,
        losses: tuple[Loss, ...],
        example: Tensor | tuple[Tensor, ...],
        layers: tuple[tuple[str, str], ...] = (),
        mixing: Mixing | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.student, self.losses, self.layers = student, losses, layers
        self.mixing, self.seed = mixing, seed
        taught_by = [] if teacher is None else [(teacher, 1.0)] if isinstance(teacher, nn.Module) else list(teacher)
        total = sum(weight for _, weight in taught_by)
        self.teachers = [_Frozen(model, weight / total) for model, weight in taught_by]
        if layers and len(self.teachers) != 1:
            raise FirstTokenError(f"layers pair a student with one teacher, and there are {len(self.teachers)}; leave them out")
        self.names = part_names(losses)
        for loss in losses:
            if loss.kind not in ("cross_entropy", "triplet") and not self.teachers:
                raise FirstTokenError(f"loss {loss.kind} needs a teacher; cross_entropy alone does not")
            if loss.kind in CROSS_TOKENIZER:
                raise FirstTokenError(f"loss {loss.kind} compares two tokenizers; classes have none, use forward_kl")
            if loss.kind in INSIDE and not self._pairs_of(loss):
                raise FirstTokenError(f"loss {loss.kind} needs layers: pairs of module names, the student's and the teacher's")
        for pair in layers:
            if (":" in pair[0]) != (":" in pair[1]):
                raise FirstTokenError(f"layers {pair}: one names attention maps (NAME:1), the other does not; expected two of a kind")
        self.projections = nn.ModuleDict()
        with torch.no_grad():  # names a layer that is not there
            self._run(student, example, [loss.layer for loss in losses if loss.layer is not None])
        if layers:
            self._make_projections(self.teachers[0].model, example)

    def _make_projections(self, teacher: nn.Module, example: Tensor | tuple[Tensor, ...]) -> None:
        with torch.no_grad():
            ours, theirs = (self._run(m, example, [pair[side] for pair in self.layers])[1] for side, m in ((0, self.student), (1, teacher)))
        for number, loss in enumerate(self.losses):
            if loss.kind in ("hidden_l2", "hidden_cosine"):
                for pair in self._pairs_of(loss):
                    a, b = ours[pair], theirs[pair]
                    maps = a.dim() == 4
                    if maps != (b.dim() == 4):
                        raise FirstTokenError(
                            f"layers {self.layers[pair]}: shapes {list(a.shape)} and {list(b.shape)}; a feature map is only compared with a feature map"
                        )
                    if a.shape[2:] != b.shape[2:] if maps else a.shape[:-1] != b.shape[:-1]:
                        raise FirstTokenError(
                            f"layers {self.layers[pair]}: shapes {list(a.shape)} and {list(b.shape)} differ in more than the width; pair layers of the same resolution"
                        )
                    self.projections[f"{number}-{pair}"] = Projection(
                        a.shape[1] if maps else a.shape[-1], b.shape[1] if maps else b.shape[-1], maps
                    )

    def forward(self, inputs: Tensor, labels: Tensor, index: Tensor, moment: Moment, count: Tensor | float) -> tuple[Tensor, Tensor]:
        """Returns the weighted loss and the unweighted parts ``[losses]``; labels ``[batch]``, `UNLABELLED` or -100 where unknown.

        A sample without a label still learns from the teacher; ``count`` divides all sums. Triplets are those of this batch.
        """
        mixed = mix(self.mixing, inputs, self._draw(index, moment)) if self.mixing and self.training else None
        given = self.given(mixed.inputs if mixed else inputs, labels)
        taught: list = []
        theirs: list[Tensor] = []
        for teacher in self.teachers:
            with torch.no_grad():
                answers, theirs = self._run(teacher.model, given, [b for _, b in self.layers])
            taught.append(answers)
        return self._learn(given, labels, mixed, taught, theirs, moment, count)

    def _draw(self, index: Tensor, moment: Moment) -> tuple[int, ...]:
        """What a batch's mixture is drawn by: the seed, the moment of the training, and which samples they are."""
        return self.seed, round(moment.progress * (1 << 40)), int(index[0])

    def _learn(
        self,
        given: tuple[Tensor, ...],
        labels: Tensor,
        mixed: Mixed | None,
        taught: list,
        theirs: list[Tensor],
        moment: Moment,
        count: Tensor | float,
    ) -> tuple[Tensor, Tensor]:
        """The losses of the student as it is, where the teachers gave ``taught`` and, inside, ``theirs``."""
        embeddings = [loss.layer for loss in self.losses if loss.layer is not None]
        logits, ours = self._run(self.student, given, [a for a, _ in self.layers] + embeddings)
        total, parts = torch.zeros((), device=labels.device), []
        for number, (loss, weight) in enumerate(zip(self.losses, moment.weights, strict=True)):
            if loss.kind == "cross_entropy" or loss.kind in DIVERGENCES:
                value = self.of_answers(loss, logits, taught, labels, mixed, moment)
            elif loss.layer is not None:
                embedding = ours[len(self.layers) + embeddings.index(loss.layer)].flatten(1)
                value = semi_hard_triplet(embedding, labels, **loss.options).sum()
            else:
                pairs = self._pairs_of(loss)
                values = [self._inside(number, loss, pair, ours[pair], theirs[pair]).sum() for pair in pairs]
                value = torch.stack(values).sum() / len(pairs)
            total = total + weight * value / count
            parts.append((value / count).detach())
        return total, torch.stack(parts)

    def given(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        """What the modules are called with."""
        return (inputs,)

    def of_answers(self, loss: Loss, logits: Any, taught: list, labels: Tensor, mixed: Mixed | None, moment: Moment) -> Tensor:
        """A loss on what student and teachers answer, summed over the batch."""
        if loss.kind == "cross_entropy":
            return mixed_cross_entropy(logits, labels.where(labels >= 0, IGNORED), mixed, **loss.options).sum()
        return self._divergence(loss, logits, taught, moment.temperature).sum()

    def _divergence(self, loss: Loss, logits: Tensor, taught: list[Tensor], temperature: float) -> Tensor:
        """A divergence ``[batch]`` from the teachers, averaged by their shares."""
        of = DIVERGENCES[loss.kind][0]
        values = [
            teacher.share * of(logits, answers, temperature, **loss.options) for teacher, answers in zip(self.teachers, taught, strict=True)
        ]
        return sum(values, start=logits.new_zeros(()))

    def _pairs_of(self, loss: Loss) -> list[int]:
        """Places of the layer pairs that a loss compares: attention maps (``name:1``) are only for attention, which prefers them."""
        maps = [pair for pair, names in enumerate(self.layers) if ":" in names[0]]
        rest = [pair for pair, names in enumerate(self.layers) if ":" not in names[0]]
        return (maps or rest) if loss.kind == "attention" else rest

    def _inside(self, number: int, loss: Loss, pair: int, ours: Tensor, theirs: Tensor) -> Tensor:
        """One loss between two layers, ``[batch]``."""
        if loss.kind == "attention" and ":" in self.layers[pair][0]:
            value = attention_transfer(ours, theirs, **loss.options)
            counted = theirs.amax((1, 2)) > 0  # what nobody looks at is padding
            return (value * counted).sum(1) / counted.sum(1).clamp_min(1)
        if loss.kind == "attention":
            if ours.dim() != 4 or theirs.dim() != 4:
                raise FirstTokenError(
                    f"layers {self.layers[pair]}: attention between modules is that of feature maps [batch, channels, height, width]; got {list(ours.shape)} and {list(theirs.shape)}"
                )
            return activation_attention_transfer(ours, theirs)
        projected = self.projections[f"{number}-{pair}"](ours)
        if ours.dim() == 4:
            projected, theirs = positions_of(projected), positions_of(theirs)
        value = hidden_l2(projected, theirs, relative=True) if loss.kind == "hidden_l2" else hidden_cosine(projected, theirs)
        return value.flatten(1).mean(1) if value.dim() > 1 else value

    @torch.no_grad()
    def score(self, batch: dict[str, Tensor]) -> Tensor:
        """Sums of a held-out batch: ``[cross-entropy, KL divergence from the teachers, samples, right answers]``, float64."""
        counted = batch["labels"] >= 0
        logits = self.student(batch["inputs"])[counted]
        labels = batch["labels"][counted]
        taught = [teacher.model(batch["inputs"])[counted] for teacher in self.teachers]
        kld = self._divergence(Loss(kind="forward_kl"), logits, taught, 1.0).double().sum() if taught else logits.new_zeros(())
        right = (logits.argmax(-1) == labels).sum()
        return torch.stack([value.double() for value in (cross_entropy(logits, labels).sum(), kld, counted.sum(), right)])

    @staticmethod
    def _run(module: nn.Module, inputs: Tensor | tuple[Tensor, ...], names: list[str]) -> tuple[Any, list[Tensor]]:
        with outputs_of(module, names) as seen:
            logits = module(*inputs) if isinstance(inputs, tuple) else module(inputs)
        return logits, [seen[name] for name in names]


def mixed_cross_entropy(logits: Tensor, labels: Tensor, mixed: Mixed | None, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy ``[batch]``; of mixed samples the mean over both labels by their shares."""
    own = cross_entropy(logits, labels, label_smoothing)
    return own if mixed is None else mixed.share * own + (1 - mixed.share) * cross_entropy(logits, labels[mixed.partner], label_smoothing)


class _Frozen:
    """Keeps a teacher out of the parameters, in evaluation mode."""

    live = True

    def __init__(self, model: nn.Module, share: float) -> None:
        self.model, self.share = model.eval().requires_grad_(False), share


@contextmanager
def outputs_of(module: nn.Module, names: list[str]) -> Iterator[dict[str, Tensor]]:
    """Yields a dictionary that holds, after a call of ``module``, what its submodules ``names`` gave; of a tuple, the first.

    ``name:1`` is the second of a tuple.
    """
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        place = int(name.partition(":")[2] or 0)

        def hook(_module: nn.Module, _given: tuple[Tensor, ...], result: Tensor | tuple[Tensor | None, ...]) -> None:
            results = result if isinstance(result, tuple) else (result,)
            taken = results[place] if place < len(results) else None
            if taken is None:
                raise FirstTokenError(f"layer {name!r} gives no such result; attention maps need a model with attn_implementation='eager'")
            seen[name] = taken

        return hook

    known = dict(module.named_modules())
    for given in names:
        name, _, place = given.partition(":")
        if place and not place.isdigit():
            raise FirstTokenError(f"layer {given!r}: expected NAME or NAME:NUMBER")
        if name not in known:
            raise FirstTokenError(
                f"layer {name!r} is not in {type(module).__name__}{nearest(name, known)}; expected one of {', '.join(n for n in known if n)}"
            )
    handles = [known[name.partition(":")[0]].register_forward_hook(keep(name)) for name in dict.fromkeys(names)]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
