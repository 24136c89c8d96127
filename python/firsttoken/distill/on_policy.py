"""Windows that the student continues itself, for the teacher to judge: on-policy distillation (GKD, Agarwal et al. 2024, arXiv:2306.13649).

What a window becomes is a function of the student's weights, the recipe's seed and the window's place in the order of training
alone: no random state has to be kept for a run to go on, and how a step is divided up over processes changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from firsttoken.distill.losses.divergence import IGNORED
from firsttoken.distill.models import head_of
from firsttoken.distill.student_options import OnPolicy

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class StudentWriter:
    """Lets a student continue windows. ``ends`` are the tokens that end what it writes, ``filler`` fills the rest of a window."""

    options: OnPolicy
    vocabulary: int  # rows past it mean no token and are never drawn
    ends: tuple[int, ...]
    filler: int
    seed: int

    def rewrite(
        self, student: PreTrainedModel, batch: dict[str, Tensor], positions: list[int], taught: list[bool] | None = None
    ) -> dict[str, Tensor]:
        """Returns the batch with the chosen windows continued by the student, and ``written`` ``[batch]``, which they are.

        ``taught`` says whether a teacher judges a window's domain; others stay as they are. ``positions`` says where in the order of training each window stands. Labels of a continued window are what the student
        wrote, its end token with it, and nothing else.
        """
        drawn = [np.random.default_rng([self.seed, position]) for position in positions]
        chosen = [row for row, numbers in enumerate(drawn) if numbers.random() < self.options.share and (taught is None or taught[row])]
        written = torch.zeros(len(positions), dtype=torch.bool, device=batch["labels"].device)
        if not chosen:
            return {**batch, "written": written}
        tokens, labels = batch["input_ids"].clone(), batch["labels"].clone()
        starts = [start_of(labels[row].tolist(), drawn[row], self.options.prompt_tokens) for row in chosen]
        length = tokens.shape[1]
        uniform = torch.from_numpy(np.stack([drawn[row].random(length) for row in chosen]))
        tokens[chosen], ended = self.continued(student, tokens[chosen], starts, uniform)
        for row, start, end in zip(chosen, starts, ended, strict=True):
            labels[row] = IGNORED
            labels[row, start:end] = tokens[row, start:end]
        written[chosen] = True
        return {**batch, "input_ids": tokens, "labels": labels, "written": written}

    @torch.no_grad()
    def continued(self, student: PreTrainedModel, tokens: Tensor, starts: list[int], uniform: Tensor) -> tuple[Tensor, list[int]]:
        """Draws tokens from ``starts`` on; ``tokens`` ``[rows, length]``, ``uniform`` numbers in 0..1 of the same shape.

        Rows with a longer prompt read on while others already write, so that no row needs padding. Returns the tokens and where each
        row's writing ended.
        """
        training, length = student.training, tokens.shape[1]
        student.eval()
        weight, bias = head_of(student)
        begin = torch.tensor(starts, device=tokens.device)
        limit = (begin + (self.options.max_new_tokens or length)).clamp_max(length)
        stops = torch.tensor(self.ends, dtype=tokens.dtype, device=tokens.device)
        open_rows, ended = torch.ones_like(begin, dtype=torch.bool), limit.clone()
        given, past = tokens[:, : min(starts)], None
        for place in range(min(starts), int(limit.max())):
            out = student.model(input_ids=given, past_key_values=past, use_cache=True)
            past = out.past_key_values
            logits = nn.functional.linear(out.last_hidden_state[:, -1].to(weight.dtype), weight, bias)[:, : self.vocabulary]
            token = draw(logits, uniform[:, place].to(logits.device), self.options.temperature)
            writes = open_rows & (place >= begin) & (place < limit)
            tokens[:, place] = torch.where(writes, token, tokens[:, place])
            stopped = writes & torch.isin(token, stops)
            ended = torch.where(stopped, place + 1, ended)
            open_rows &= ~stopped & (place + 1 < limit)
            if not open_rows.any():
                break
            given = tokens[:, place : place + 1]
        student.train(training)
        beyond = torch.arange(length, device=tokens.device)[None] >= ended[:, None]
        return tokens.masked_fill(beyond, self.filler), ended.tolist()


def draw(logits: Tensor, uniform: Tensor, temperature: float) -> Tensor:
    """Tokens ``[rows]`` with probabilities ``softmax(logits / temperature)``, ``[rows, vocab]``: where ``uniform`` ``[rows]`` lies among their running sums."""
    sums = torch.softmax(logits.double() / temperature, dim=-1).cumsum(-1)
    found = torch.searchsorted(sums, (uniform.double() * sums[:, -1])[:, None], right=True)[:, 0]
    return found.clamp_max(logits.shape[-1] - 1)


def start_of(labels: list[int], drawn: np.random.Generator, prompt_tokens: int | None) -> int:
    """Where the student begins to write: at an answer of the window, drawn among those that begin in it; in plain text, or the end of an answer that began before it, after its prompt, at the last label at most."""
    answers = [n for n in range(1, len(labels)) if labels[n] != IGNORED and labels[n - 1] == IGNORED]
    if answers:
        return int(answers[drawn.integers(len(answers))])
    last = max(n for n, label in enumerate(labels) if label != IGNORED)  # no window is without a label
    return min(prompt_tokens or len(labels) // 2, last)
