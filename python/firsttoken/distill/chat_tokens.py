"""A chat as what a model is trained on: the prompt as it is asked with, the assistant's text, and the token that ends it.

Templates of reasoning models show an answer in two ways: as the last of a chat with its thoughts, as an earlier one without; some never
show thoughts at all, and some open them in the prompt. So nothing is trained that was not looked at: the assistant's text has to be in it.
Where a template shows it after the prompt, what the template writes is taken, otherwise the text itself with the template's own ending.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from firsttoken.chat import template_values
from firsttoken.errors import FirstTokenError
from firsttoken.safe_text import visible
from firsttoken.template_process import rendered_chats
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


@dataclass(frozen=True)
class Chat:
    """The turns of a chat, the tools that could be called in it, and where it is from."""

    messages: list[dict]
    source: str
    tools: list | None = None


@dataclass
class _Piece:
    """Text that is laid out in parts; of each, whether the assistant says it, and how many tokens at its end are not learned all the same."""

    text: str = ""
    parts: list[tuple[str, bool, int]] = field(default_factory=list)
    ended: bool = False

    def add(self, answer: Answer, ends: _Ends) -> None:
        behind = ends.behind(answer.ending)
        self.ended = behind is not None
        self.add_other(answer.prompt)
        self.parts.append((answer.said + answer.ending, True, behind or 0))
        self.text += answer.said + answer.ending

    def add_other(self, whole: str) -> None:
        """Adds what ``whole`` has beyond the text so far, of which nothing is learned."""
        self.parts.append((whole[len(self.text) :], False, 0))
        self.text = whole


class _Ends:
    """Where endings end an answer: with their first special token. Endings are few, and asked for again and again."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer, self._known = tokenizer, dict[str, int | None]()

    def behind(self, ending: str) -> int | None:
        """How many tokens ``ending`` has behind its first special one; None where it has none."""
        if ending not in self._known:
            tokens = self.tokenizer.encode(ending, begin=False)
            specials = set(self.tokenizer.special.values())
            self._known[ending] = next((len(tokens) - place - 1 for place, token in enumerate(tokens) if token in specials), None)
        return self._known[ending]


def chat_tokens(messages: list[dict], template: str, tokenizer: Tokenizer, source: str, tools: list | None = None) -> list[Spoken]:
    """The same of one chat."""
    [pieces] = chats_tokens([Chat(messages, source, tools)], template, tokenizer)
    return pieces


def chats_tokens(chats: Sequence[Chat], template: str, tokenizer: Tokenizer) -> list[list[Spoken]]:
    """Returns each chat as one piece, or as several where the template writes earlier turns otherwise once there are later ones: then each answer
    is trained behind the prompt that a conversation would have, and no answer twice.

    Counted are the assistant's text and the token that ends it. Raises `FirstTokenError` naming the chat's source for a template that fails, or
    where an answer has no end.
    """
    ends = _Ends(tokenizer)
    laid = [_laid_out(chat, texts, tokenizer, ends) for chat, texts in zip(chats, _written(chats, template, tokenizer), strict=True)]
    tokens = iter(tokenizer.encode_many([text for pieces in laid for piece in pieces for text, _, _ in piece.parts]))
    found: list[list[Spoken]] = []
    for pieces in laid:
        found.append([])
        for piece in pieces:
            whole, counted = list[int](), list[bool]()
            for _, said, behind in piece.parts:
                part = next(tokens)
                whole += part
                counted += [said] * (len(part) - behind) + [False] * behind
            found[-1].append(Spoken(whole, counted, piece.ended))
    return found


def _asked(messages: list[dict]) -> list[tuple[int, bool]]:
    """What is rendered of a chat: before each answer with the prompt for it, with it, and at last all."""
    answers = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
    asked = [each for number in answers for each in ((number, True), (number + 1, False))]
    return asked if messages[-1]["role"] == "assistant" else [*asked, (len(messages), False)]


def _written(chats: Sequence[Chat], template: str, tokenizer: Tokenizer) -> list[dict[tuple[int, bool], str]]:
    values = template_values([], tokenizer.settings)
    wanted = [_asked(chat.messages) for chat in chats]
    given = [{"messages": chat.messages, "tools": chat.tools, "asked": asked} for chat, asked in zip(chats, wanted, strict=True)]
    found = []
    for chat, asked, texts in zip(chats, wanted, rendered_chats(template, values, given), strict=True):
        if isinstance(texts, dict):
            raise FirstTokenError(f"{chat.source}: the chat template cannot be rendered ({visible(texts['error'])}); give another one with tokenizer = … in the recipe")  # fmt: skip
        found.append(dict(zip(asked, texts, strict=True)))
    return found


def _laid_out(chat: Chat, written: dict[tuple[int, bool], str], tokenizer: Tokenizer, ends: _Ends) -> list[_Piece]:
    pieces: list[_Piece] = []
    for number, message in enumerate(chat.messages):
        if message["role"] == "assistant":
            answer = _answer(message, written[number, True], written[number + 1, False], tokenizer, chat.source, ends)
            if not pieces or not answer.prompt.startswith(pieces[-1].text):
                pieces.append(_Piece())
            pieces[-1].add(answer, ends)
    if chat.messages[-1]["role"] != "assistant" and (whole := written[len(chat.messages), False]).startswith(pieces[-1].text):
        pieces[-1].add_other(whole)
    return pieces


def _answer(message: dict, prompt: str, shown: str, tokenizer: Tokenizer, source: str, ends: _Ends) -> Answer:
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
    return Answer(prompt, _after(prompt, content), _ending(shown[place + len(final) :], tokenizer, source, ends))


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


def _ending(shown: str, tokenizer: Tokenizer, source: str, ends: _Ends) -> str:
    """What the template writes behind an answer; where that ends nothing, the text of the tokenizer's own end token."""
    if ends.behind(shown) is not None:
        return shown
    known = set(tokenizer.end_tokens())
    text = next((text for text, token in tokenizer.special.items() if token in known), None)
    if text is None:
        raise FirstTokenError(
            f"{source}: neither the chat template nor the tokenizer ends an answer; set eos_token in tokenizer_config.json"
        )
    return text
