"""Answers that a teacher writes, as training data: one JSON line a prompt, resumable, each line a function of the seed."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from firsttoken import plain_file
from firsttoken.atomic_file import write_text
from firsttoken.chat import read_template, render
from firsttoken.checkpoint import Checkpoint, read_json
from firsttoken.checkpoint_sources.open import checkpoint_folder
from firsttoken.distill.batched_answers import Answer, answer_all, check_batch
from firsttoken.distill.compute_time import refuse_days
from firsttoken.distill.models import load_decoder, need_transformers, parameters_of
from firsttoken.distill.placing import named_device, training_device
from firsttoken.distill.work_folder import first_difference, shorten
from firsttoken.errors import FirstTokenError
from firsttoken.evaluate.livecodebench import PRIVATE
from firsttoken.json_lines import append_line, json_lines
from firsttoken.progress import Report, silent
from firsttoken.run.sampling import Sampler
from firsttoken.run.thinking import ThinkingBudget, make_budget
from firsttoken.tokenizer import Tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class AnswerSettings:
    """How the teacher answers. ``temperature`` 0 takes the most likely token; thinking bounds are in tokens."""

    max_tokens: int = 512
    temperature: float = 0.0
    seed: int = 0
    raw: bool = False  # continue the prompt without the chat template
    thinking_end: str | None = None
    max_thinking: int | None = None
    min_thinking: int = 0
    ignore_end: int = 0
    wait: str = "Wait"


@dataclass(frozen=True)
class Placing:
    """How the teacher is run: ``batch`` prompts at once, its type of weights and its device; what it says is the same up to rounding."""

    batch: int = 1
    dtype: str = "float32"
    device: str = "auto"
    however_long: bool = False


def generate(
    teacher: str | Path,
    prompts: str | Path,
    output: str | Path,
    settings: AnswerSettings = AnswerSettings(),
    report: Report = silent,
    placing: Placing = Placing(),
) -> int:
    """Writes ``{"prompt", "answer", "stopped", "tokens", …}`` for every line of ``prompts`` (JSONL with ``prompt``).

    Goes on after the last whole line of an interrupted run with the same teacher, prompts and settings, which
    ``OUTPUT.json`` keeps. Other fields of a prompt (``domain``, a reference answer …) are carried over, but LiveCodeBench's private tests. Returns how many
    lines there are. Raises `FirstTokenError`.
    """
    need_transformers()
    output, lines = Path(output), read_prompts(Path(prompts))
    folder = checkpoint_folder(teacher, report)
    tokenizer = Tokenizer(folder)
    template = None if settings.raw else read_template(tokenizer.folder, tokenizer.settings)
    if template is None and not settings.raw:
        raise FirstTokenError(f"{teacher}: has no chat template; --raw continues the prompts as they are")
    budget_asked = settings.max_thinking is not None or settings.min_thinking or settings.ignore_end
    if budget_asked and settings.thinking_end is None:
        raise FirstTokenError("a thinking budget needs --thinking-end, the token that ends thinking, such as </think>")
    budget_of(tokenizer, settings)  # what is wrong with it is said before anything is written
    done = reopen(output, folder, lines, settings, placing.dtype)
    if done == len(lines):
        return done
    model = open_model(folder, placing)
    check_batch(model, placing.batch)
    if model.device.type == "cpu" and not placing.however_long:
        refuse_days(
            2.0 * parameters_of(model) * settings.max_tokens * (len(lines) - done),
            f"{len(lines) - done:,} answers of up to {settings.max_tokens} tokens",
        )
    stops = frozenset(tokenizer.end_tokens())
    for first in range(done, len(lines), placing.batch):
        numbers = range(first, min(first + placing.batch, len(lines)))
        answers = []
        for number in numbers:
            prompt = lines[number]["prompt"]
            text = prompt if template is None else render(template, [{"role": "user", "content": prompt}], tokenizer.settings)
            # a seed of its own for every line, so that going on gives what one run gives
            sampler = Sampler(tokenizer.vocab_size, settings.temperature, settings.seed * 1_000_003 + number)
            answers.append(Answer(tokenizer.encode(text, begin=template is None), sampler, budget_of(tokenizer, settings)))
        answer_all(model, answers, stops, settings.max_tokens)
        for number, answer in zip(numbers, answers, strict=True):
            asked = {name: value for name, value in lines[number].items() if name != PRIVATE}
            write_line(output, number, {**asked, **line_of(answer, tokenizer)})
            report("answering", number + 1, len(lines), "prompts")
    return len(lines)


def open_model(folder: Path, placing: Placing) -> PreTrainedModel:
    """The teacher, frozen, on its device. Raises `FirstTokenError`."""
    where = training_device() if placing.device == "auto" else named_device(placing.device, "--device")
    model = load_decoder(folder, dtype=placing.dtype).requires_grad_(False)
    return model.to(where)  # type: ignore[arg-type]  # transformers wraps it without its types


def budget_of(tokenizer: Tokenizer, settings: AnswerSettings) -> ThinkingBudget | None:
    """The thinking budget of one answer, where there is one."""
    if not settings.thinking_end:
        return None
    return make_budget(tokenizer, settings.thinking_end, settings.wait, settings.max_thinking, settings.min_thinking, settings.ignore_end)


def line_of(answer: Answer, tokenizer: Tokenizer) -> dict:
    """What is written of an answer."""
    budget = answer.budget
    extra = {"thinking_tokens": budget.thought, "ends_ignored": budget.ignored} if budget else {}
    text = tokenizer.decode(answer.tokens, special=budget is not None)
    return {"answer": text, "stopped": answer.stopped, "tokens": len(answer.tokens), **extra}


def write_line(output: Path, number: int, line: dict) -> None:
    """Appends a line. Raises `FirstTokenError` where the disk is full."""
    try:
        append_line(output, line)
    except OSError as error:
        raise FirstTokenError(
            f"output {output}: answer {number + 1} cannot be written ({error.strerror}); free space and run the same command again, it goes on"
        ) from None


def read_prompts(path: Path) -> list[dict]:
    """Reads JSONL with a ``prompt`` in every line. Raises `FirstTokenError` naming the line."""
    lines = []
    for number, value in json_lines(path):
        if not isinstance(value.get("prompt"), str):
            raise FirstTokenError(f'{path}, line {number}: expected a JSON object with "prompt"')
        lines.append(value)
    if not lines:
        raise FirstTokenError(f'{path}: holds no prompts; expected lines of {{"prompt": "…"}}')
    return lines


def reopen(output: Path, teacher: Path, lines: list[dict], settings: AnswerSettings, dtype: str = "float32") -> int:
    """Returns how many answers an earlier run finished, with a half-written last line cut off. Raises `FirstTokenError`."""
    import hashlib

    with Checkpoint(teacher) as checkpoint:
        identity = {
            "teacher": checkpoint.fingerprint(),
            "prompts": hashlib.sha256(json.dumps(lines, sort_keys=True).encode()).hexdigest(),
            "settings": asdict(settings),
            **({} if dtype == "float32" else {"dtype": dtype}),  # files of before have none
        }
    beside = output.with_name(f"{output.name}.json")
    if output.exists() and not beside.exists():
        raise FirstTokenError(f"output {output}: exists, and not from this command; choose another with -o")
    if not output.exists():
        if not output.parent.is_dir():
            raise FirstTokenError(f"output {output}: folder {output.parent} does not exist; make it or choose another with -o")
        write_text(beside, json.dumps(identity, indent=1) + "\n")
        output.touch()
        return 0
    changed = first_difference(read_json(beside, ""), identity)
    if changed:
        where, before, now = changed
        raise FirstTokenError(
            f"output {output}: was begun with {where} = {shorten(before)}, now it is {shorten(now)}; put it back to go on, or choose another with -o"
        )
    try:
        raw = plain_file.read_bytes(output, plain_file.TEXT_BYTES)
    except OSError as error:
        raise FirstTokenError(f"output {output}: cannot be read ({plain_file.why(error)}); choose another with -o") from None
    whole = raw[: raw.rfind(b"\n") + 1]
    if len(whole) < len(raw):
        os.truncate(output, len(whole))
    return whole.count(b"\n")
