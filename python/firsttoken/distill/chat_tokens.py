"""A chat as what a model is trained on: the prompt as it is asked with, the assistant's text, and the token that ends it.

Templates of reasoning models show an answer in two ways: as the last of a chat with its thoughts, as an earlier one without; some never
show thoughts at all, and some open them in the prompt. So nothing is trained that was not looked at: the assistant's text has to be in it.
Where a template shows it after the prompt, what the template writes is taken, otherwise the text itself with the template's own ending.
"""

from dataclasses import dataclass

from firsttoken.chat import render
from firsttoken.errors import FirstTokenError
from firsttoken.safe_text import visible
from firsttoken.tokenizer import Tokenizer

OPENED, CLOSED = "<think>", "</think>"
NO_THOUGHT = f"\n{CLOSED}\n\n"  # what Qwen3 writes behind an opened thought that is empty


@dataclass(frozen=True)
class Spoken:
    """``tokens``, which of them are the assistant's (``counted``, same length), and whether the last answer has an end token of its own."""

    tokens: list[int]
    counted: list[bool]
    ended: bool


@dataclass(frozen=True)
class Answer:
    """The text that is asked with, what the assistant says after it (calls of tools included), and what ends that with what the template writes behind."""

    prompt: str
    said: str
    ending: str


def chat_tokens(messages: list[dict], template: str, tokenizer: Tokenizer, source: str, tools: list | None = None) -> list[Spoken]:
    """Returns a chat, in which ``tools`` could be called, as one piece, or as several where the template writes earlier turns otherwise once there are later ones: then each answer
    is trained behind the prompt that a conversation would have, and no answer twice.

    Counted are the assistant's text and the token that ends it. Raises `FirstTokenError` naming ``source`` for a template that fails, or
    where an answer has no end.
    """

    def write(until: int, generation: bool) -> str:
        return render(template, messages[:until], tokenizer.settings, add_generation_prompt=generation, tools=tools)

    pieces: list[_Piece] = []
    for number, message in enumerate(messages):
        if message["role"] == "assistant":
            answer = _answer(message, write(number, True), write(number + 1, False), tokenizer, source)
            if not pieces or not answer.prompt.startswith(pieces[-1].text):
                pieces.append(_Piece())
            pieces[-1].add(answer, tokenizer)
    if messages[-1]["role"] != "assistant" and (whole := write(len(messages), False)).startswith(pieces[-1].text):
        pieces[-1].add_other(whole, tokenizer)
    return [Spoken(piece.tokens, piece.counted, piece.ended) for piece in pieces]


class _Piece:
    def __init__(self) -> None:
        self.text, self.ended = "", False
        self.tokens: list[int] = []
        self.counted: list[bool] = []

    def add_other(self, whole: str, tokenizer: Tokenizer) -> None:
        """Adds what ``whole`` has beyond the text so far, and counts none of it."""
        new = tokenizer.encode(whole[len(self.text) :], begin=False)
        self.tokens += new
        self.counted += [False] * len(new)
        self.text = whole

    def add(self, answer: Answer, tokenizer: Tokenizer) -> None:
        self.add_other(answer.prompt, tokenizer)
        new = tokenizer.encode(answer.said + answer.ending, begin=False)
        beyond = _beyond_end(answer.ending, tokenizer)
        self.ended = beyond is not None
        self.tokens += new
        self.counted += [True] * (len(new) - (beyond or 0)) + [False] * (beyond or 0)
        self.text += answer.said + answer.ending


def _beyond_end(ending: str, tokenizer: Tokenizer) -> int | None:
    """How many tokens ``ending`` has behind its first special one; None where it has none."""
    tokens = tokenizer.encode(ending, begin=False)
    specials = set(tokenizer.special.values())
    return next((len(tokens) - place - 1 for place, token in enumerate(tokens) if token in specials), None)


def _answer(message: dict, prompt: str, shown: str, tokenizer: Tokenizer, source: str) -> Answer:
    content, own = message["content"], shown.removeprefix(prompt)
    begun = own != shown or not prompt
    if calls := message.get("tool_calls"):
        end = _end_of_calls(calls, own, tokenizer) if begun and _end_of(content, own) is not None else None
        if end is None:
            raise FirstTokenError(f"{source}: the chat template does not show the tools that the assistant calls behind the prompt; give another template with tokenizer = … in the recipe")  # fmt: skip
        return Answer(prompt, own[:end], own[end:])
    if begun and (end := _end_of(content, own)) is not None:
        return Answer(prompt, own[:end], own[end:])
    final = content.rpartition(CLOSED)[2].strip()
    place = shown.rfind(final)
    if place < 0:
        raise FirstTokenError(
            f"{source}: the chat template does not show what the assistant says ({visible(repr(final), 60)}), so how an answer ends cannot be told; "
            "give another template with tokenizer = … in the recipe"
        )
    return Answer(prompt, _after(prompt, content), _ending(shown[place + len(final) :], tokenizer, source))


def _end_of_calls(calls: list, shown: str, tokenizer: Tokenizer) -> int | None:
    """Where calls of tools end in ``shown``: before the last special token, since some begin with one; None where a tool's name is not there."""
    names = [
        call.get("function", call).get("name") for call in calls if isinstance(call, dict) and isinstance(call.get("function", call), dict)
    ]
    if len(names) < len(calls) or not all(isinstance(name, str) and name in shown for name in names):
        return None
    return max((place for text in tokenizer.special if (place := shown.rfind(text)) >= 0), default=len(shown))


def _end_of(content: str, shown: str) -> int | None:
    """Where the assistant's text ends in ``shown``: its thought and its answer, in this order; None where they are not there."""
    thought, closed, final = content.rpartition(CLOSED)
    end = 0
    for part in (thought.replace(OPENED, "", 1).strip(), closed, final.strip()):
        place = shown.find(part, end)
        if place < 0:
            return None
        end = place + len(part)
    return end


def _after(prompt: str, content: str) -> str:
    """The assistant's text as it follows a prompt, which may have opened the thought already."""
    content = content.strip()
    if not prompt.rstrip().endswith(OPENED):
        return content
    if CLOSED not in content:
        return NO_THOUGHT + content
    return content.removeprefix(OPENED).lstrip("\n")


def _ending(shown: str, tokenizer: Tokenizer, source: str) -> str:
    """What the template writes behind an answer; where that ends nothing, the text of the tokenizer's own end token."""
    if _beyond_end(shown, tokenizer) is not None:
        return shown
    ends = set(tokenizer.end_tokens())
    text = next((text for text, token in tokenizer.special.items() if token in ends), None)
    if text is None:
        raise FirstTokenError(
            f"{source}: neither the chat template nor the tokenizer ends an answer; set eos_token in tokenizer_config.json"
        )
    return text
