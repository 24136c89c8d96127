"""Data of the tasks beside this file, made from the demo's held-out text; nothing is downloaded."""

import datasets

from firsttoken.demo import held_out_text

PIECE = 700  # characters


def _lines() -> list[str]:
    return [line for line in held_out_text().splitlines() if len(line.split()) > 5]


def _test(rows: list[dict]) -> dict:
    return {"test": datasets.Dataset.from_list(rows, split=datasets.Split.TEST)}


def texts(**_: object) -> dict:
    text = held_out_text()
    return _test([{"text": text[start : start + PIECE]} for start in range(0, 6 * PIECE, PIECE)])


def next_lines(**_: object) -> dict:
    """Which of four lines goes on: the first half of a line, its own second half, and those of three others."""
    lines = _lines()[:160]
    halves = [(" ".join(words[: len(words) // 2]), " " + " ".join(words[len(words) // 2 :])) for words in map(str.split, lines)]
    rows = []
    for number in range(0, 40, 4):
        choices = [halves[number][1], *(halves[40 + number + step][1] for step in (0, 31, 67))]
        right = number % 3
        choices[0], choices[right] = choices[right], choices[0]
        rows.append({"begin": halves[number][0], "choices": choices, "right": right})
    return _test(rows)


def rests(**_: object) -> dict:
    return _test([{"begin": line[: len(line) // 2], "rest": line[len(line) // 2 :]} for line in _lines()[200:230:5]])


def frequent_words(max_seq_lengths: list[int] | None = None, **metadata: object) -> dict:
    """RULER's most frequent words (Hsieh et al., arXiv:2404.06654), as lm_eval generates them, but few, and the same each time."""
    import random

    from lm_eval.tasks.ruler import common_utils, fwe_utils

    tokenizer = common_utils.get_tokenizer(str(metadata["pretrained"]))
    random.seed(0)
    return _test([row for length in max_seq_lengths or [300] for row in fwe_utils.sys_kwext(tokenizer, length, num_samples=4)])


def found_words(doc: dict, results: list[str]) -> dict[str, float]:
    from lm_eval.tasks.ruler.common_utils import string_match_all

    return {"found": string_match_all([results[0]], [doc["outputs"]])}
