"""The loss of a batch: the student, its projections, and everything its teachers say, in one module.

All of it happens in ``forward``, so that DistributedDataParallel sees every use of a weight. Sums over positions are
divided by ``count``, the positions of the whole step over all processes and micro-batches: how a step is divided up
does not change it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from firsttoken.distill.losses.attention import attention_transfer
from firsttoken.distill.losses.chunked import chunked_head_loss
from firsttoken.distill.losses.cross_tokenizer import ACROSS
from firsttoken.distill.losses.divergence import DIVERGENCES, IGNORED, cross_entropy
from firsttoken.distill.losses.hidden import Projection, hidden_cosine, hidden_l2, layer_pairs
from firsttoken.distill.models import head_inputs, head_of
from firsttoken.distill.on_policy import StudentWriter
from firsttoken.distill.recipe import INSIDE, Loss
from firsttoken.distill.schedules import active_pairs
from firsttoken.distill.teachers import AnyTeacher, LiveTeacher, TeacherOutputs, domain_weights
from firsttoken.errors import FirstTokenError

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle
    from transformers import PreTrainedModel
    from transformers.modeling_outputs import BaseModelOutput


@dataclass(frozen=True)
class Moment:
    """Where training is: ``progress`` 0..1, the temperature, and each loss's weight now."""

    progress: float
    temperature: float
    weights: tuple[float, ...]


class Distillation(nn.Module):
    """A student with its teachers and losses; ``forward`` gives the loss. Teachers are not among its parameters."""

    shares: Tensor  # [domains, teachers]

    def __init__(
        self,
        student: PreTrainedModel,
        teachers: list[AnyTeacher],
        losses: tuple[Loss, ...],
        domains: tuple[str, ...],
        vocabulary: int,
        chunk: int = 256,
        span: float = 0.0,
        writer: StudentWriter | None = None,
    ) -> None:
        super().__init__()
        self.writer = writer  # lets the student continue windows before they come here
        self.student = student
        self.losses, self.vocabulary, self.chunk, self.span = losses, vocabulary, chunk, span
        self.teachers = list(teachers)
        self.names = part_names(losses)
        self.added: list[RemovableHandle] = []  # hooks in the student
        self.register_buffer("shares", domain_weights(self.teachers, domains), persistent=False)
        self.pairs = [[pairs_of(loss, student, teacher) for teacher in self.teachers] if loss.kind in INSIDE else [] for loss in losses]
        self.projections = nn.ModuleDict()
        for number, loss in enumerate(losses):
            if loss.kind in ("hidden_l2", "hidden_cosine"):
                for t, teacher in enumerate(self.teachers):
                    widths = student.config.hidden_size, model_inside(loss, teacher).config.hidden_size
                    for pair in range(len(self.pairs[number][t])):
                        self.projections[f"{number}-{t}-{pair}"] = Projection(*widths)

    def forward(
        self,
        input_ids: Tensor,
        labels: Tensor,
        domain: Tensor,
        index: Tensor,
        moment: Moment,
        count: Tensor | float,
        written: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Returns the weighted loss and the unweighted parts ``[losses]``.

        ``input_ids`` and ``labels`` are ``[batch, length]``, position ``t`` predicts label ``t + 1``, labels of -100 do not
        count; ``domain`` and ``index`` ``[batch]`` say what each window is, ``positions`` (`Windows`) keep its documents apart, and ``written`` ``[batch]`` whether the student
        wrote it: then cross-entropy, which would tell it that it is right, leaves it out.
        """
        states = any(loss.kind.startswith("hidden") and w for loss, w in zip(self.losses, moment.weights, strict=True))
        maps = any(loss.kind == "attention" and w for loss, w in zip(self.losses, moment.weights, strict=True))
        counted = labels[:, 1:] != IGNORED
        out = self.student.model(
            input_ids=input_ids, position_ids=positions, use_cache=False, output_hidden_states=states, output_attentions=maps
        )
        seen = [teacher.look(input_ids, counted, index, states, maps, positions) for teacher in self.teachers]
        shares = self.shares[domain][:, None, :].expand(-1, counted.shape[1], -1)[counted]  # [N, teachers]
        given = labels if written is None else labels.masked_fill(written[:, None], IGNORED)
        loss, parts = self.of_predictions(out.last_hidden_state[:, :-1][counted], given[:, 1:][counted], seen, shares, moment, count)
        for number, term in enumerate(self.losses):
            if term.kind in INSIDE and moment.weights[number]:
                value = self.of_insides(number, term, out, seen, counted, shares, moment) / count
                loss = loss + moment.weights[number] * value
                parts[number] = value.detach()
        return loss, parts

    def of_predictions(
        self, hidden: Tensor, labels: Tensor, seen: list[TeacherOutputs], shares: Tensor, moment: Moment, count: Tensor | float
    ) -> tuple[Tensor, Tensor]:
        """Cross-entropy and divergences, chunk by chunk; ``hidden`` ``[N, width]``, ``labels`` ``[N]``."""
        hidden, weight, bias = head_inputs(self.student, hidden)

        def loss_of(logits: Tensor, where: slice) -> tuple[Tensor, Tensor]:
            logits = logits[:, : self.vocabulary]
            total, parts = logits.new_zeros((), dtype=torch.promote_types(logits.dtype, torch.float32)), []
            for term, term_weight in zip(self.losses, moment.weights, strict=True):
                value = (
                    self.of_chunk(term, logits, labels[where], where, seen, shares[where], moment.temperature) if term_weight else total * 0
                )
                total = total + term_weight * value
                parts.append(value.detach())
            return total / count, torch.stack(parts) / count

        loss, parts = chunked_head_loss(hidden, weight, bias, loss_of, self.chunk)
        return loss, parts if len(parts) else hidden.new_zeros(len(self.losses), dtype=torch.float32)

    def of_chunk(
        self, term: Loss, logits: Tensor, labels: Tensor, where: slice, seen: list[TeacherOutputs], shares: Tensor, temperature: float
    ) -> Tensor:
        """One term summed over a chunk."""
        if term.kind == "cross_entropy":
            return cross_entropy(logits, labels, **term.options).sum()
        total = logits.new_zeros((), dtype=torch.promote_types(logits.dtype, torch.float32))
        if term.kind in DIVERGENCES or term.kind in ACROSS:
            loss, of = DIVERGENCES.get(term.kind) or (ACROSS[term.kind], None)
            for number, teacher in enumerate(self.teachers):
                if shares[:, number].any():
                    total = (
                        total
                        + (teacher.divergence(loss, of, seen[number], where, logits, temperature, term.options) * shares[:, number]).sum()
                    )
        return total

    def of_insides(
        self, number: int, term: Loss, out: BaseModelOutput, seen: list[TeacherOutputs], counted: Tensor, shares: Tensor, moment: Moment
    ) -> Tensor:
        """One loss between hidden states or attention maps, averaged over the active layer pairs, summed over positions."""
        total = shares.new_zeros(())
        hidden_states, attentions = out.hidden_states or (), out.attentions or ()  # those that `forward` asked for
        for t, _ in enumerate(self.teachers):
            pairs = self.pairs[number][t]
            active = active_pairs(moment.progress, len(pairs), self.span)
            for pair, (ours, theirs) in enumerate(pairs[:active]):
                if term.kind == "attention":
                    value = attention_transfer(attentions[ours], seen[t].maps[theirs], **term.options)[:, :-1][counted]
                else:
                    projected = self.projections[f"{number}-{t}-{pair}"](hidden_states[ours + 1][:, :-1][counted])
                    teacher = seen[t].states[theirs][:, :-1][counted].to(projected.dtype)
                    value = hidden_l2(projected, teacher, relative=True) if term.kind == "hidden_l2" else hidden_cosine(projected, teacher)
                total = total + (value * shares[:, t]).sum() / active
        return total

    def take_out(self) -> None:
        """Takes the hooks out of the student, which may be trained on by another objective."""
        for handle in self.added:
            handle.remove()
        self.added = []

    @torch.no_grad()
    def score(self, batch: dict[str, Tensor]) -> Tensor:
        """Sums of a held-out batch: ``[cross-entropy, KL divergence from the live teachers at T = 1, positions]``, float64.

        Several teachers count by their weights, whatever their domains.
        """
        input_ids, labels, positions = batch["input_ids"], batch["labels"], batch.get("positions")
        counted = labels[:, 1:] != IGNORED
        last = self.student.model(input_ids=input_ids, position_ids=positions, use_cache=False).last_hidden_state[:, :-1]
        head = head_of(self.student)[0].device  # of a teacher that is laid over devices, another than its first layers'
        hidden = last[counted.to(last.device)].to(head)
        live = [teacher for teacher in self.teachers if teacher.live]
        total = sum(teacher.weight for teacher in live)
        seen = [teacher.look(input_ids, counted, input_ids[:, 0], False, False, positions) for teacher in live]
        chosen = labels[:, 1:][counted].to(head)
        loss, of = DIVERGENCES["forward_kl"]

        def loss_of(logits: Tensor, where: slice) -> tuple[Tensor, Tensor]:
            logits = logits[:, : self.vocabulary].float()
            values = [cross_entropy(logits, chosen[where]).double().sum(), logits.new_zeros((), dtype=torch.float64)]
            for teacher, shown in zip(live, seen, strict=True):
                values[1] = values[1] + teacher.weight / total * teacher.divergence(loss, of, shown, where, logits, 1.0, {}).double().sum()
            return values[0], torch.stack(values)

        _, parts = chunked_head_loss(*head_inputs(self.student, hidden), loss_of, self.chunk)
        parts = parts if len(parts) else hidden.new_zeros(2, dtype=torch.float64)
        return torch.cat([parts, parts.new_tensor([len(hidden)])])


def part_names(losses: tuple[Loss, ...]) -> list[str]:
    """A name for every loss; a kind that appears twice gets a number."""
    kinds = [loss.kind for loss in losses]
    return [kind if kinds.count(kind) == 1 else f"{kind}_{kinds[: n + 1].count(kind)}" for n, kind in enumerate(kinds)]


def model_inside(loss: Loss, teacher: AnyTeacher) -> PreTrainedModel:
    """The model that a loss looks into. Raises `FirstTokenError` for a teacher that is a cache."""
    if not isinstance(teacher, LiveTeacher):
        raise FirstTokenError(f"loss {loss.kind} looks inside the teacher, and {teacher.name} is a cache of its answers; use a checkpoint")
    return teacher.model


def pairs_of(loss: Loss, student: PreTrainedModel, teacher: AnyTeacher) -> list[tuple[int, int]]:
    """The layer pairs of a loss, lowest first. Raises `FirstTokenError` for a layer that a model does not have."""
    ours, theirs = student.config.num_hidden_layers, model_inside(loss, teacher).config.num_hidden_layers
    if loss.pairs is None:
        return layer_pairs(ours, theirs)
    for s, t in loss.pairs:
        if not (0 <= s < ours and 0 <= t < theirs):
            raise FirstTokenError(
                f"loss {loss.kind}: pair [{s}, {t}] names a layer that is not there; expected 0 to {ours - 1} for the student and 0 to {theirs - 1} for the teacher"
            )
    return sorted(loss.pairs)
