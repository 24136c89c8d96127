"""A conversation of several turns over one cache: a turn computes the tokens that are new since the last one, and no others."""

from collections.abc import Callable, Iterator
from typing import Literal

from firsttoken.backends.runner import Runner
from firsttoken.bundle.chat_facts import Conversation
from firsttoken.conversation import write_conversation
from firsttoken.errors import FirstTokenError
from firsttoken.run.drafting import Draft, check_draft
from firsttoken.run.generate import Statistics, complete, kept_system
from firsttoken.run.lookup import Lookup
from firsttoken.run.sampling import Sampler
from firsttoken.tokenizer import Tokenizer

WhenFull = Literal["stop", "drop"]
ANSWER_SHARE = 4  # a turn leaves a quarter of the cache free for its answer, where fewer tokens are not asked for


class Chat:
    """Messages, and a runner whose cache holds as many of their tokens as they begin with.

    ``messages`` are ``{"role": "system" | "user" | "assistant", "content": text}``: one system message first or none, then questions and answers in
    turn. Without ``system`` it is the message that the bundle keeps, if any; an empty one is none. ``dropped`` counts the turns that were forgotten for room. ``draft`` is `generate`'s. Raises `FirstTokenError` for a bundle whose template no conversation can be written with, and for a system message
    that it does not take, and drafts that it cannot check.
    """

    def __init__(
        self, runner: Runner, tokenizer: Tokenizer, system: str | None = None, when_full: WhenFull = "stop", draft: Draft | None = None
    ) -> None:
        check_draft(runner, draft)
        self.lookup = Lookup() if draft else None
        self.runner, self.tokenizer, self.when_full = runner, tokenizer, when_full
        self.pieces = conversation_of(runner)
        system = kept_system(runner) if system is None else system or None
        if system is not None and self.pieces.open_system is None:
            raise FirstTokenError("the chat template takes no system message; leave it out")
        self.messages: list[dict] = [] if system is None else [{"role": "system", "content": system}]
        self.dropped = 0

    @property
    def turns(self) -> int:
        """Questions that were answered."""
        return sum(message["role"] == "assistant" for message in self.messages)

    def ask(
        self,
        question: str,
        sampler: Sampler,
        max_tokens: int = 256,
        statistics: Statistics | None = None,
        observe: Callable[[Statistics, int], None] | None = None,
    ) -> Iterator[str]:
        """Yields the pieces of the answer, which then is part of the conversation, also where whoever asked stops early.

        Where the cache has no room: "stop" raises `FirstTokenError` and the conversation stays as it was; "drop" forgets the oldest turns, question and
        answer, but the system message. Raises `FirstTokenError` too for a question that alone is too long.
        """
        if max_tokens < 1:
            raise FirstTokenError(f"max_tokens is {max_tokens}; expected at least 1")
        asked = [*self.messages, {"role": "user", "content": question}]
        facts, said = Statistics() if statistics is None else statistics, []
        kept, dropped = asked, 0

        def encode() -> list[int]:
            nonlocal kept, dropped
            tokens, kept, dropped = self._fitted(asked, max_tokens)
            return tokens

        end = frozenset(self.runner.manifest.tokenizer.end)
        try:
            for piece in complete(self.runner, self.tokenizer, encode, sampler, max_tokens, end, facts, observe, self.lookup):
                said.append(piece)
                yield piece
        finally:
            if facts.new_tokens or facts.stopped == "end":
                self.messages = [*kept, {"role": "assistant", "content": "".join(said)}]
                self.dropped += dropped

    def _fitted(self, asked: list[dict], max_tokens: int) -> tuple[list[int], list[dict], int]:
        """The tokens of ``asked``, the messages that these are of, and how many turns were left out of them for room."""
        length, dropped = self.runner.cache_length, 0
        room = min(max_tokens, length // ANSWER_SHARE)
        system = [message for message in asked[:1] if message["role"] == "system"]
        turns = asked[len(system) :]
        while True:
            tokens = self.tokenizer.encode(write_conversation(self.pieces, [*system, *turns]), begin=False)
            if len(tokens) + (room if self.when_full == "drop" else 1) <= length:
                return tokens, [*system, *turns], dropped
            if self.when_full == "drop" and len(turns) > 1:
                turns, dropped = turns[2:], dropped + 1
                continue
            if len(turns) == 1 and len(tokens) < length:  # no turn is left to drop, and a shorter answer fits
                return tokens, [*system, *turns], dropped
            raise FirstTokenError(full(len(tokens), length, len(turns)))


def full(tokens: int, length: int, messages: int) -> str:
    """What to say of a conversation that the cache does not hold."""
    if messages == 1:
        return f"the question has {tokens} tokens with the template, and the cache holds {length}; shorten it, or export with a longer --cache-length"
    return (
        f"the conversation has {tokens} tokens with this question, and the cache holds {length}; begin anew, let the oldest turns go (--when-full drop), "
        "or export with a longer --cache-length"
    )


def conversation_of(runner: Runner) -> Conversation:
    """How the bundle writes a conversation. Raises `FirstTokenError` where it cannot."""
    chat = runner.manifest.chat
    if chat is not None and chat.conversation is not None:
        return chat.conversation
    name = runner.manifest.checkpoint.name
    if chat is None:
        raise FirstTokenError(
            f"bundle of {name!r} has no chat template, so there is no conversation; complete text with `firsttoken generate --raw`"
        )
    why = chat.conversation_refused or "it was exported before firsttoken looked for one; export it again"
    raise FirstTokenError(
        f"bundle of {name!r}: its chat template cannot be written for several turns ({why}); ask single questions with `firsttoken generate`"
    )
