"""Text to tokens and back, streaming, begin and end tokens, chat templates; against transformers where it does the same."""

import json
import random
import shutil
from datetime import date

import pytest
from tokenizers import Tokenizer as Engine
from tokenizers import decoders, models, normalizers, processors, trainers

from firsttoken.chat import chat_affixes
from firsttoken.conversation import write_conversation
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


def test_begin_token_is_what_tokenizer_json_adds(tmp_path):
    """transformers 4 asked add_bos_token, 5 does not: where the two differ it is told."""
    sentencepiece_style().save(str(tmp_path / "tokenizer.json"))
    for settings, told in (({}, False), ({"add_bos_token": True, "bos_token": "<s>"}, False), ({"add_bos_token": False}, True)):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
        tokenizer = Tokenizer(tmp_path)
        assert tokenizer.begin == 1 and tokenizer.encode("Hello") == [1, *tokenizer.encode("Hello", begin=False)]
        assert ("add_bos_token false, but tokenizer.json writes token 1" in (tokenizer.begin_note() or "")) == told
    byte_level().save(str(tmp_path / "tokenizer.json"))
    for settings, told in (({}, False), ({"bos_token": "<|endoftext|>"}, False), ({"add_bos_token": True}, True)):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
        tokenizer = Tokenizer(tmp_path)
        assert tokenizer.begin is None and tokenizer.encode("Hello") == tokenizer.encode("Hello", begin=False)
        assert ("add_bos_token true, but tokenizer.json writes no begin token" in (tokenizer.begin_note() or "")) == told


@pytest.mark.parametrize("model_type", ["llama", "qwen2"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"bos_token": "<|endoftext|>"},
        {"bos_token": "<|endoftext|>", "add_bos_token": True},
        {"bos_token": "<|endoftext|>", "add_bos_token": False},
        {"bos_token": "<|endoftext|>", "add_bos_token": None},
        {"bos_token": "<|endoftext|>", "add_eos_token": False},
        {"bos_token": "<|im_start|>", "add_bos_token": True},
    ],
)
@pytest.mark.parametrize("processor", [False, True])
def test_a_prompt_begins_as_with_transformers(tmp_path, model_type, settings, processor):
    """With and without a post-processor that writes <|endoftext|> first."""
    from transformers import AutoTokenizer

    engine = byte_level()
    if processor:
        engine.post_processor = processors.TemplateProcessing(single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 4093)])
    engine.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **settings}))
    theirs = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    assert Tokenizer(tmp_path).encode("Hello there") == theirs("Hello there").input_ids


END_FILES = {
    "config alone": ({}, {"eos_token_id": 7}, None, [7]),
    "generation over config": ({}, {"eos_token_id": 7}, {"eos_token_id": [4093, 4095]}, [4093, 4095]),
    "one of generation": ({}, {"eos_token_id": [7, 8]}, {"eos_token_id": 4095}, [4095]),
    "past the vocabulary": ({}, {"eos_token_id": 7}, {"eos_token_id": [4093, 99999]}, [4093]),
    "the tokenizer's beside": ({"eos_token": "<|im_end|>"}, {"eos_token_id": 7}, {"eos_token_id": 4093}, [4093, 4095]),
    "the tokenizer's alone": ({"eos_token": {"content": "<|im_end|>"}}, {}, None, [4095]),
    "an ordinary token of the tokenizer's": ({"eos_token": "the"}, {}, None, []),
    "generation names none": ({}, {"eos_token_id": [7, 4095]}, {"do_sample": True}, [4095]),
    "no whole numbers": ({}, {"eos_token_id": True}, {"eos_token_id": ["a", None]}, []),
}


@pytest.mark.parametrize("case", END_FILES)
def test_end_tokens_are_those_that_transformers_stops_at(tmp_path, case):
    from transformers import GenerationConfig, LlamaConfig

    settings, config, generation, expected = END_FILES[case]
    byte_level().save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", **config}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    if generation is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(generation))
    tokenizer = Tokenizer(tmp_path)
    assert tokenizer.end_tokens() == expected
    if case in ("config alone", "generation over config", "one of generation"):  # where nothing is left out or put beside it
        theirs = GenerationConfig.from_pretrained(tmp_path) if generation else GenerationConfig.from_model_config(LlamaConfig(**config))
        assert expected == (theirs.eos_token_id if isinstance(theirs.eos_token_id, list) else [theirs.eos_token_id])


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


def chat_of(folder, template, **settings):
    """The chat facts of a template with the demo's tokenizer."""
    shutil.copy(checkpoint_path() / "tokenizer.json", folder)
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template, **settings}))
    return chat_affixes(folder, Tokenizer(folder))


@pytest.mark.parametrize(
    ("shown", "trim"),
    [("c", "none"), ("c | trim", "both"), ("c.rstrip()", "right"), ("c.lstrip()", "left"), ("c.strip('\\n')", "newlines")],
)
def test_a_template_that_trims_has_its_trim_recorded(tmp_path, shown, trim):
    from transformers import PreTrainedTokenizerFast

    template = "{% for m in messages %}{% set c = m.content %}<|im_start|>{{ SHOWN }}<|im_end|>{% endfor %}".replace("SHOWN", shown)
    chat = chat_of(tmp_path, template)
    assert chat.trim == trim
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"), chat_template=template)
    for question in ("Why?", "\n Why?\n\n", "\t\u00a0Why? \n"):
        wanted = theirs.apply_chat_template([{"role": "user", "content": question}], add_generation_prompt=True, return_dict=False)
        assert encode_prompt(Tokenizer(tmp_path), question, chat) == wanted


@pytest.mark.parametrize("shown", ["c | upper", "c | e", "c | replace('  ', ' ')", "('/think ' if '日本' in c else '') + c", "c[:40]"])
def test_a_template_that_looks_at_the_message_is_refused(tmp_path, shown):
    with pytest.raises(FirstTokenError, match="expected once|otherwise than with white space left out"):
        chat_of(tmp_path, "{% set c = messages[-1].content %}<|im_start|>{{ SHOWN }}<|im_end|>".replace("SHOWN", shown))


def test_a_template_that_prints_the_date_is_frozen_on_its_day(tmp_path):
    template = "{{ '<|im_start|>Today is ' + strftime_now('%d %b %Y') + '\n' }}{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}"
    chat = chat_of(tmp_path, template)
    assert chat.rendered_on == date.today().isoformat() and date.today().strftime("%d %b %Y") in chat.prefix.text
    earlier = chat_affixes(tmp_path, Tokenizer(tmp_path), date(2024, 7, 26))
    assert earlier.prefix.text == "<|im_start|>Today is 26 Jul 2024\n" and earlier.rendered_on == "2024-07-26"
    assert chat_of(tmp_path, TEMPLATES["qwen"]).rendered_on is None
    never = "{% if tools %}{{ strftime_now('%Y') }}{% endif %}{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}"
    assert chat_of(tmp_path, never).rendered_on is None


def test_a_template_with_generation_marks_is_written_as_transformers_writes_it(tmp_path):
    from transformers import PreTrainedTokenizerFast

    template = (
        "{% for m in messages %}{% if m.role == 'assistant' %}<|im_start|>assistant\n{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}\n"
        "{% else %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}<|im_start|>assistant\n"
    )
    chat = chat_of(tmp_path, template)
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"), chat_template=template)
    turns = [{"role": role, "content": f"{role} says"} for role in ("system", "user", "assistant", "user")]
    assert write_conversation(chat.conversation, turns) == theirs.apply_chat_template(turns, tokenize=False)


def test_a_template_that_writes_the_begin_token_does_not_have_it_twice(tmp_path):
    """The name of the token may stand in special_tokens_map.json alone."""
    from transformers import AutoTokenizer

    chat_of(tmp_path, "{{ bos_token }}{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}")
    engine = byte_level()
    engine.post_processor = processors.TemplateProcessing(single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 4093)])
    engine.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"bos_token": {"content": "<|endoftext|>"}}))
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    tokenizer, theirs = Tokenizer(tmp_path), AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    chat = chat_affixes(tmp_path, tokenizer)
    wanted = theirs.apply_chat_template([{"role": "user", "content": "Why?"}], return_dict=False)
    assert encode_prompt(tokenizer, "Why?", chat) == wanted and wanted.count(4093) == 1
    assert tokenizer.encode("Why?") == theirs("Why?").input_ids and tokenizer.begin_token == 4093


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
