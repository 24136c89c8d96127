"""The pieces of chat templates: what they write is what Jinja writes, for families' formats; what they cannot write is refused."""

import random

import pytest
from conversation_templates import INEXPRESSIBLE, SPECIAL, TEMPLATES

from firsttoken.bundle.chat_facts import Chat
from firsttoken.chat import chat_affixes, render
from firsttoken.conversation import ANSWERED, ASKED, chat, find_conversation, probes, write_conversation
from firsttoken.demo import checkpoint_path
from firsttoken.errors import FirstTokenError
from firsttoken.tokenizer import Tokenizer

# Contents that no probe has; put together at random below.
WORDS = [
    "token",
    " ",
    "\n",
    "\t",
    "<think>",
    "</think>",
    "é",
    "日本",
    "{{ x }}",
    "{% if %}",
    "|",
    "</s>",
    "'",
    '"',
    "\\n",
    "\u00a0",
    "\u2003",
    "0",
    ".",
]


def writer(name):
    return lambda messages: render(TEMPLATES[name], messages, SPECIAL)


def content(rng, edge=""):
    return edge + "".join(rng.choice(WORDS) for _ in range(rng.randrange(1, 9))) + "x" + "".join(rng.choice(WORDS) for _ in range(3))


@pytest.mark.parametrize("name", TEMPLATES)
def test_any_conversation_is_written_as_jinja_writes_it(name):
    """Contents never seen, of up to 6 turns: more than were held against the pieces."""
    pieces, refused = find_conversation(writer(name))
    assert refused is None
    rng = random.Random(name)
    for number in range(40):
        asked = [content(rng) for _ in range(1 + number % 6)]
        answered = [content(rng, rng.choice(("", "<think>\n", "\n"))) for _ in asked[1:]]
        system = content(rng) if pieces.open_system is not None and number % 2 else None
        messages = chat(system, asked, answered)
        assert write_conversation(pieces, messages) == writer(name)(messages)


def test_what_the_families_do_is_found():
    found = {name: find_conversation(writer(name))[0] for name in TEMPLATES}
    assert {name for name, pieces in found.items() if pieces.thinking == "cut"} == {"qwen3", "deepseek-r1"}
    assert (found["qwen3"].after_thinking, found["deepseek-r1"].after_thinking) == ("leading_newlines", "none")
    assert {name for name, pieces in found.items() if pieces.open_system is None} == {"gemma2"}
    assert {name for name, pieces in found.items() if pieces.assistant_to_system is not None} == {"mistral-v0.3"}
    assert {found[name].user for name in ("llama3", "llama3.1", "gemma2", "gemma3")} == {"both"}
    assert found["qwen2.5"].open == (
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
    )
    assert found["deepseek-r1"].generation == "<｜Assistant｜><think>\n" and found["deepseek-r1"].user_to_assistant == "<｜Assistant｜>"
    assert found["llama2"].assistant_to_user == " </s><s>[INST] " and found["llama2"].system_to_user == "\n<</SYS>>\n\n"


def test_a_template_without_system_messages_says_so_when_one_is_written():
    pieces, _ = find_conversation(writer("gemma2"))
    with pytest.raises(FirstTokenError, match="takes no system message"):
        write_conversation(pieces, chat("be brief", ["hi"], []))


@pytest.mark.parametrize("name", INEXPRESSIBLE)
def test_what_cannot_be_written_without_jinja_is_refused_with_the_reason(name):
    template, said = INEXPRESSIBLE[name]
    pieces, refused = find_conversation(lambda messages: render(template, messages, SPECIAL))
    assert pieces is None and said in refused


def test_a_template_that_takes_too_long_is_refused(monkeypatch):
    monkeypatch.setattr("firsttoken.conversation.MOST_SECONDS", -1)
    assert find_conversation(writer("phi3")) == (None, "its conversations take more than -1 seconds to render")


def test_the_probes_are_as_many_as_they_claim_and_all_contents_are_in_them():
    held = list(probes(with_system=True))
    assert {(len(messages) + 1) // 2 for messages in held if messages[0]["role"] == "user"} == {1, 2, 3, 4}
    said = {message["content"] for messages in held for message in messages}
    assert said >= {*ASKED, *ANSWERED}


def test_a_manifest_keeps_the_pieces_or_the_reason_and_an_older_one_has_neither():
    """The demo checkpoint's own template, through the manifest's JSON and back."""
    tokenizer = Tokenizer(checkpoint_path())
    chat_facts = chat_affixes(checkpoint_path(), tokenizer)
    kept = Chat.model_validate_json(chat_facts.model_dump_json())
    assert kept.conversation is not None and kept.conversation_refused is None
    assert write_conversation(kept.conversation, chat(None, ["hi"], [])) == kept.prefix.text + "hi" + kept.suffix.text
    older = {name: value for name, value in chat_facts.model_dump().items() if not name.startswith("conversation")}
    assert Chat.model_validate(older).conversation is None
