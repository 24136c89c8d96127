"""A checkpoint or bundle as lm_eval's model: what it asks of one is log probabilities of continuations and of texts, and text up to a stop."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from lm_eval import utils
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, postprocess_generated_text
from tqdm import tqdm

from firsttoken.bundle.manifest import MANIFEST_FILE
from firsttoken.chat import read_template, render
from firsttoken.errors import FirstTokenError
from firsttoken.evaluate.subject import Subject
from firsttoken.prove.divergence import log_softmax
from firsttoken.run.generate import Statistics, complete
from firsttoken.run.sampling import Sampler
from firsttoken.run.thinking import Thinking

DRAWING = ("temperature", "top_k", "top_p", "min_p")  # of `Sampler`; what else a task asks of generation is refused by name
ONE = ("1", "auto", "None")


class FirstTokenLM(TemplateLM):
    """One checkpoint, with PyTorch in FP32, or one bundle, in its own runtime; one request at a time on this machine's CPU.

    ``bundle`` is a bundle folder, ``pretrained`` what `firsttoken evaluate` takes for a checkpoint. ``max_length`` tokens of a request count (default: the cache), ``prefix_token_id`` begins a text without context (default: the begin token, else an end
    token), ``seed`` starts the random numbers of tasks that draw, ``max_thinking`` ends a reasoner's thinking at ``thinking_end``. Raises `FirstTokenError`.
    """

    def __init__(
        self,
        bundle: str | None = None,
        pretrained: str | None = None,
        threads: int | None = None,
        max_length: int | None = None,
        prefix_token_id: int | None = None,
        seed: int = 0,
        max_thinking: int | None = None,
        thinking_end: str = "</think>",
        batch_size: int | str | None = 1,
        max_batch_size: int | None = None,
        device: str | None = None,
        **unknown: object,
    ) -> None:
        super().__init__()
        if unknown or (bundle is None) == (pretrained is None):
            what = (
                f"unknown {', '.join(sorted(unknown))}" if unknown else "no model" if bundle is None else "bundle and pretrained together"
            )
            raise FirstTokenError(
                f"--model_args: {what}; expected bundle=FOLDER or pretrained=CHECKPOINT, and threads, max_length, prefix_token_id, seed, max_thinking or thinking_end"
            )
        if str(batch_size) not in ONE:
            raise FirstTokenError(f"batch_size {batch_size}; expected 1: requests go one by one through a runtime of phones")
        if device not in (None, "cpu"):  # lm_eval's command names a GPU where nobody asked for one
            logging.getLogger(__name__).info("device %s: not used, firsttoken computes on the CPU", device)
        if bundle is not None and not (Path(bundle) / MANIFEST_FILE).exists():
            raise FirstTokenError(f"bundle={bundle}: is no bundle; give a checkpoint as pretrained=")
        self.subject = Subject(str(pretrained if bundle is None else bundle), threads)
        facts = self.subject.manifest
        if max_length is not None and not 2 <= max_length <= self.subject.cache_length:
            raise FirstTokenError(f"max_length {max_length}; expected 2 to {self.subject.cache_length}, the tokens that the cache holds")
        self.max_length = self.subject.cache_length if max_length is None else max_length
        self.thinking = None if max_thinking is None else Thinking(max_thinking, end=str(thinking_end))
        if self.thinking is not None:
            self.thinking.budget(self.subject.tokenizer)  # refused before anything is computed
        self.seed, self._prefix, self._end = seed, prefix_token_id, facts.tokenizer.end
        self._context: list[int] = []  # whose rows are in the cache
        self._logits: np.ndarray | None = None  # after them

    @property
    def eot_token_id(self) -> int:
        if not self._end:
            raise FirstTokenError(f"{self.subject.folder}: names no end token; give --model_args prefix_token_id=N")
        own = self.subject.tokenizer.token_id(self.subject.tokenizer.settings.get("eos_token"))
        return own if own in self._end else self._end[0]

    @property
    def prefix_token_id(self) -> int:
        if self._prefix is not None:
            return self._prefix
        begin = self.subject.tokenizer.begin_token
        return self.eot_token_id if begin is None else begin

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: object) -> list[int]:
        begin = self.subject.tokenizer.begin
        written = begin is not None and string.startswith(self.subject.tokenizer.decode([begin], special=True))
        return self.subject.tokenizer.encode(string, begin=not written if add_special_tokens is None else add_special_tokens)

    def _loglikelihood_tokens(
        self, requests: Iterable[tuple[Any, list[int], list[int]]], disable_tqdm: bool = False, **_: object
    ) -> list[tuple[float, bool]]:
        """The sum of the log probabilities (nats) of each continuation's tokens, and whether each was the most likely one."""
        scores = []
        for texts, context, continuation in tqdm(list(requests), disable=disable_tqdm, desc="loglikelihood"):
            scores.append(self._score(context, continuation))
            if texts is not None:
                self.cache_hook.add_partial("loglikelihood", texts, scores[-1])
        return scores

    def _score(self, context: list[int], continuation: list[int]) -> tuple[float, bool]:
        if len(continuation) > self.max_length:
            raise FirstTokenError(
                f"a continuation of {len(continuation)} tokens; expected {self.max_length} at most, the model's max_length"
            )
        tokens = [*context, *continuation][-(self.max_length + 1) :]  # the beginning is left out, as lm_eval's hf model does
        start = len(tokens) - len(continuation)
        logits, total, greedy = self._after(tokens[:start]), 0.0, True
        for place in range(start, len(tokens)):
            usable = logits[: self.subject.vocabulary]
            total += float(log_softmax(usable)[tokens[place]])
            greedy &= int(usable.argmax()) == tokens[place]
            if place + 1 < len(tokens):
                logits = self.subject.runner.decode(tokens[place])
        return total, greedy

    def _after(self, context: list[int]) -> np.ndarray:
        """Logits after ``context``. Choices of one question share it: its rows are kept, and so no number depends on the order."""
        runner = self.subject.runner
        known = self._logits
        if known is None or context != self._context or runner.keep_prefix([*context, 0]) != len(context):
            runner.reset()
            self._logits = known = runner.prefill(context).copy()
            self._context = context
        return known

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """The log probability (nats) of each whole text, in windows of ``max_length`` tokens."""
        totals = []
        for request in tqdm(requests, disable=disable_tqdm, desc="loglikelihood_rolling"):
            [text] = request.args
            windows = utils.get_rolling_token_windows(self.tok_encode(text), self.prefix_token_id, self.max_length, 1)
            totals.append(sum(self._score(*utils.make_disjoint_window(window))[0] for window in windows))
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), totals[-1])
        return totals

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """What the model writes after each context, up to the first of the task's stop texts."""
        written = []
        for number, request in enumerate(tqdm(requests, disable=disable_tqdm, desc="generate_until")):
            context, asked = request.args
            wanted = normalize_gen_kwargs(asked, 256)
            stops = [stop for stop in handle_stop_sequences(wanted.pop("until", None), None) if stop]
            most = wanted.pop("max_gen_toks")
            draws = wanted.pop("do_sample")
            drawing = {name: wanted.pop(name) for name in DRAWING if name in wanted}
            if wanted:
                raise FirstTokenError(
                    f"the task asks for {', '.join(sorted(wanted))} when generating; expected {', '.join(DRAWING)}, until and max_gen_toks"
                )
            if most >= self.max_length:
                raise FirstTokenError(
                    f"the task asks for {most} new tokens, and max_length is {self.max_length}; give --gen_kwargs max_gen_toks=N"
                )
            tokens = self.tok_encode(context)[-(self.max_length - most) :]
            sampler = Sampler(self.subject.vocabulary, seed=self.seed * 1_000_003 + number, **drawing if draws else {})
            text = self._write(tokens, sampler, most, stops)
            written.append(postprocess_generated_text(text, stops, None if self.thinking is None else self.thinking.end))
            self.cache_hook.add_partial("generate_until", (context, asked), written[-1])
        return written

    def _write(self, tokens: list[int], sampler: Sampler, most: int, stops: list[str]) -> str:
        runner, text, self._logits = self.subject.runner, "", None
        runner.reset()
        budget = None if self.thinking is None else self.thinking.budget(self.subject.tokenizer)
        pieces: Iterator[str] = complete(
            runner, self.subject.tokenizer, lambda: tokens, sampler, most, frozenset(self._end), Statistics(), budget=budget
        )
        with closing(pieces):  # type: ignore[type-var]  # it is a generator
            for piece in pieces:
                text += piece
                answer = text if self.thinking is None else text.rpartition(self.thinking.end)[2] if self.thinking.end in text else ""
                if any(stop in answer for stop in stops):
                    break
        return text

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The text of a conversation, by the template that lies beside the model. Raises `FirstTokenError` where there is none."""
        template = self._template()
        if not add_generation_prompt:
            raise FirstTokenError(
                "a task begins the assistant's answer (gen_prefix), which no template of a bundle writes; leave out --apply_chat_template"
            )
        return render(template, chat_history, self.subject.tokenizer.settings)

    def _template(self) -> str:
        template = read_template(self.subject.folder, self.subject.tokenizer.settings)
        if template is None:
            raise FirstTokenError(f"{self.subject.folder}: has no chat template; leave out --apply_chat_template")
        return template

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        return self._template() if chat_template else None

    @property
    def tokenizer_name(self) -> str:
        return f"{self.subject.name}-{self.subject.fingerprint}".replace("/", "__")
