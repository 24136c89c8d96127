"""Reading data: text, JSONL and chats; only answers are labels; every mistake names file and line."""

import json

import pytest
from transformers import AutoTokenizer

from firsttoken.chat import read_template
from firsttoken.demo import checkpoint_path
from firsttoken.distill.documents import encode_document, find_files, held_back, held_out_windows, training_windows
from firsttoken.distill.records import Document, read_records
from firsttoken.errors import FirstTokenError
from firsttoken.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(checkpoint_path())


def encode(tokenizer, messages, answers_only=True):
    return encode_document(
        Document("x", "d", messages=messages), tokenizer, read_template(tokenizer.folder, tokenizer.settings), answers_only
    )


CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Explain def f(x)"},
    {"role": "assistant", "content": "Returns x."},
    {"role": "user", "content": "And g?"},
    {"role": "assistant", "content": "Returns y."},
]


def test_a_chat_has_the_tokens_of_transformers_and_only_answers_count(tokenizer):
    [encoded] = encode(tokenizer, CHAT)
    theirs = AutoTokenizer.from_pretrained(str(checkpoint_path())).apply_chat_template(CHAT, tokenize=True)
    theirs = theirs["input_ids"] if hasattr(theirs, "keys") else theirs
    assert tokenizer.decode(encoded.tokens, special=True) == tokenizer.decode(list(theirs), special=True)
    counted = [token for token, counts in zip(encoded.tokens, encoded.counted, strict=True) if counts]
    assert tokenizer.decode(counted, special=True) == "Returns x.<|im_end|>Returns y.<|im_end|>"
    [whole] = encode(tokenizer, CHAT, answers_only=False)
    assert all(whole.counted) and whole.tokens == encoded.tokens


def test_answers_are_apart_where_a_template_rewrites_earlier_turns(tokenizer):
    template = "{% for m in messages %}{{ loop.length }}{{ m.content }}<|im_end|>{% endfor %}"
    first, second = encode_document(Document("x", "d", messages=CHAT), tokenizer, template, True)
    asked = "2Be brief.<|im_end|>2Explain def f(x)<|im_end|>"
    assert tokenizer.decode(first.tokens, special=True) == f"{asked}Returns x.<|im_end|>"
    asked = "4Be brief.<|im_end|>4Explain def f(x)<|im_end|>4Returns x.<|im_end|>4And g?<|im_end|>"
    assert tokenizer.decode(second.tokens, special=True) == f"{asked}Returns y.<|im_end|>"
    with pytest.raises(FirstTokenError, match="no chat template"):
        encode_document(Document("x", "d", messages=CHAT), tokenizer, None, True)


@pytest.mark.parametrize(
    "line,message",
    [
        ("{", "line 2: not JSON"),
        ("[1]", "line 2: expected a JSON object, got list"),
        ('{"txt": "a"}', "line 2: has 'txt' .did you mean 'text'.*expected \"text\""),
        ('{"messages": [{"role": "usr", "content": "a"}]}', "line 2: a message is"),
        ('{"messages": [{"role": "user", "content": "a"}]}', "line 2: no message of the assistant"),
    ],
)
def test_bad_lines_are_named(tmp_path, line, message):
    path = tmp_path / "x.jsonl"
    path.write_text('{"text": "good"}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(FirstTokenError, match=message):
        list(read_records(path, "d"))


def test_prompt_and_answer_and_own_domains(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text(
        json.dumps({"prompt": "p", "answer": "a", "domain": "maths"}) + "\n\n" + json.dumps({"text": "t"}) + "\n", encoding="utf-8"
    )
    first, second = read_records(path, "d")
    assert first.domain == "maths" and [m["role"] for m in first.messages] == ["user", "assistant"] and first.source == "x.jsonl:1"
    assert second.domain == "d" and second.text == "t"


def test_files_are_found_sorted_and_a_pattern_without_files_is_an_error(make_recipe, texts):
    recipe = make_recipe()
    assert [name for _, name in find_files(recipe, (str(texts / "part*.txt"),))] == ["part0.txt", "part1.txt", "part2.txt"]
    with pytest.raises(FirstTokenError, match="no such file"):
        find_files(recipe, (str(texts / "*.rst"),))


def test_signs_of_patterns_in_names_of_files_and_folders_are_letters(make_recipe, tmp_path):
    folder = tmp_path / "run [1] *"
    (folder / "texts/deep").mkdir(parents=True)
    for name in ("texts/a [x].txt", "texts/deep/b.txt", "[one].txt"):
        (folder / name).write_text("text")
    recipe = make_recipe().model_copy(update={"folder": str(folder)})
    assert [name for _, name in find_files(recipe, ("texts/**/*.txt",))] == ["a [x].txt", "deep/b.txt"]
    assert [name for _, name in find_files(recipe, ("[one].txt", str(folder / "texts/a [x].txt")))] == ["[one].txt", "a [x].txt"]
    assert [path.name for path, _ in find_files(recipe, ("texts/[a-b] *.txt",))] == ["a [x].txt"]  # of the pattern they are signs


def test_holding_back_follows_the_demo_checkpoints_split(make_recipe):
    """The files named in held_out.txt are those that the rule holds back."""
    from firsttoken.demo import held_out_text

    names = [line.split()[2] for line in held_out_text().splitlines() if line.startswith("# ======== ")]
    assert names and all(held_back(name, 6) for name in names) and not held_back("json/decoder.py", 0)
    recipe = make_recipe({"data.train": [{"files": ["{stdlib}/**/*.py"]}], "data.hold_back_percent": 6})
    found = [name for _, name in find_files(recipe, recipe.data.train[0].files)]
    assert set(names) <= set(found)


def test_windows_of_a_recipe(make_recipe, tokenizer, texts):
    recipe = make_recipe({"data.train": [{"files": [str(texts / "part*.txt")]}, {"files": [str(texts / "chats.jsonl")], "domain": "chat"}]})
    windows = training_windows(recipe, tokenizer)
    assert windows.domains == ("text", "numbers") and windows.tokens.shape[1] == 32
    chat = windows.labels[windows.domain == 1]
    assert (chat == -100).any() and (chat != -100).any() and (windows.labels[windows.domain == 0][:-1] != -100).all()
    held_out = held_out_windows(recipe, tokenizer)
    assert len(held_out) == 8


def test_text_that_is_not_utf8_is_named(make_recipe, tokenizer, tmp_path):
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(FirstTokenError, match="latin.txt: cannot be read as UTF-8.*exclude it"):
        training_windows(make_recipe({"data.train": [{"files": [str(tmp_path / "latin.txt")]}]}), tokenizer)
