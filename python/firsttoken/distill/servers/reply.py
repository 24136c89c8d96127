"""What a server said to a chat request, checked: texts, thoughts, why each ended, and how many tokens it counts."""

from dataclasses import dataclass
from typing import Any

from firsttoken.distill.records import THOUGHTS
from firsttoken.distill.servers.connection import AgainError

ENDS = {"stop": "end", "length": "length"}  # by the names of `distill generate`


@dataclass(frozen=True)
class Answer:
    """One sample. ``tokens`` is None where a reply of several samples counts them together."""

    text: str
    thought: str
    stopped: str
    tokens: int | None


@dataclass(frozen=True)
class Reply:
    """A server's reply to one request; tokens are None where it does not count them."""

    answers: tuple[Answer, ...]
    model: str
    tokens_in: int | None
    tokens_out: int | None


def read_reply(value: dict[str, Any], asked: int) -> Reply:
    """Reads a chat completion of at most ``asked`` samples. Raises `AgainError` for one that holds no answer, or not in the usual form."""
    choices = value.get("choices")
    if not isinstance(choices, list) or not choices:
        raise AgainError("answered without choices")
    usage = value["usage"] if isinstance(value.get("usage"), dict) else {}
    tokens_in, tokens_out = (_count(usage.get(name)) for name in ("prompt_tokens", "completion_tokens"))
    answers = tuple(_answer(choice, tokens_out if len(choices) == 1 else None) for choice in choices[:asked])
    model = value.get("model")
    return Reply(answers, model if isinstance(model, str) else "", tokens_in, tokens_out)


def _answer(choice: Any, tokens: int | None) -> Answer:
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        raise AgainError("answered with a choice that has no message")
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(part.get("text", "") for part in content if isinstance(part, dict) and isinstance(part.get("text"), str))
    thought = next((message[name] for name in THOUGHTS if isinstance(message.get(name), str) and message[name].strip()), "")
    if content is not None and not isinstance(content, str):
        raise AgainError(f"answered with content that is {type(content).__name__}, expected text")
    ended = choice.get("finish_reason")
    if not isinstance(ended, str):
        raise AgainError("answered with a choice that has no finish_reason: it is not whole")
    return Answer(content or "", thought, ENDS.get(ended, ended), tokens)


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def joined(events: list[dict[str, Any]]) -> dict[str, Any]:
    """A stream's pieces as the one object that the same request without a stream is answered with.

    Raises `AgainError` where a choice has no ``finish_reason``, so was cut off.
    """
    found: dict[int, dict[str, Any]] = {}
    usage, model = None, ""
    for event in events:
        model = event.get("model") or model
        usage = event.get("usage") or usage
        pieces = event.get("choices")
        for piece in pieces if isinstance(pieces, list) else ():
            if not isinstance(piece, dict) or not isinstance(piece.get("index", 0), int):
                raise AgainError("streams a choice that is not in the usual form")
            choice = found.setdefault(piece.get("index", 0), {"message": {}, "finish_reason": None})
            delta = piece.get("delta")
            for name in ("content", *THOUGHTS):
                if isinstance(delta, dict) and isinstance(delta.get(name), str):
                    choice["message"][name] = choice["message"].get(name, "") + delta[name]
            choice["finish_reason"] = piece.get("finish_reason") or choice["finish_reason"]
    if any(choice["finish_reason"] is None for choice in found.values()):
        raise AgainError("its stream ended in the middle of an answer")
    return {"choices": [found[index] for index in sorted(found)], "usage": usage, "model": model}
