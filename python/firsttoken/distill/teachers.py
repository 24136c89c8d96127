"""Teachers during training: what each says about a batch, whether it runs now or ran before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from firsttoken.distill.cache import TeacherCache
from firsttoken.distill.losses.topk import grouped_teacher, topk_divergence
from firsttoken.distill.models import head_of
from firsttoken.distill.recipe import Teacher

if TYPE_CHECKING:
    from transformers import PreTrainedModel


Divergence = Callable[..., Tensor]  # of `losses.divergence.DIVERGENCES`: on logits, or on log probabilities


@dataclass
class TeacherOutputs:
    """What a teacher shows of one batch, at the ``N`` positions that count.

    ``hidden`` ``[N, width]`` goes through the head chunk by chunk; ``states`` and ``maps`` are per layer
    ``[batch, length, width]`` and ``[batch, heads, length, length]``.
    """

    hidden: Tensor | None = None
    states: tuple[Tensor, ...] = ()
    maps: tuple[Tensor, ...] = ()
    rows: tuple[Tensor, Tensor, Tensor, np.ndarray] | None = None  # of a cache
    aligned: Tensor | None = (
        None  # of a teacher with another tokenizer: at which of the N positions it has a say, ``[N]``; ``hidden`` has only those
    )


@dataclass
class LiveTeacher:
    """A teacher model that runs with every batch, without gradients."""

    name: str
    model: PreTrainedModel
    weight: float = 1.0
    domains: tuple[str, ...] = ()
    live: bool = field(default=True, init=False)

    @torch.no_grad()
    def look(self, tokens: Tensor, counted: Tensor, index: Tensor, states: bool, maps: bool) -> TeacherOutputs:
        """Runs ``tokens`` ``[batch, length]``; ``counted`` ``[batch, length - 1]`` marks the positions to keep."""
        if next(self.model.parameters()).device != tokens.device:
            self.model.to(tokens.device)  # type: ignore[arg-type]  # transformers wraps it without its types
        out = self.model.model(input_ids=tokens, use_cache=False, output_hidden_states=states, output_attentions=maps)
        return TeacherOutputs(out.last_hidden_state[:, :-1][counted], tuple((out.hidden_states or ())[1:]), tuple(out.attentions or ()))

    @torch.no_grad()
    def divergence(
        self,
        loss: Divergence,
        of: Divergence | None,
        seen: TeacherOutputs,
        where: slice,
        student_logits: Tensor,
        temperature: float,
        options: dict,
    ) -> Tensor:
        """A divergence ``[n]`` of a chunk's student logits ``[n, shared vocabulary]`` from this teacher's."""
        assert seen.hidden is not None, "what this teacher saw"
        weight, bias = head_of(self.model)
        logits = nn.functional.linear(seen.hidden[where].to(weight.dtype), weight, bias)[:, : student_logits.shape[-1]]
        with torch.enable_grad():
            return loss(student_logits, logits.to(student_logits.dtype), temperature, **options)


@dataclass
class CachedTeacher:
    """A teacher's most likely tokens, read from disk; the teacher itself may be gone."""

    name: str
    cache: TeacherCache
    weight: float = 1.0
    domains: tuple[str, ...] = ()
    live: bool = field(default=False, init=False)

    def look(self, tokens: Tensor, counted: Tensor, index: Tensor, states: bool, maps: bool) -> TeacherOutputs:
        """Reads the rows of the windows ``index`` ``[batch]``."""
        ids, logits, rest = self.cache.read(index.cpu().numpy())
        keep = counted.cpu()
        known, best, others = (torch.from_numpy(a)[:, :-1][keep].to(tokens.device) for a in (ids, logits, rest))
        return TeacherOutputs(rows=(known, best, others, self.cache.nodes))

    def divergence(
        self,
        loss: Divergence,
        of: Divergence | None,
        seen: TeacherOutputs,
        where: slice,
        student_logits: Tensor,
        temperature: float,
        options: dict,
    ) -> Tensor:
        """The same on the grouped vocabulary: the known tokens, and all others as one."""
        assert seen.rows is not None and of is not None, "what this teacher saw, and a loss that caches can have"
        tokens, logits, rest, _ = seen.rows
        log_rest = self.cache.log_rest(rest[where], temperature)
        log_p = grouped_teacher(logits[where].float(), log_rest, temperature).to(torch.promote_types(student_logits.dtype, torch.float32))
        return topk_divergence(of, student_logits, tokens[where].long(), log_p, temperature, **options)


class AnyTeacher(Protocol):
    """What a teacher is during training."""

    name: str
    weight: float
    domains: tuple[str, ...]
    live: bool  # whether its divergence from the student can be measured on other text too

    def look(self, tokens: Tensor, counted: Tensor, index: Tensor, states: bool, maps: bool) -> TeacherOutputs: ...

    def divergence(
        self,
        loss: Divergence,
        of: Divergence | None,
        seen: TeacherOutputs,
        where: slice,
        student_logits: Tensor,
        temperature: float,
        options: dict,
    ) -> Tensor: ...


def domain_weights(teachers: list[Teacher] | list[AnyTeacher], domains: tuple[str, ...]) -> Tensor:
    """How much each teacher counts for each domain, ``[domains, teachers]``; a row sums to one, or to zero where nobody teaches."""
    raw = torch.tensor([[t.weight if not t.domains or d in t.domains else 0.0 for t in teachers] for d in domains]).reshape(
        len(domains), len(teachers)
    )
    total = raw.sum(1, keepdim=True)
    return torch.where(total > 0, raw / total.clamp_min(torch.finfo(raw.dtype).tiny), 0.0)


def check_domains(teachers: tuple[Teacher, ...], domains: tuple[str, ...], folder: Path) -> None:
    """Raises `FirstTokenError` for a teacher's domain that no data has."""
    from firsttoken.errors import FirstTokenError, nearest

    for teacher in teachers:
        for domain in teacher.domains:
            if domain not in domains:
                raise FirstTokenError(
                    f"teacher {teacher.checkpoint or teacher.cache}: no training data has domain {domain!r}{nearest(domain, domains)}; expected one of {', '.join(domains)}"
                )
