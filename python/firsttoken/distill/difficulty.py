"""How hard a sample is, in the eyes of a model; `select` leaves the easiest out.

Two measures: the cross-entropy of the answer (a model that knows what comes learns little from it), and s1's own: a sample
that a weaker model already solves is too easy (arXiv:2501.19393, section 2.2).
"""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from firsttoken import plain_file
from firsttoken.atomic_file import check_file_destination, write_text
from firsttoken.distill.documents import encode_document
from firsttoken.distill.records import document_of
from firsttoken.distill.windows import Encoded
from firsttoken.errors import FirstTokenError
from firsttoken.evaluate.subject import Subject
from firsttoken.json_lines import json_lines
from firsttoken.progress import Report, silent

LEAST_LEARNED = 1


def add_difficulty(pool: str | Path, output: str | Path, checkpoint: str | Path, length: int = 1024, report: Report = silent) -> int:
    """Writes the pool's lines, each with ``difficulty``: the mean cross-entropy (nats per token) of what would be learned of it.

    Of a chat, or of a prompt and its answer, that is what the assistant says; of a text, all. Samples are cut to ``length``
    tokens. The checkpoint runs in FP32. An interrupted run goes on with the same output. Returns the number of lines;
    raises `FirstTokenError` naming a line of which nothing would be learned.
    """
    from firsttoken.chat import read_template

    check_file_destination(output, "--output")
    lines = [(number, line) for number, line in json_lines(Path(pool))]
    subject = Subject(checkpoint)
    if subject.kind != "checkpoint":
        raise FirstTokenError(f"--model {checkpoint}: is a bundle; expected a checkpoint")
    template = read_template(subject.folder, subject.tokenizer.settings)
    partial = Path(output).with_name(f"{Path(output).name}.partial")
    known = read_partial(partial, subject.fingerprint, length)
    try:
        with open(partial, "a", encoding="utf-8") as stream:
            for place, (number, line) in enumerate(lines):
                key = f"{number}:{hash_of(line)}"
                if key not in known:
                    pieces = encode_document(document_of(line, Path(pool), number, ""), subject.tokenizer, template, answers_only=True)
                    known[key] = cross_entropy_of(subject, pieces, length, Path(pool), number)
                    stream.write(json.dumps({"key": key, "difficulty": known[key], "model": subject.fingerprint, "length": length}) + "\n")
                    stream.flush()
                report("difficulty", place + 1, len(lines), "samples")
    except OSError as error:
        raise FirstTokenError(
            f"{partial}: cannot be written ({error.strerror}); free space and run the same command again, it goes on"
        ) from None
    rows = [{**line, "difficulty": known[f"{number}:{hash_of(line)}"]} for number, line in lines]
    write_text(output, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    partial.unlink(missing_ok=True)
    return len(rows)


def hash_of(line: dict) -> str:
    """A short fingerprint of a line."""
    import hashlib

    return hashlib.sha256(json.dumps(line, sort_keys=True).encode()).hexdigest()[:16]


def read_partial(path: Path, fingerprint: str, length: int) -> dict[str, float]:
    """Difficulties that an interrupted run of the same model and length left; a half-written last line is dropped."""
    if not path.exists():
        return {}
    found = {}
    try:
        text = plain_file.read_text(path, plain_file.TEXT_BYTES, "replace")
    except OSError as error:
        raise FirstTokenError(f"{path}: cannot be read ({plain_file.why(error)}); remove it to start again") from None
    for line in text.split("\n"):
        try:
            value = plain_file.parse_json(line)
            if value["model"] == fingerprint and value["length"] == length:
                found[str(value["key"])] = float(value["difficulty"])
        except (ValueError, TypeError, KeyError):
            continue
    if text and not text.endswith("\n"):
        write_text(path, text[: text.rfind("\n") + 1])
    return found


def cross_entropy_of(subject: Subject, pieces: list[Encoded], length: int, pool: Path, number: int) -> float:
    """Mean cross-entropy in nats per token over the counted tokens of a sample's pieces, of each at most ``length`` tokens; the first is predicted by nothing."""
    from firsttoken.prove.divergence import log_softmax

    losses: list[float] = []
    for piece in pieces:
        tokens = piece.tokens[:length]
        wanted = np.flatnonzero(np.array(piece.counted[1:length], bool))
        if len(wanted):
            [logits] = subject.logits([np.array(tokens[:-1], np.int32)])
            losses += (-log_softmax(logits[wanted])[np.arange(len(wanted)), np.array(tokens)[wanted + 1]]).tolist()
    if len(losses) < LEAST_LEARNED:
        raise FirstTokenError(
            f"{pool}, line {number}: nothing in its first {length} tokens would be learned; leave it out, or give a larger --length"
        )
    return float(np.mean(losses))


def solved_lines(pool: Path, answers: Iterable[Path]) -> set[int]:
    """Numbers of the pool's lines that a model solved: ``answers`` are files of ``firsttoken distill generate`` on the same prompts.

    A pool's line needs its right answer in ``reference`` (or ``solution``); a final answer that equals it, as
    `evaluate.maths` compares, is solved. Raises `FirstTokenError` for a file that answers none of the pool's prompts.
    """
    from firsttoken.evaluate.maths import extract, same

    right: dict[str, list[tuple[int, str | None]]] = {}  # number and answer of the lines with a prompt
    for number, line in json_lines(pool):
        reference = next((line[key] for key in ("reference", "solution") if isinstance(line.get(key), str)), None)
        if isinstance(line.get("prompt"), str) and reference is not None:
            right.setdefault(line["prompt"], []).append(
                (number, extract(reference) if "boxed" in reference or "####" in reference else reference)
            )
    solved = set()
    for path in answers:
        met = 0
        for _, line in json_lines(path):
            for number, reference in right.get(line.get("prompt", ""), ()):
                met += 1
                if reference and isinstance(line.get("answer"), str) and same(extract(line["answer"]), reference):
                    solved.add(number)
        if not met:
            raise FirstTokenError(
                f'{path}: answers no prompt of {pool} that has a "reference"; give what `firsttoken distill generate` wrote for its prompts'
            )
    return solved
