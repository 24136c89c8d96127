"""A teacher with another tokenizer: it reads the student's text in its own tokens, and has a say where both stand at the same place in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from firsttoken.distill.losses.cross_tokenizer import gold
from firsttoken.distill.losses.divergence import IGNORED
from firsttoken.distill.models import head_of
from firsttoken.distill.teachers import TeacherOutputs
from firsttoken.distill.text_alignment import TextAlignment, matched_tokens
from firsttoken.distill.windows import Windows
from firsttoken.errors import FirstTokenError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


LOOKED_AT = 16  # windows


@dataclass
class ForeignTeacher:
    """Runs with every batch, without gradients; ``live`` is false because its divergence from the student cannot be measured token by token."""

    name: str
    model: PreTrainedModel
    alignment: TextAlignment
    weight: float = 1.0
    domains: tuple[str, ...] = ()
    live: bool = field(default=False, init=False)

    @cached_property
    def matched(self) -> tuple[Tensor, Tensor]:
        """Tokens that both have, for `gold`."""
        ours, theirs = matched_tokens(self.alignment.student, self.alignment.teacher)
        device = self.model.device
        return torch.tensor(ours, dtype=torch.long, device=device), torch.tensor(theirs, dtype=torch.long, device=device)

    def describe(self, windows: Windows) -> str:
        """What to say before a training: at how many labels of the first windows it has a say. Raises `FirstTokenError` where there are none."""
        labels = met = 0
        for tokens, labelled in zip(windows.tokens[:LOOKED_AT].tolist(), windows.labels[:LOOKED_AT].tolist(), strict=True):
            _, places = self.alignment.align(tokens)
            said = [place >= 0 for place, label in zip(places, labelled[1:], strict=False) if label != IGNORED]
            labels, met = labels + len(said), met + sum(said)
        if not met:
            raise FirstTokenError(
                f"teacher {self.name}: its tokenizer and the student's never stand at the same place in the training text; take a teacher that reads such text"
            )
        return f"teacher {self.name} has another tokenizer: it has a say at {met / labels:.0%} of the labels, where both end a token"

    @torch.no_grad()
    def look(self, tokens: Tensor, counted: Tensor, index: Tensor, states: bool, maps: bool) -> TeacherOutputs:
        """Reads the text of ``tokens`` ``[batch, length]``, the student's. Raises `FirstTokenError` where it has too many tokens for its positions."""
        if next(self.model.parameters()).device != tokens.device:
            self.model.to(tokens.device)  # type: ignore[arg-type]  # transformers wraps it without its types
        read = [self.alignment.align(row) for row in tokens.tolist()]
        longest = max(len(theirs) for theirs, _ in read)
        most = getattr(self.model.config, "max_position_embeddings", None)
        if isinstance(most, int) and longest > most:
            raise FirstTokenError(
                f"teacher {self.name}: a window of {tokens.shape[1]} tokens of the student's is {longest} of its own, and it was made for {most}; choose a smaller data.length"
            )
        # what stands behind a row is never looked at: attention goes backwards only
        given = torch.tensor([theirs + [0] * (longest - len(theirs)) for theirs, _ in read], device=tokens.device)
        place = torch.tensor([places for _, places in read], device=tokens.device)[:, :-1]
        aligned = counted & (place >= 0)
        hidden = self.model.model(input_ids=given, use_cache=False).last_hidden_state
        row = torch.arange(len(tokens), device=tokens.device)[:, None].expand_as(place)
        return TeacherOutputs(hidden[row[aligned], place[aligned]], aligned=aligned[counted])

    @torch.no_grad()
    def divergence(
        self,
        loss: Callable[..., Tensor],
        of: Callable[..., Tensor] | None,
        seen: TeacherOutputs,
        where: slice,
        student_logits: Tensor,
        temperature: float,
        options: dict,
    ) -> Tensor:
        """A loss across tokenizers ``[n]`` for a chunk's student logits; zero where the two do not stand at the same place."""
        assert seen.hidden is not None and seen.aligned is not None, "what this teacher saw"
        rows, before = seen.aligned[where], int(seen.aligned[: where.start].sum())
        weight, bias = head_of(self.model)
        hidden = seen.hidden[before : before + int(rows.sum())]
        logits = nn.functional.linear(hidden.to(weight.dtype), weight, bias)[:, : self.alignment.teacher.vocab_size]
        if loss is gold:
            options = {**options, "matched": self.matched}
        with torch.enable_grad():
            value = loss(student_logits[rows], logits.to(student_logits.dtype), temperature, **options)
            return torch.zeros(len(rows), dtype=value.dtype, device=value.device).masked_scatter(rows, value)
