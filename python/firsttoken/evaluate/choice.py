"""Multiple choice by likelihood: the model is asked nothing, each choice is tried as the answer's continuation.

Two figures, as is usual: by the summed log probability, and by that divided by the choice's bytes, which does not favour
short choices (Brown et al., arXiv:2005.14165; the ``acc`` and ``acc_norm`` of the LM evaluation harness).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from firsttoken.errors import FirstTokenError
from firsttoken.evaluate.subject import Subject
from firsttoken.plain_file import MOST_DIGITS
from firsttoken.prove.divergence import log_softmax


@dataclass(frozen=True)
class Question:
    """``right`` is the place of the right one among ``choices``."""

    text: str
    choices: tuple[str, ...]
    right: int


def read_question(line: dict) -> Question | None:
    """Reads ``{"question", "choices": […], "answer": place, letter or text}`` and ARC's ``{"choices": {"text", "label"}, "answerKey"}``.

    Returns None for a line that is neither, or whose answer is not among its choices.
    """
    text = next((line[key] for key in ("question", "problem", "prompt", "query") if isinstance(line.get(key), str)), None)
    choices: Any = line.get("choices", line.get("options", line.get("endings")))  # whatever the file holds
    labels = None
    if isinstance(choices, dict):
        choices, labels = choices.get("text"), choices.get("label")
    if text is None or not isinstance(choices, list) or len(choices) < 2 or not all(isinstance(c, str) for c in choices):
        return None
    answer = next((line[key] for key in ("answer", "answerKey", "label", "target") if key in line), None)
    letters = [str(label) for label in labels] if isinstance(labels, list) else [chr(ord("A") + n) for n in range(len(choices))]
    if isinstance(answer, int) and not isinstance(answer, bool):
        right = answer
    elif isinstance(answer, str) and answer in letters:
        right = letters.index(answer)
    elif isinstance(answer, str) and answer.strip().isdecimal() and len(answer) < MOST_DIGITS and not isinstance(labels, list):
        right = int(answer)
    elif answer in choices:
        right = choices.index(answer)
    else:
        return None
    return Question(text, tuple(choices), right) if 0 <= right < len(choices) else None


def choose(subject: Subject, question: Question) -> tuple[int, int]:
    """Returns the most likely choice by log probability, and by log probability per byte. Raises `FirstTokenError` where it does not fit."""
    prompt = f"Question: {question.text.strip()}\nAnswer:"
    sums = [continuation(subject, prompt, f" {choice.strip()}") for choice in question.choices]
    per_byte = [total / max(1, len(choice.strip().encode())) for total, choice in zip(sums, question.choices, strict=True)]
    return int(np.argmax(sums)), int(np.argmax(per_byte))


def continuation(subject: Subject, prompt: str, answer: str) -> float:
    """Log probability (nats) of ``answer`` after ``prompt``; tokenized together, counted from the first token that differs."""
    before, whole = subject.tokenizer.encode(prompt), subject.tokenizer.encode(prompt + answer)
    start = next((n for n, (a, b) in enumerate(zip(before, whole, strict=False)) if a != b), min(len(before), len(whole) - 1))
    start = max(start, 1)
    if len(whole) > subject.cache_length:
        raise FirstTokenError(
            f"{subject.folder}: a question takes {len(whole)} tokens, the cache holds {subject.cache_length}; leave it out, or export with a longer --cache-length"
        )
    runner = subject.runner
    runner.reset()
    logits, total = runner.prefill(whole[:start]), 0.0
    for place in range(start, len(whole)):
        total += float(log_softmax(logits[: subject.vocabulary])[whole[place]])
        if place + 1 < len(whole):
            logits = runner.decode(whole[place])
    return total
