"""Text to tokens and back, streaming, begin and end tokens, chat templates; against transformers where it does the same."""

import json
import random
import shutil

import pytest
from tokenizers import Tokenizer as Engine
from tokenizers import decoders, models, normalizers, processors, trainers

from firsttoken.chat import chat_affixes
from firsttoken.demo import checkpoint_path
from firsttoken.errors import FirstTokenError
from firsttoken.run.generate import encode_prompt
from firsttoken.tokenizer import TextStream, Tokenizer

TEXTS = [
    "Hello world",
    "  two  spaces\n\n\tand a tab",
    "naïve café",
    "日本語 テキスト",
    "👩‍👩‍👧‍👦 family 🏳️‍🌈",
    "עברית",
    "",
    " ",
    "a\u0301",
    "\ufffd real replacement \ufffd",
]


def byte_level() -> Engine:
    return Engine.from_file(str(checkpoint_path() / "tokenizer.json"))


def sentencepiece_style() -> Engine:
    """As Llama 2's: a space becomes ▁, one is put in front, unknown characters become bytes, and a begin token is added."""
    engine = Engine(models.BPE(byte_fallback=True, unk_token="<unk>"))
    engine.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    engine.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    special = ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special + [f"<0x{n:02X}>" for n in range(256)])
    engine.train_from_iterator(["Hello world and a tab two spaces café family real replacement"] * 20, trainer)
    text = json.loads(engine.to_str())
    text["added_tokens"] = [token for token in text["added_tokens"] if token["content"] in special]
    engine = Engine.from_str(json.dumps(text))
    engine.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return engine


@pytest.fixture(params=[byte_level, sentencepiece_style])
def tokenizer(request, tmp_path):
    request.param().save(str(tmp_path / "tokenizer.json"))
    return Tokenizer(tmp_path)


@pytest.mark.parametrize("text", TEXTS)
def test_streamed_text_is_the_decoded_text_and_never_half_a_character(tokenizer, text):
    tokens = tokenizer.encode(text, begin=False)
    stream = TextStream(tokenizer)
    pieces = [stream.add(token) for token in tokens]
    pieces.append(stream.finish())
    assert "".join(pieces) == tokenizer.decode(tokens)
    if "\ufffd" not in text:
        assert all("\ufffd" not in piece for piece in pieces)


def test_streaming_any_tokens_gives_what_decoding_them_gives(tokenizer):
    """Random tokens make broken UTF-8 all the time; only where the breaks are shown may differ.

    Single bytes as <0x4E> are left out: a later broken one makes the whole run undecodable, after its start was shown.
    """
    chosen = random.Random(3)
    names = {number: name for name, number in tokenizer.engine.get_vocab().items()}
    usable = [n for n in names if n not in tokenizer.special.values() and not names[n].startswith("<0x")]
    for _ in range(100):
        tokens = chosen.choices(usable, k=30)
        stream = TextStream(tokenizer)
        got = "".join([*map(stream.add, tokens), stream.finish()])
        assert got.replace("\ufffd", "") == tokenizer.decode(tokens).replace("\ufffd", "")


def test_text_comes_out_as_soon_as_it_is_whole():
    stream = TextStream(Tokenizer(checkpoint_path()))
    tokens = stream.tokenizer.encode("é日", begin=False)
    given = [stream.add(token) for token in tokens]
    assert "".join(given) == "é日" and stream.finish() == ""


def test_special_tokens_are_not_shown():
    tokenizer = Tokenizer(checkpoint_path())
    stream = TextStream(tokenizer)
    assert "".join(stream.add(token) for token in tokenizer.encode("a<|im_end|>b", begin=False)) == "ab"


def test_begin_token_as_transformers_adds_it(tmp_path):
    sentencepiece_style().save(str(tmp_path / "tokenizer.json"))
    for settings, begin in (
        ({}, 1),
        ({"add_bos_token": True, "bos_token": "<s>"}, 1),
        ({"add_bos_token": False, "bos_token": "<s>"}, None),
    ):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
        assert Tokenizer(tmp_path).begin == begin
    assert Tokenizer(tmp_path).encode("Hello")[0] != 1
    byte_level().save(str(tmp_path / "tokenizer.json"))
    for settings, begin in (
        ({}, None),
        ({"bos_token": "<|endoftext|>"}, None),
        ({"add_bos_token": True, "bos_token": {"content": "<|endoftext|>"}}, 4093),
        ({"add_bos_token": True}, None),
    ):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
        assert Tokenizer(tmp_path).begin == begin
        assert Tokenizer(tmp_path).encode("Hello")[:1] == (
            [begin] if begin is not None else Tokenizer(tmp_path).encode("Hello", begin=False)[:1]
        )


def test_end_tokens_are_those_of_all_files(tmp_path):
    byte_level().save(str(tmp_path / "tokenizer.json"))
    assert Tokenizer(tmp_path).end_tokens() == []
    (tmp_path / "config.json").write_text('{"eos_token_id": 7}')
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [4093, 99999]}')
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<|im_end|>"}')
    assert Tokenizer(tmp_path).end_tokens() == [7, 4093, 4095]


def test_facts_for_the_manifest():
    facts = Tokenizer(checkpoint_path()).facts()
    assert facts.vocab_size == 4096 and facts.begin is None and facts.end == [4093, 4095]
    assert facts.special == {"<|endoftext|>": 4093, "<|im_start|>": 4094, "<|im_end|>": 4095}
    assert facts.files == ["tokenizer.json", "tokenizer_config.json"]


def test_vocabulary_size_is_past_the_highest_id(tmp_path):
    engine = Engine(models.WordLevel({"a": 0, "b": 9, "<unk>": 3}, unk_token="<unk>"))
    engine.save(str(tmp_path / "tokenizer.json"))
    assert Tokenizer(tmp_path).vocab_size == 10


# Shapes of the templates that the supported families ship, shortened.
TEMPLATES = {
    "qwen": "{%- if messages[0].role == 'system' %}{{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}{%- else %}"
    "{{- '<|im_start|>system\\nYou are helpful.<|im_end|>\\n' }}{%- endif %}{%- for message in messages %}{%- if message.role == 'user' %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}",
    "llama2": "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + message['content'].strip() + ' [/INST]' }}{% endif %}{% endfor %}",
    "loops": "{%- for message in messages -%}\n  {%- if message.role == 'system' -%}{%- continue -%}{%- endif -%}\n    <|im_start|>{{ message.role }}\n{{ message.content | trim }}\n"
    "{%- endfor -%}\n{% if tools is not none %}{{ tools | tojson }}{% endif %}",
}


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("place", ["settings", "list", "file"])
def test_chat_as_transformers_applies_it(tmp_path, name, place):
    from transformers import PreTrainedTokenizerFast

    template, special = TEMPLATES[name], {"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>"}
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(checkpoint_path() / "tokenizer.json"), chat_template=template, **special)
    shutil.copy(checkpoint_path() / "tokenizer.json", tmp_path)
    settings = {
        "settings": {"chat_template": template},
        "list": {"chat_template": [{"name": "tools", "template": "x"}, {"name": "default", "template": template}]},
        "file": {},
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**special, **settings[place]}))
    if place == "file":
        (tmp_path / "chat_template.jinja").write_text(template)
    tokenizer = Tokenizer(tmp_path)
    chat = chat_affixes(tmp_path, tokenizer)
    for question in ("Why is the sky blue?", "def close(self):\n    pass", "{{ 7 * 7 }}"):
        messages = [{"role": "user", "content": question}]
        assert chat.prefix.text + question + chat.suffix.text == theirs.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        expected = theirs.apply_chat_template(messages, tokenize=True, add_generation_prompt=True, return_dict=False)
        assert encode_prompt(tokenizer, question, chat) == expected
    assert chat.prefix.tokens == tokenizer.encode(chat.prefix.text, begin=False)


def test_no_chat_template(tmp_path):
    shutil.copy(checkpoint_path() / "tokenizer.json", tmp_path)
    assert chat_affixes(tmp_path, Tokenizer(tmp_path)) is None


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{% for %}", "TemplateSyntaxError"),
        ("{{ raise_exception('no') }}", "no"),
        ("nothing of the user's", "0 times"),
        ("{{ messages[0].content }}{{ messages[0].content }}", "2 times"),
        ("{{ ''.__class__.__mro__ }}", "SecurityError"),
        ("{{ messages.append(1) }}", "SecurityError"),
        ("{{ undefined.attribute }}", "UndefinedError"),
    ],
)
def test_templates_that_fail_or_reach_out(tmp_path, template, said):
    shutil.copy(checkpoint_path() / "tokenizer.json", tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    with pytest.raises(FirstTokenError, match=said):
        chat_affixes(tmp_path, Tokenizer(tmp_path))


def test_broken_tokenizer_file(tmp_path):
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0"}')
    with pytest.raises(FirstTokenError, match="cannot be read as a tokenizer"):
        Tokenizer(tmp_path)
