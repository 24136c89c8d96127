"""Training data as data sets come: every form is the same chat, and what is wrong is named or left out."""

import json

import pytest

from firsttoken.demo import checkpoint_path
from firsttoken.distill.documents import encode_document, training_windows
from firsttoken.distill.records import read_records
from firsttoken.errors import FirstTokenError
from firsttoken.tokenizer import Tokenizer

TURNS = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "Four."}]
THOUGHT = [TURNS[0], {"role": "assistant", "content": "<think>\nTwo and two.\n</think>\n\nFour."}]
FORMS = {
    "messages": ({"messages": TURNS}, TURNS),
    "parts of text": ({"messages": [{"role": "user", "content": [{"type": "text", "text": "2+"}, {"type": "text", "text": "2?"}]}, {**TURNS[1], "content": [{"type": "text", "text": "Four."}]}]}, TURNS),
    "reasoning field": ({"messages": [TURNS[0], {**TURNS[1], "reasoning_content": "\nTwo and two.\n"}]}, THOUGHT),
    "reasoning field of another name": ({"messages": [TURNS[0], {**TURNS[1], "reasoning": "Two and two.", "reasoning_content": None}]}, THOUGHT),
    "ShareGPT": ({"conversations": [{"from": "human", "value": "2+2?"}, {"from": "gpt", "value": "Four."}], "id": 7}, TURNS),
    "ShareGPT with a system": (
        {"system": "Be brief.", "conversations": [{"from": "human", "value": "2+2?"}, {"from": "gpt", "value": "Four."}]},
        [{"role": "system", "content": "Be brief."}, *TURNS],
    ),
    "prompt and answer": ({"prompt": "2+2?", "answer": "Four."}, TURNS),
    "prompt and completion": ({"prompt": "2+2?", "completion": "Four."}, TURNS),
    "prompt and response": ({"prompt": "2+2?", "response": "Four."}, TURNS),
    "prompt, answer and thoughts": ({"prompt": "2+2?", "answer": "Four.", "reasoning_content": "Two and two."}, THOUGHT),
    "Alpaca": ({"instruction": "2+2?", "input": " ", "output": "Four."}, TURNS),
    "Alpaca with an input": ({"instruction": "Add.", "input": "2, 2", "output": "Four."}, [{"role": "user", "content": "Add.\n\n2, 2"}, TURNS[1]]),
}  # fmt: skip


def write(path, records):
    """Records in the form that the file's name says."""
    if path.suffix == ".json":
        path.write_text(json.dumps(records))
    elif path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        columns = {name for record in records for name in record}  # every row of a table has all of them
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{name: record.get(name) for name in columns} for record in records]), path)
    else:
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.mark.parametrize("name", ["x.jsonl", "x.ndjson", "x.json", "x.parquet", "X.JSONL"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_chat(tmp_path, form, name):
    record, expected = FORMS[form]
    [document] = read_records(write(tmp_path / name, [record]), "d")
    assert document.messages == expected and document.text is None and document.domain == "d"


def test_several_forms_in_one_file_of_any_kind(tmp_path):
    records = [{"text": "plain", "domain": "code"}, {"messages": TURNS}, {"prompt": "2+2?", "answer": "Four."}]
    for name in ("x.jsonl", "x.json", "x.parquet"):
        plain, chat, asked = read_records(write(tmp_path / name, records), "d")
        assert (plain.text, plain.domain, plain.source) == ("plain", "code", f"{name}:1")
        assert chat.messages == asked.messages == TURNS and asked.source == f"{name}:3"


def test_an_array_under_data_and_a_byte_order_mark(tmp_path):
    (tmp_path / "x.json").write_text("\ufeff" + json.dumps({"version": 1, "data": [{"messages": TURNS}]}), encoding="utf-8")
    (tmp_path / "x.jsonl").write_bytes(b"\xef\xbb\xbf" + json.dumps({"messages": TURNS}).encode())
    for name in ("x.json", "x.jsonl"):
        [document] = read_records(tmp_path / name, "d")
        assert document.messages == TURNS


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.json", '{"rows": [1]}', "holds an object with 'rows'; expected an array of records"),
        ("x.json", '"text"', "holds a text; expected an array"),
        ("x.json", '[{"text": "a"}, 3]', "record 2: expected a JSON object, got a number"),
        ("x.json", '[{"text": "a"}', "not JSON .*name lines of JSON .jsonl"),
        ("x.json", '[{"instruction": "a", "outptu": "b"}]', "record 1: has 'instruction', 'outptu' .did you mean 'output'"),
        ("x.jsonl", "{}", "line 1: has nothing; expected"),
        ("x.jsonl", '{"conversations": [{"role": "user"}]}', 'line 1: a turn of "conversations" is .*expected "from" and "value"'),
        ("x.jsonl", '{"conversations": [{"from": "alien", "value": "a"}]}', "line 1: a message is .*alien.*one of system, user"),
        ("x.jsonl", '{"messages": [{"role": "assistant", "content": null}]}', "line 1: a message is"),
        ("x.jsonl", '{"messages": [{"role": "user", "content": [{"type": "image"}]}]}', "line 1: a message is"),
        ("x.parquet", "PAR1 not really", "cannot be read as parquet"),
    ],
)
def test_what_is_no_record_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(FirstTokenError, match=message):
        list(read_records(tmp_path / name, "d"))


def test_bad_records_are_left_out_and_counted_on_request(make_recipe, tmp_path):
    good = json.dumps({"messages": [*TURNS[:1], {"role": "assistant", "content": "Four. " * 40}]})
    (tmp_path / "x.jsonl").write_text(f"{good}\n{{\n[1]\n{{}}\n{good}\n")
    (tmp_path / "y.json").write_text(f'[{good}, 5, {{"messages": [{{"role": "user", "content": "a"}}]}}]')
    train = [{"files": [str(tmp_path / "x.jsonl"), str(tmp_path / "y.json")]}]
    tokenizer = Tokenizer(checkpoint_path())
    with pytest.raises(FirstTokenError, match=r"x\.jsonl, line 2: not JSON"):
        training_windows(make_recipe({"data.train": train}), tokenizer)
    windows = training_windows(make_recipe({"data.train": train, "data.bad_records": "skip"}), tokenizer)
    assert [text.split(": ")[0].split("/")[-1] for text in windows.left_out] == [
        "x.jsonl, line 2", "x.jsonl, line 3", "x.jsonl, line 4", "y.json, record 2", "y.json, record 3"
    ]  # fmt: skip
    [whole] = {tuple(row) for row in training_windows(make_recipe({"data.train": [{"files": [str(write(tmp_path / "z.json", [json.loads(good)] * 3))]}]}), tokenizer).tokens.reshape(1, -1)}  # fmt: skip
    assert tuple(windows.tokens.reshape(-1)) == whole


CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 2, "b": 2}}}
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {}}}]
CALLED = [TURNS[0], {"role": "assistant", "content": None, "tool_calls": [CALL]}, {"role": "tool", "content": "4"}, TURNS[1]]
CALLING = (
    "{% if tools %}<|im_start|>system\n{% for t in tools %}{{ t | tojson }}{% endfor %}<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_calls_of_tools_are_learned_and_what_tools_say_is_not(tmp_path):
    tokenizer = Tokenizer(checkpoint_path())
    [document] = read_records(write(tmp_path / "x.jsonl", [{"messages": CALLED, "tools": TOOLS}]), "d")
    [encoded] = encode_document(document, tokenizer, CALLING, True)
    learned = tokenizer.decode([t for t, counts in zip(encoded.tokens, encoded.counted, strict=True) if counts], special=True)
    assert learned == '<tool_call>{"name": "add", "arguments": {"a": 2, "b": 2}}</tool_call><|im_end|>Four.<|im_end|>'
    whole = tokenizer.decode(encoded.tokens, special=True)
    assert whole.startswith('<|im_start|>system\n{"type": "function"') and "<|im_start|>tool\n4<|im_end|>\n" in whole
    with pytest.raises(FirstTokenError, match=r"x\.jsonl:1: the chat template does not show the tools"):
        encode_document(document, tokenizer, CALLING.replace("c.function | tojson", "'a call'"), True)
