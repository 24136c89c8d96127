"""Answers that a teacher writes, as training data: one JSON line a prompt, resumable, each line a function of the seed."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from firsttoken import plain_file
from firsttoken.atomic_file import write_text
from firsttoken.chat import read_template, render
from firsttoken.checkpoint import Checkpoint, read_json
from firsttoken.checkpoint_sources.open import checkpoint_folder
from firsttoken.distill.models import load_decoder, need_transformers
from firsttoken.distill.work_folder import first_difference, shorten
from firsttoken.errors import FirstTokenError
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


def generate(
    teacher: str | Path, prompts: str | Path, output: str | Path, settings: AnswerSettings = AnswerSettings(), report: Report = silent
) -> int:
    """Writes ``{"prompt", "answer", "stopped", "tokens", …}`` for every line of ``prompts`` (JSONL with ``prompt``).

    Goes on after the last whole line of an interrupted run with the same teacher, prompts and settings, which
    ``OUTPUT.json`` keeps. Other fields of a prompt (``domain``, a reference answer …) are carried over. Returns how many
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
    if settings.thinking_end is not None:
        make_budget(tokenizer, settings.thinking_end, settings.wait, settings.max_thinking, settings.min_thinking, settings.ignore_end)
    done = reopen(output, folder, lines, settings)
    if done == len(lines):
        return done
    model = load_decoder(folder).requires_grad_(False)
    stops = frozenset(tokenizer.end_tokens())
    for number in range(done, len(lines)):
        prompt = lines[number]["prompt"]
        text = prompt if template is None else render(template, [{"role": "user", "content": prompt}], tokenizer.settings)
        start = tokenizer.encode(text, begin=template is None)
        budget = (
            make_budget(tokenizer, settings.thinking_end, settings.wait, settings.max_thinking, settings.min_thinking, settings.ignore_end)
            if settings.thinking_end
            else None
        )
        # a seed of its own for every line, so that going on gives what one run gives
        sampler = Sampler(tokenizer.vocab_size, settings.temperature, settings.seed * 1_000_003 + number)
        tokens, stopped = answer(model, start, sampler, stops, settings.max_tokens, budget)
        extra = {"thinking_tokens": budget.thought, "ends_ignored": budget.ignored} if budget else {}
        line = {
            **lines[number],
            "answer": tokenizer.decode(tokens, special=budget is not None),
            "stopped": stopped,
            "tokens": len(tokens),
            **extra,
        }
        try:
            append_line(output, line)
        except OSError as error:
            raise FirstTokenError(
                f"output {output}: answer {number + 1} cannot be written ({error.strerror}); free space and run the same command again, it goes on"
            ) from None
        report("answering", number + 1, len(lines), "prompts")
    return len(lines)


@torch.no_grad()
def answer(
    model: PreTrainedModel,
    prompt: list[int],
    sampler: Sampler,
    stops: frozenset[int],
    max_tokens: int,
    budget: ThinkingBudget | None = None,
) -> tuple[list[int], str]:
    """Returns the answer's tokens, without the stop token, and why it ended: ``end``, ``length`` or ``context``."""
    room = model.config.max_position_embeddings - len(prompt)
    if room < 1:
        raise FirstTokenError(
            f"a prompt has {len(prompt)} tokens, but the teacher's positions end at {model.config.max_position_embeddings}; shorten it"
        )
    tokens: list[int] = []
    given, past = prompt, None
    while True:
        out = model(input_ids=torch.tensor([given], device=model.device), past_key_values=past, use_cache=True, logits_to_keep=1)
        past = out.past_key_values
        sampled = sampler.pick(out.logits[0, -1].float().cpu().numpy())
        given = [sampled] if budget is None else budget.next(sampled, stops)
        if given and given[-1] in stops and (budget is None or budget.over):
            return tokens, "end"
        if budget is not None and not given:  # it had no room for the replacement: thinking ends here
            given = budget.next(budget.end)
        for token in given:
            tokens.append(token)
            if len(tokens) >= max_tokens:
                return tokens, "length"
            if len(tokens) >= room:
                return tokens, "context"


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


def reopen(output: Path, teacher: Path, lines: list[dict], settings: AnswerSettings) -> int:
    """Returns how many answers an earlier run finished, with a half-written last line cut off. Raises `FirstTokenError`."""
    import hashlib

    with Checkpoint(teacher) as checkpoint:
        identity = {
            "teacher": checkpoint.fingerprint(),
            "prompts": hashlib.sha256(json.dumps(lines, sort_keys=True).encode()).hexdigest(),
            "settings": asdict(settings),
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
