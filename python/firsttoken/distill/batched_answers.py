"""Several prompts answered at once: the same tokens as one by one, up to rounding, in fewer passes over the weights.

Shorter prompts are filled up on the left, where the mask hides them and positions do not count them; a row that has ended
leaves the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from firsttoken.decoder.families import describe
from firsttoken.errors import FirstTokenError
from firsttoken.run.sampling import Sampler
from firsttoken.run.thinking import ThinkingBudget

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass
class Answer:
    """One prompt on its way: ``tokens`` so far, without the stop token, and why it ended: ``end``, ``length`` or ``context``."""

    prompt: list[int]
    sampler: Sampler
    budget: ThinkingBudget | None = None
    tokens: list[int] = field(default_factory=list, init=False)
    stopped: str = field(default="", init=False)
    pending: list[int] = field(default_factory=list, init=False)  # decided by the budget, still to be fed

    def go_on(self, logits: np.ndarray, stops: frozenset[int], most: int, room: int) -> None:
        """Takes the next token, from ``logits`` ``[vocabulary]`` where none is pending, and notices an end."""
        if not self.pending:
            sampled = self.sampler.pick(logits)
            given = [sampled] if self.budget is None else self.budget.next(sampled, stops)
            if given and given[-1] in stops and (self.budget is None or self.budget.over):
                self.stopped = "end"
                return
            if not given and self.budget is not None:  # it had no room for the replacement: thinking ends here
                given = self.budget.next(self.budget.end)
            self.pending = list(given)
        self.tokens.append(self.pending.pop(0))
        if len(self.tokens) >= most:
            self.stopped = "length"
        elif len(self.tokens) >= room:
            self.stopped = "context"


def check_batch(model: PreTrainedModel, batch: int) -> None:
    """Raises `FirstTokenError` for a model that filling on the left would change: convolutions and recurrent states see it."""
    if batch > 1 and any(block.attention is None for block in describe(model.config.to_dict()).layers):
        raise FirstTokenError(
            f"--batch {batch}: {model.config.model_type} has layers that are no attention, and what fills up shorter prompts would change them; expected 1"
        )


@torch.no_grad()
def answer_all(model: PreTrainedModel, answers: Sequence[Answer], stops: frozenset[int], most: int) -> None:
    """Answers all prompts together, each with at most ``most`` tokens. Raises `FirstTokenError` for a prompt that leaves no room."""
    end = model.config.max_position_embeddings
    if longest := next((a for a in answers if len(a.prompt) >= end), None):
        raise FirstTokenError(f"a prompt has {len(longest.prompt)} tokens, but the teacher's positions end at {end}; shorten it")
    width = max(len(a.prompt) for a in answers)
    given = torch.tensor([[0] * (width - len(a.prompt)) + a.prompt for a in answers])
    mask = torch.tensor([[0] * (width - len(a.prompt)) + [1] * len(a.prompt) for a in answers])
    given, mask, past, rows = given.to(model.device), mask.to(model.device), None, list(answers)
    places = (mask.cumsum(1) - 1).clamp_min(0)
    while True:
        out = model(
            input_ids=given, attention_mask=mask, position_ids=places, past_key_values=past, use_cache=True, logits_to_keep=1
        )  # fmt: skip
        past = out.past_key_values
        for row, logits in zip(rows, out.logits[:, -1].float().cpu().numpy(), strict=True):
            row.go_on(logits, stops, most, end - len(row.prompt))
        staying = [n for n, row in enumerate(rows) if not row.stopped]
        if not staying:
            return
        rows = [rows[n] for n in staying]
        if len(staying) < len(mask):
            kept = torch.tensor(staying, device=mask.device)
            past.batch_select_indices(kept)
            mask, places = mask[kept], places[kept]
        given = torch.tensor([[row.tokens[-1]] for row in rows], device=model.device)
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
        places = places[:, -1:] + 1
