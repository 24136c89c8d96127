"""Streaming a completion from a loaded bundle, with the clock that every figure of ours comes from."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from firsttoken.backends.runner import Runner
from firsttoken.bundle.chat_facts import Chat
from firsttoken.conversation import TRIMS, write_conversation
from firsttoken.errors import FirstTokenError
from firsttoken.run.drafting import Draft, check_draft, decoding
from firsttoken.run.lookup import Lookup
from firsttoken.run.sampling import Sampler
from firsttoken.run.thinking import BudgetedDecoding, Thinking, ThinkingBudget
from firsttoken.tokenizer import TextStream, Tokenizer

STOPPED = {"end": "the model ended its answer", "length": "the asked number of tokens is reached", "cache": "the cache is full"}


@dataclass
class Statistics:
    """Counts in tokens; times in nanoseconds unless a name or its text says otherwise.

    The stages from the prompt's text to the first token's text follow each other without a gap: ``tokenize`` (template
    and tokenizer), ``prefill``, ``sample``, ``detokenize``. ``decode`` covers all later tokens.
    """

    prompt_tokens: int = 0
    kept_tokens: int = 0  # of these, that were in the cache already
    new_tokens: int = 0
    tokenize: int = 0
    prefill: int = 0
    sample: int = 0
    detokenize: int = 0
    decode: int = 0
    calls: int = 0  # of the artifact after the first token; with drafts fewer than tokens
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    thinking_tokens: int | None = None  # with a thinking budget
    ends_ignored: int = 0  # ends of thinking that the budget did not take
    draft: Draft | None = None  # where drafts come from
    stopped: Literal["end", "length", "cache"] = "length"

    @property
    def first_token(self) -> float:
        """Seconds to the first token: the stages together (without detokenizing where the answer ended at once)."""
        return (self.tokenize + self.prefill + self.sample + self.detokenize) / 1e9

    def as_run(self) -> dict:
        """The same with the names of a measurement's run (`measure.measurement.Run`), and why it stopped."""
        later = self.new_tokens - 1
        return {
            "prompt_tokens": self.prompt_tokens,
            "new_tokens": self.new_tokens,
            "stages": {"tokenize": self.tokenize, "prefill": self.prefill, "sample": self.sample, "detokenize": self.detokenize},
            "decode": {"tokens": later, "nanoseconds": self.decode} if later > 0 else None,
            "stopped": self.stopped,
            **({"drafts": drafts} if (drafts := self.drafts()) else {}),
            **({} if self.thinking_tokens is None else {"thinking_tokens": self.thinking_tokens, "ends_ignored": self.ends_ignored}),
        }

    @property
    def tokens_per_call(self) -> float:
        """Tokens that a call of the artifact gave, the one that ends an answer too, without the first token; 0 where there was no call."""
        return (self.calls + self.accepted_tokens) / self.calls if self.calls else 0.0

    def drafts(self) -> dict | None:
        """What drafting did, with the names of a measurement's run (`measure.measurement.Drafts`); None without it, or where no call was made."""
        if not self.calls or self.draft is None:
            return None
        return {"calls": self.calls, "drafted_tokens": self.drafted_tokens, "accepted_tokens": self.accepted_tokens}

    @property
    def tokens_per_second(self) -> float:
        """Decoding speed, without the first token; 0 where there was no other."""
        return (self.new_tokens - 1) / (self.decode / 1e9) if self.new_tokens > 1 and self.decode > 0 else 0.0


def encode_prompt(tokenizer: Tokenizer, prompt: str, chat: Chat | None, system: str | None = None) -> list[int]:
    """Returns the tokens of a prompt: one user turn of ``chat``, behind a ``system`` message where there is one, or the text as it is after the begin token.

    The turn is tokenized as a whole, as transformers does; a template writes its own begin token.
    """
    if chat is None:
        return tokenizer.encode(prompt)
    if system:
        if chat.conversation is None:
            raise FirstTokenError("the chat template cannot be written with a system message; leave it out")
        messages = [{"role": "system", "content": system}, {"role": "user", "content": prompt}]
        return tokenizer.encode(write_conversation(chat.conversation, messages), begin=False)
    return tokenizer.encode(chat.prefix.text + TRIMS[chat.trim](prompt) + chat.suffix.text, begin=False)


def kept_system(runner: Runner) -> str | None:
    """The system message that the bundle keeps, if any."""
    return None if runner.prefix is None else runner.prefix.system


def generate(
    runner: Runner,
    tokenizer: Tokenizer,
    prompt: str,
    max_tokens: int = 128,
    temperature: float = 0.0,
    seed: int = 0,
    chat: bool | None = None,
    statistics: Statistics | None = None,
    stop_at_end: bool = True,
    observe: Callable[[Statistics, int], None] | None = None,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    system: str | None = None,
    draft: Draft | None = None,
    thinking: Thinking | None = None,
) -> Iterator[str]:
    """Yields pieces of the completion's text as they become whole; ``statistics`` is filled in on the way.

    ``chat`` says whether the prompt is one user turn of the chat template (None: where the bundle has one). Ends at an
    end token (unless ``stop_at_end`` is false, for measuring), after ``max_tokens`` or with a full cache, as
    ``statistics.stopped`` tells. ``observe`` is called after every token with the statistics and the nanoseconds that
    token took. ``temperature``, ``seed``, ``top_k``, ``top_p`` and ``min_p`` are those of `sampling.Sampler`; ``system`` is the system message (None: that which
    the bundle keeps, if any; empty: none). ``draft`` "lookup" guesses tokens that were said before and checks several in one call (`run.drafting`), which changes no token.
    ``thinking`` bounds how long a reasoner thinks (`run.thinking`); drafts are not made then.
    Raises `FirstTokenError` for a prompt that is empty or longer than the cache, chat without a template, or drafts that the bundle cannot check.
    """
    manifest = runner.manifest
    if max_tokens < 1:
        raise FirstTokenError(f"max_tokens is {max_tokens}; expected at least 1")
    if chat and manifest.chat is None:
        raise FirstTokenError(f"bundle of {manifest.checkpoint.name!r} has no chat template; leave out chat")
    check_draft(runner, draft)
    facts = Statistics() if statistics is None else statistics
    sampler = Sampler(manifest.tokenizer.vocab_size, temperature, seed, top_k, top_p, min_p)
    end = frozenset(manifest.tokenizer.end if stop_at_end else ())
    system = kept_system(runner) if system is None else system
    if draft and thinking is not None:
        raise FirstTokenError("drafts and a thinking budget together; leave one of the two out")
    budget = None if thinking is None else thinking.budget(tokenizer, manifest.chat if chat is not False else None)
    runner.reset()
    yield from complete(
        runner,
        tokenizer,
        lambda: encode_prompt(tokenizer, prompt, manifest.chat if chat is not False else None, system),
        sampler,
        max_tokens,
        end,
        facts,
        observe,
        Lookup() if draft else None,
        budget,
    )


def complete(
    runner: Runner,
    tokenizer: Tokenizer,
    encode: Callable[[], list[int]],
    sampler: Sampler,
    max_tokens: int,
    end: frozenset[int],
    facts: Statistics,
    observe: Callable[[Statistics, int], None] | None = None,
    lookup: Lookup | None = None,
    budget: ThinkingBudget | None = None,
) -> Iterator[str]:
    """Yields the pieces of what follows the tokens that ``encode`` gives; those that the cache begins with are not computed again. Drafts come out of ``lookup``, and a ``budget`` bounds thinking, whose end is shown also where it is a special token.
    The rest as in `generate`."""
    stream, clock = TextStream(tokenizer, budget.shown if budget else {}), time.perf_counter_ns
    steps = decoding(runner, sampler, lookup) if budget is None else BudgetedDecoding(runner, sampler, budget, end)
    begun = clock()
    tokens = encode()
    facts.prompt_tokens = len(tokens)
    encoded = clock()
    facts.kept_tokens = runner.keep_prefix(tokens)
    logits = runner.prefill(tokens[facts.kept_tokens :])
    filled = clock()
    token = steps.first(logits)
    begun_token = clock()
    facts.tokenize, facts.prefill, facts.sample = encoded - begun, filled - encoded, begun_token - filled
    if lookup is not None:
        facts.draft = "lookup"
        lookup.follow(tokens)
    while True:
        if budget is not None:
            facts.thinking_tokens, facts.ends_ignored = budget.thought, budget.ignored
        if token in end:
            facts.stopped = "end"
            break
        piece = stream.add(token)
        facts.new_tokens += 1
        spent = clock() - begun_token
        if facts.new_tokens == 1:
            facts.detokenize = spent
            spent += facts.tokenize + facts.prefill + facts.sample
        else:
            facts.decode += spent
        if observe is not None:
            observe(facts, spent)
        if piece:
            yield piece
        if facts.new_tokens >= max_tokens:
            facts.stopped = "length"
            break
        if runner.position >= runner.cache_length:
            facts.stopped = "cache"
            break
        begun_token = clock()  # after the yield: what the caller does with the text is not ours
        token = steps.after(token)
        facts.calls, facts.drafted_tokens, facts.accepted_tokens = steps.calls, steps.drafted, steps.accepted
    if rest := stream.finish():
        yield rest
