"""What of a chat is trained, with templates of the families' kinds: every answer once, behind the prompt that it is asked with, with its end."""

import json
import shutil

import pytest
import tokenizers
from conversation_templates import TEMPLATES

from firsttoken.demo import checkpoint_path
from firsttoken.distill.chat_tokens import Chat, chat_tokens, chats_tokens
from firsttoken.distill.documents import encode_document
from firsttoken.distill.records import Document
from firsttoken.distill.windows import pack
from firsttoken.errors import FirstTokenError
from firsttoken.tokenizer import Tokenizer

MARKS = ("<s>", "</s>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>", "<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>",
         "<start_of_turn>", "<end_of_turn>", "<|end|>", "<|user|>", "<|assistant|>", "<|end_of_text|>", "[INST]", "[/INST]")  # fmt: skip
THOUGHT = "<think>\nTwo and two.\n</think>\n\nFour."
ASKED, AGAIN = {"role": "user", "content": "2+2?"}, {"role": "user", "content": "Sure?"}
ONE = [ASKED, {"role": "assistant", "content": THOUGHT}]
TWO = [*ONE, AGAIN, {"role": "assistant", "content": "<think>\nIt is.\n</think>\n\nYes."}]
PLAIN = [ASKED, {"role": "assistant", "content": "Four."}, AGAIN, {"role": "assistant", "content": "Yes."}]
# SmolLM3's way: thoughts stay in the last answer, and earlier ones are shown without
SMOLLM3 = (
    "{% for m in messages %}{% if m.role == 'assistant' %}{{ '<|im_start|>assistant\\n' ~ (m.content if loop.last else m.content.split('</think>')[-1].lstrip('\\n')) ~ '<|im_end|>\\n' }}"
    "{% else %}{{ '<|im_start|>' ~ m.role ~ '\\n' ~ m.content ~ '<|im_end|>\\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
LLAMA, R1 = "<|start_header_id|>{}<|end_header_id|>\n\n", "<s><｜User｜>2+2?<｜Assistant｜>"
CHATML = "<|im_start|>{}\n"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    shutil.copytree(checkpoint_path(), folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.safetensors", "chat_template*"))
    engine = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    engine.add_special_tokens([tokenizers.AddedToken(text, special=True) for text in MARKS])
    engine.save(str(folder / "tokenizer.json"))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"bos_token": "<s>", "eos_token": "</s>"}))
    return Tokenizer(folder)


def told(tokenizer, messages, template):
    """Each piece as (what is asked with, what is learned), alternating, of its decoded tokens."""
    pieces = []
    for piece in chat_tokens(messages, template, tokenizer, "x"):
        assert len(piece.tokens) == len(piece.counted)
        runs, start = [], 0
        for place in range(1, len(piece.tokens) + 1):
            if place == len(piece.tokens) or piece.counted[place] != piece.counted[start]:
                runs.append(tokenizer.decode(piece.tokens[start:place], special=True))
                start = place
        assert not piece.counted[0]
        pieces.append(runs)
    return pieces


def chatml(*turns):
    return "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in turns)


ASK = chatml(("user", "2+2?")) + "<|im_start|>assistant\n"
CASES = {
    # thoughts are cut from every answer, and the prompt opens one: the answer is the text itself behind the prompt
    "r1, one answer": ("deepseek-r1", ONE, [[R1 + "<think>\n", "Two and two.\n</think>\n\nFour.<｜end▁of▁sentence｜>"]]),
    "r1, two answers": ("deepseek-r1", TWO, [
        [R1 + "<think>\n", "Two and two.\n</think>\n\nFour.<｜end▁of▁sentence｜>"],
        [R1 + "\n\nFour.<｜end▁of▁sentence｜><｜User｜>Sure?<｜Assistant｜><think>\n", "It is.\n</think>\n\nYes.<｜end▁of▁sentence｜>"],
    ]),
    "r1, no thought": ("deepseek-r1", PLAIN[:2], [[R1 + "<think>\n", "\n</think>\n\nFour.<｜end▁of▁sentence｜>"]]),
    # thoughts are shown in the last answer alone
    "qwen3, one answer": ("qwen3", ONE, [[ASK, THOUGHT + "<|im_end|>", "\n"]]),
    "qwen3, two answers": ("qwen3", TWO, [
        [ASK, THOUGHT + "<|im_end|>", "\n"],
        [ASK + "Four.<|im_end|>\n" + ASK.replace("2+2?", "Sure?"), "<think>\nIt is.\n</think>\n\nYes.<|im_end|>", "\n"],
    ]),
    "qwen3, no thought": ("qwen3", PLAIN[:2], [[ASK, "<think>\n\n</think>\n\nFour.<|im_end|>", "\n"]]),
    "smollm3, two answers": (SMOLLM3, TWO, [
        [ASK, THOUGHT + "<|im_end|>", "\n"],
        [ASK + "Four.<|im_end|>\n" + ASK.replace("2+2?", "Sure?"), "<think>\nIt is.\n</think>\n\nYes.<|im_end|>", "\n"],
    ]),
    # nothing is changed: one piece, thoughts and all
    "llama3": ("llama3", TWO, [[
        "<s>" + LLAMA.format("user") + "2+2?<|eot_id|>" + LLAMA.format("assistant"), THOUGHT + "<|eot_id|>",
        LLAMA.format("user") + "Sure?<|eot_id|>" + LLAMA.format("assistant"), "<think>\nIt is.\n</think>\n\nYes.<|eot_id|>",
    ]]),
    "gemma": ("gemma2", PLAIN, [[
        "<s><start_of_turn>user\n2+2?<end_of_turn>\n<start_of_turn>model\n", "Four.<end_of_turn>",
        "\n<start_of_turn>user\nSure?<end_of_turn>\n<start_of_turn>model\n", "Yes.<end_of_turn>", "\n",
    ]]),
    # the template ends a chat with one more token, so that answers are apart
    "phi3": ("phi3", PLAIN, [
        ["<|user|>\n2+2?<|end|>\n<|assistant|>\n", "Four.<|end|>", "\n</s>"],
        ["<|user|>\n2+2?<|end|>\n<|assistant|>\nFour.<|end|>\n<|user|>\nSure?<|end|>\n<|assistant|>\n", "Yes.<|end|>", "\n</s>"],
    ]),
    "mistral": ("mistral-v0.3", PLAIN, [["<s>[INST] 2+2?[/INST]", " Four.</s>", "[INST] Sure?[/INST]", " Yes.</s>"]]),
    "no end of its own": ("{% for m in messages %}{{ m.role ~ ': ' ~ m.content ~ '\n' }}{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}",
                          PLAIN[:2], [["user: 2+2?\nassistant: ", "Four.\n"]]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_every_answer_is_learned_once_behind_its_prompt_with_its_end(tokenizer, case):
    template, messages, expected = CASES[case]
    assert told(tokenizer, messages, TEMPLATES.get(template, template)) == expected


@pytest.mark.parametrize("name", TEMPLATES)
def test_all_that_the_assistant_says_is_trained_with_every_template(tokenizer, name):
    """The texts themselves are looked for, in whatever a template of any family makes of them."""
    pieces = chat_tokens(TWO, TEMPLATES[name], tokenizer, "x")
    learned = [tokenizer.decode([t for t, counts in zip(p.tokens, p.counted, strict=True) if counts], special=True) for p in pieces]
    assert sum(text.count("Two and two.") for text in learned) == sum(text.count("It is.") for text in learned) == 1
    assert sum(text.count("Four.") for text in learned) == sum(text.count("Yes.") for text in learned) == 1
    assert not any("2+2?" in text or "Sure?" in text for text in learned)
    assert all(piece.ended for piece in pieces)


def test_what_comes_after_an_answer_that_has_ended_is_no_label(tokenizer):
    separator = tokenizer.special["<|endoftext|>"]
    chat = encode_document(Document("x", "d", messages=ONE), tokenizer, TEMPLATES["deepseek-r1"], True)
    text = encode_document(Document("y", "d", text="def f():"), tokenizer, None, True)
    [row] = pack(chat, len(chat[0].tokens) + 1, separator).labels
    assert row[-1] == -100 and row[-2] == tokenizer.special["<｜end▁of▁sentence｜>"]
    [row] = pack(text, len(text[0].tokens) + 1, separator).labels
    assert row[-1] == separator


def test_an_answer_that_the_template_hides_or_does_not_end_is_refused(tokenizer):
    hiding = "{% for m in messages %}{{ m.role }}: {{ m.content | upper }}|{% endfor %}"
    with pytest.raises(FirstTokenError, match=r"x: the chat template does not show what the assistant says \('Four\.'\)"):
        chat_tokens(ONE, hiding, tokenizer, "x")
    # thoughts are cut, nothing ends the answer, and the tokenizer names no end token either
    cutting = "{% for m in messages %}{{ m.role }}: {{ m.content.split('</think>')[-1] }}\n{% endfor %}"
    endless = Tokenizer(tokenizer.folder)
    endless.end_tokens = list
    with pytest.raises(FirstTokenError, match="x: neither the chat template nor the tokenizer ends an answer; set eos_token"):
        chat_tokens(ONE, cutting, endless, "x")
    [piece] = chat_tokens(ONE, cutting, tokenizer, "x")
    assert piece.ended and tokenizer.decode(piece.tokens[-1:], special=True) in ("</s>", "<|endoftext|>", "<|im_end|>")


def test_many_chats_are_the_same_as_one_by_one(tokenizer):
    chats = [Chat(messages, str(n)) for n, messages in enumerate([ONE, TWO, PLAIN, [*TWO, AGAIN], PLAIN[:2]])]
    for template in (TEMPLATES["qwen3"], TEMPLATES["deepseek-r1"], TEMPLATES["phi3"]):
        together = chats_tokens(chats, template, tokenizer)
        assert together == [chat_tokens(chat.messages, template, tokenizer, chat.source) for chat in chats]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("{% if messages[0].content == 'bad' %}{{ raise_exception('not this') }}{% endif %}", "rendered \\(TemplateError: not this\\)"),
        ("{% if messages[0].content == 'bad' %}{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}{% endif %}", "computes for more than 3 seconds"),
    ],
)  # fmt: skip
def test_a_chat_that_the_template_fails_on_is_named_among_many(tokenizer, fault, said):
    bad = Chat([{"role": "user", "content": "bad"}, PLAIN[1]], "x.jsonl:7")
    chats = [Chat(ONE, "x.jsonl:6"), bad, Chat(TWO, "x.jsonl:8")]
    with pytest.raises(
        FirstTokenError, match=rf"x\.jsonl:7: the chat template cannot be {said if 'rendered' in said else 'rendered .it ' + said}"
    ):
        chats_tokens(chats, TEMPLATES["llama3"] + fault, tokenizer)
    assert len(chats_tokens([chats[0], chats[2]], TEMPLATES["llama3"] + fault, tokenizer)) == 2
