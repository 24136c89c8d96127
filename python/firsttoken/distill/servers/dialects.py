"""What servers have beside OpenAI's interface: their tokens, and their log probabilities of a given text.

vLLM answers ``prompt_logprobs`` of ``/v1/completions`` with one entry a token of the prompt: none for the first, then
``{token id: {"logprob", "rank", "decoded_token"}}`` of the likeliest tokens in its place and of the token itself. llama.cpp's own ``/completion`` gives
the likeliest tokens behind a prompt (``n_probs``) by their ids, so it is asked once a position; it keeps the prompt's cache from one to the next.

Not taken is what other servers make of ``echo`` with ``logprobs``: it names tokens by their text, which several share, and llama-cpp-python 0.3.36
puts behind each token what belongs before it.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from firsttoken.distill.servers.connection import AgainError, Connection, RefusedError
from firsttoken.errors import FirstTokenError

Row = dict[int, float]  # log probabilities by token id


class Dialect(ABC):
    """What one kind of server is asked, by token ids alone."""

    name: str

    @abstractmethod
    async def tokens(self, connection: Connection, model: str, text: str) -> list[int]:
        """The server's tokens of a text, special ones read as such, none added."""

    @abstractmethod
    async def text(self, connection: Connection, model: str, tokens: list[int]) -> str:
        """The server's text of tokens."""

    @abstractmethod
    async def rows(self, connection: Connection, model: str, tokens: list[int], places: Sequence[int], k: int) -> list[Row]:
        """At least the ``k`` likeliest tokens behind ``tokens[: place + 1]`` for each place, all below the last token."""


class Vllm(Dialect):
    """vLLM's server. Read in its source, not run: there is no build of it for machines like the one that this was written on."""

    name = "vllm"

    async def tokens(self, connection: Connection, model: str, text: str) -> list[int]:
        body = {"model": model, "prompt": text, "add_special_tokens": False}
        return _ids((await connection.post(f"{connection.server.root}/tokenize", body)).get("tokens"))

    async def text(self, connection: Connection, model: str, tokens: list[int]) -> str:
        return _text(await connection.post(f"{connection.server.root}/detokenize", {"model": model, "tokens": tokens}), "prompt")

    async def rows(self, connection: Connection, model: str, tokens: list[int], places: Sequence[int], k: int) -> list[Row]:
        body = {
            "model": model,
            "prompt": tokens,
            "max_tokens": 1,
            "prompt_logprobs": k,
            "add_special_tokens": False,
            "return_token_ids": True,
        }
        return self.read(await connection.post(f"{connection.server.url}/completions", body), tokens, places)

    @staticmethod
    def read(value: dict[str, Any], tokens: list[int], places: Sequence[int]) -> list[Row]:
        """The rows of a completion with ``prompt_logprobs``. Raises `RefusedError` for what is not in vLLM's form, or of other tokens."""
        choices = value.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
        given = choice.get("prompt_logprobs", value.get("prompt_logprobs"))
        if given is None:
            raise RefusedError("answers without prompt_logprobs; is it vLLM, and do its settings allow them?")
        echoed = choice.get("prompt_token_ids")
        if echoed is not None and echoed != tokens:
            raise RefusedError("changed the tokens of the prompt")
        if not isinstance(given, list) or len(given) != len(tokens):
            raise RefusedError(
                f"gives log probabilities of {len(given) if isinstance(given, list) else 'no'} tokens, and {len(tokens)} were asked for"
            )
        return [Vllm._row(given[place + 1], tokens[place + 1]) for place in places]

    @staticmethod
    def _row(entry: Any, following: int) -> Row:
        try:
            row = {int(token): float(facts["logprob"]) for token, facts in entry.items()}
        except (AttributeError, KeyError, TypeError, ValueError):
            raise RefusedError("gives prompt_logprobs that are not in vLLM's form") from None
        if following not in row:
            raise RefusedError(f"gives log probabilities in another place: token {following}, which stands there, is not among them")
        return row


class LlamaCpp(Dialect):
    """llama.cpp's own server, ``llama-server``."""

    name = "llamacpp"

    async def tokens(self, connection: Connection, model: str, text: str) -> list[int]:
        body = {"content": text, "add_special": False, "parse_special": True}
        return _ids((await connection.post(f"{connection.server.root}/tokenize", body)).get("tokens"))

    async def text(self, connection: Connection, model: str, tokens: list[int]) -> str:
        return _text(await connection.post(f"{connection.server.root}/detokenize", {"tokens": tokens}), "content")

    async def rows(self, connection: Connection, model: str, tokens: list[int], places: Sequence[int], k: int) -> list[Row]:
        return [await self._row(connection, model, tokens[: place + 1], k) for place in places]

    async def _row(self, connection: Connection, model: str, tokens: list[int], k: int) -> Row:
        body = {"model": model, "prompt": tokens, "n_predict": 1, "n_probs": k, "cache_prompt": True, "post_sampling_probs": False}
        value = await connection.post(f"{connection.server.root}/completion", body)
        if value.get("tokens_evaluated") != len(tokens) or value.get("truncated"):
            raise RefusedError(
                f"read {value.get('tokens_evaluated')} tokens of a prompt of {len(tokens)}; start it with a longer context (-c)"
            )
        given = value.get("completion_probabilities")
        try:
            return {one["id"]: float(one["logprob"]) for one in given[0]["top_logprobs"]} if given else {}
        except (KeyError, TypeError, ValueError, IndexError):
            raise RefusedError("gives completion_probabilities that are not in llama.cpp's form") from None


DIALECTS: dict[str, Dialect] = {each.name: each for each in (Vllm(), LlamaCpp())}


def dialect_of(url: str, owner: str) -> Dialect:
    """The dialect of a server by the ``owned_by`` of its models. Raises `FirstTokenError` for one that gives no log probabilities by token id."""
    if owner not in DIALECTS:
        raise FirstTokenError(
            f"{url}: its models are owned by {owner!r}, and log probabilities of a given text by token id are known of vLLM (owned_by 'vllm') and "
            "llama.cpp's llama-server ('llamacpp'); serve the teacher with one of them, or let it write answers with `firsttoken distill generate`"
        )
    return DIALECTS[owner]


def check_row(row: Row, k: int, vocabulary: int) -> None:
    """Raises `RefusedError` for what is no distribution at temperature 1 over a vocabulary of so many tokens."""
    if len(row) < k:
        raise RefusedError(
            f"gives {len(row)} tokens in the place of {k}; ask for fewer with --top, or raise its own limit (vLLM: --max-logprobs)"
        )
    stranger = next((token for token in row if not 0 <= token < vocabulary), None)
    if stranger is not None:
        raise RefusedError(f"gives token {stranger}, and the student's tokenizer ends at {vocabulary - 1}")
    total = math.fsum(math.exp(min(value, 50.0)) for value in row.values())
    if not total <= 1.001:
        raise RefusedError(f"gives probabilities that sum to {total:.4g}: no log probabilities (vLLM: --logprobs-mode raw_logprobs)")


def _ids(value: Any) -> list[int]:
    if not isinstance(value, list) or not all(isinstance(token, int) for token in value):
        raise AgainError("answered with no tokens")
    return value


def _text(value: dict[str, Any], name: str) -> str:
    if not isinstance(value.get(name), str):
        raise AgainError("answered with no text of tokens")
    return str(value[name])
