"""Choosing few good samples from many, and saying why each was taken (s1, arXiv:2501.19393).

Duplicates and samples that share 13 words in a row with an evaluation file go first; then the easiest, where difficulty
is known; of the rest, every draw takes a domain, each equally likely, and in it a sample with weight ``2**-rank`` by
length, the longest first.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from firsttoken.atomic_file import check_file_destination, write_text
from firsttoken.distill.difficulty import solved_lines
from firsttoken.distill.documents import sample_text
from firsttoken.errors import FirstTokenError
from firsttoken.json_lines import json_lines, read_text
from firsttoken.safe_text import visible
from firsttoken.text_overlap import GRAM, contaminated, grams, words


@dataclass
class Sample:
    """A line of the pool. ``difficulty`` is any number, larger is harder; None where the line has none."""

    line: dict
    number: int
    domain: str
    text: str
    length: int
    difficulty: float | None


@dataclass
class Selection:
    """What was kept, with reasons, and how many were left out for what."""

    kept: list[dict] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)

    def leave(self, why: str) -> None:
        self.left_out[why] = self.left_out.get(why, 0) + 1


def select(
    pool: list[Sample], count: int, forbidden: Iterable[str] = (), easiest: float = 0.0, seed: int = 0, solved: frozenset[int] = frozenset()
) -> Selection:
    """Chooses at most ``count`` samples. ``easiest`` is the share of lowest difficulty to leave out, ``solved`` are numbers of lines.

    Raises `FirstTokenError`.
    """
    chosen, seen = Selection(), set()
    banned = set().union(*(grams(text) for text in forbidden)) if forbidden else set()
    left: list[Sample] = []
    for sample in pool:
        key = tuple(words(sample.text))
        if key in seen:
            chosen.leave("copy of an earlier sample")
        elif banned and contaminated(sample.text, banned):
            chosen.leave(f"shares {GRAM} words in a row with the evaluation")
        elif sample.number in solved:
            chosen.leave("solved by a model that answered it")
        else:
            left.append(sample)
        seen.add(key)
    if easiest > 0:
        rated = [(sample.difficulty, sample) for sample in left if sample.difficulty is not None]
        if len(rated) < len(left):
            unknown = [sample.number for sample in left if sample.difficulty is None]
            raise FirstTokenError(f'line {unknown[0]} has no "difficulty" ({len(unknown)} such); needed to leave the easiest out')
        bound = float(np.quantile([difficulty for difficulty, _ in rated], easiest)) if rated else 0.0
        harder = [sample for difficulty, sample in rated if difficulty >= bound]
        for _ in range(len(left) - len(harder)):
            chosen.leave(f"among the easiest {easiest:.0%}")
        left = harder
    draw(chosen, left, count, seed)
    return chosen


def draw(chosen: Selection, left: list[Sample], count: int, seed: int) -> None:
    """Draws domain by domain, without putting back."""
    random = np.random.default_rng(seed)
    domains = {
        name: sorted((s for s in left if s.domain == name), key=lambda s: (-s.length, s.number))
        for name in sorted({s.domain for s in left})
    }
    while len(chosen.kept) < count and domains:
        name = str(random.choice(list(domains)))
        ranked = domains[name]
        weights = 0.5 ** np.arange(len(ranked))
        rank = int(random.choice(len(ranked), p=weights / weights.sum()))
        sample = ranked.pop(rank)
        reason = f"domain {name}, length {sample.length} words, rank {rank + 1} of {len(ranked) + 1} left" + (
            f", difficulty {sample.difficulty:g}" if sample.difficulty is not None else ""
        )
        chosen.kept.append({**sample.line, "reason": reason})
        if not ranked:
            del domains[name]
    for _ in range(sum(map(len, domains.values()))):
        chosen.leave("not drawn")


def select_file(
    pool: str | Path,
    output: str | Path,
    count: int,
    evaluation: tuple[Path, ...] = (),
    easiest: float = 0.0,
    seed: int = 0,
    solved_by: tuple[Path, ...] = (),
) -> Selection:
    """Reads a JSONL pool and writes the chosen lines, each with its ``reason``. Raises `FirstTokenError` naming the line.

    ``solved_by`` are answers of models to the pool's prompts; what one of them solved is left out (`difficulty.solved_lines`).
    """
    check_file_destination(output, "--output")
    forbidden = [text for path in evaluation for text in texts_of(Path(path))]
    solved = frozenset(solved_lines(Path(pool), solved_by)) if solved_by else frozenset()
    chosen = select(read_pool(Path(pool)), count, forbidden, easiest, seed, solved)
    if not chosen.kept:
        raise FirstTokenError(f"{pool}: nothing is left to keep ({'; '.join(f'{n} {why}' for why, n in chosen.left_out.items())})")
    write_text(output, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in chosen.kept))
    return chosen


def read_pool(path: Path) -> list[Sample]:
    """Reads samples: ``text``, ``prompt`` with ``answer``, or ``messages``; ``domain`` and ``difficulty`` where given."""
    pool = []
    for number, line in json_lines(path):
        text = sample_text(line)
        if text is None:
            raise FirstTokenError(f'{path}, line {number}: expected "text", "messages", or "prompt" and "answer"')
        difficulty, answer = line.get("difficulty"), line.get("answer")
        if difficulty is not None and (isinstance(difficulty, bool) or not isinstance(difficulty, int | float)):
            raise FirstTokenError(f"{path}, line {number}: difficulty is {visible(difficulty)}; expected a number")
        pool.append(
            Sample(
                line,
                number,
                str(line.get("domain", "text")),
                text,
                len(words(answer if isinstance(answer, str) and answer else text)),
                difficulty,
            )
        )
    return pool


def texts_of(path: Path) -> list[str]:
    """Texts of an evaluation file: every text field of a JSONL line, or the lines of anything else."""
    if path.suffix == ".jsonl":
        return ["\n".join(value for value in line.values() if isinstance(value, str)) for _, line in json_lines(path)]
    return [line for line in read_text(path).splitlines() if line.strip()]
