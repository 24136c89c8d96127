"""A conversation goes on from a file as if it had never ended; a file that is damaged, foreign or hostile is refused, and changes nothing."""

import io
import json
import zipfile

import numpy as np
import pytest

from firsttoken.bundle.manifest import read_manifest
from firsttoken.demo import checkpoint_path
from firsttoken.errors import FirstTokenError
from firsttoken.run import chat_file
from firsttoken.run.chat_file import FACTS, resume_chat, save_chat
from firsttoken.run.generate import Statistics
from firsttoken.run.open import open_runner
from firsttoken.run.sampling import Sampler
from firsttoken.run.turns import Chat
from firsttoken.tokenizer import Tokenizer

BOTH = ["tflite-xnnpack", pytest.param("litertlm-cpu", marks=pytest.mark.slow), pytest.param("executorch-xnnpack", marks=pytest.mark.slow)]


@pytest.fixture(params=BOTH[:1])
def opened(request, demo_bundle):
    """A function to a chat without turns, and the manifest; the chats share one runner."""
    bundle = demo_bundle(request.param)
    runner = open_runner(bundle, threads=1)
    yield lambda: Chat(runner, Tokenizer(checkpoint_path())), read_manifest(bundle)
    runner.close()


def say(chat, question, tokens=8):
    facts = Statistics()
    return "".join(chat.ask(question, Sampler(chat.runner.manifest.tokenizer.vocab_size), tokens, facts)), facts


@pytest.mark.parametrize("opened", BOTH, indirect=True)
def test_it_goes_on_as_if_it_had_never_ended(opened, tmp_path):
    make, manifest = opened
    chat = make()
    say(chat, "What does close do?")
    say(chat, "And open?")
    save_chat(chat, manifest, tmp_path / "chat.npz")
    held = chat.runner.held_arrays()
    wanted, facts = say(chat, "Which first?")
    chat.runner.prefill([77] * 9)
    again = make()
    note = resume_chat(again, manifest, tmp_path / "chat.npz")
    assert again.turns == 2
    if held is None:
        assert note == "the next turn computes the conversation anew: the runtime keeps its cache to itself"
    else:
        assert note is None
        assert all(np.array_equal(array, held[name]) for name, array in again.runner.held_arrays().items())
    text, once_more = say(again, "Which first?")
    assert text == wanted and once_more.kept_tokens == (0 if held is None else facts.kept_tokens)


def test_another_version_of_the_runtime_computes_anew(opened, tmp_path, monkeypatch):
    make, manifest = opened
    chat = make()
    say(chat, "What does close do?")
    with monkeypatch.context() as other:
        other.setattr(chat_file, "runtime_of", lambda manifest: "ai-edge-litert 1.0")
        save_chat(chat, manifest, tmp_path / "chat.npz")
    again = make()
    assert "it was held with ai-edge-litert 1.0, this is ai-edge-litert 2" in resume_chat(again, manifest, tmp_path / "chat.npz")
    assert say(again, "And open?")[1].kept_tokens == 0 and again.turns == 2


def archive(path, **changes):
    """The file's arrays, with others in their place."""
    with np.load(path) as found:
        arrays = {name: found[name] for name in found.files}
    return arrays | changes


def written(path, arrays):
    content = io.BytesIO()
    np.savez(content, **arrays)
    path.write_bytes(content.getvalue())
    return path


def facts_with(arrays, **changes):
    values = json.loads(arrays[FACTS].tobytes()) | changes
    return arrays | {FACTS: np.frombuffer(json.dumps(values).encode(), np.uint8)}


def test_files_that_are_refused(opened, tmp_path):
    make, manifest = opened
    chat = make()
    say(chat, "What does close do?")
    good = tmp_path / "chat.npz"
    save_chat(chat, manifest, good)
    arrays = archive(good)
    key = next(name for name in arrays if name.startswith("held.key"))
    bad = tmp_path / "bad.npz"
    message = {"role": "user", "content": "x"}
    cases = [
        (facts_with(arrays, artifact="0" * 64), "was held with another artifact .SHA-256 000000000000"),
        (facts_with(arrays, format=2), "cannot be read"),
        (facts_with(arrays, messages=[message]), "not one of questions and answers in turn"),
        (facts_with(arrays, messages=[message | {"role": "tool"}]), "cannot be read"),
        (facts_with(arrays, dropped=-1), "cannot be read"),
        (facts_with(arrays, more=1), "more is not a known field"),
        ({name: array for name, array in arrays.items() if name != FACTS}, "holds no conversation"),
        (arrays | {FACTS: np.frombuffer(b"[" * 100_000, np.uint8)}, "nested too deeply"),
        (arrays | {"tokens": arrays["tokens"][:-1]}, "begin a new file"),
        (arrays | {"tokens": arrays["tokens"] + 10**6}, "outside the model's vocabulary"),
        (arrays | {"tokens": arrays["tokens"].astype(np.int64)}, "expected a row of int32"),
        (arrays | {"tokens": np.zeros(9000, np.int32)}, "begin a new file"),
        (arrays | {key: np.full_like(arrays[key], np.inf)}, "NaN or infinite"),
        (arrays | {"held.key.77": arrays[key]}, "expected none"),
        (arrays | {"tokens": np.array(["x"], object)}, "cannot be read"),
        (arrays | {"tokens": arrays["tokens"].astype(">i4")}, "begin a new file|cannot be read|expected a row"),
    ]
    for number, (changed, said) in enumerate(cases):
        again = make()
        with pytest.raises(FirstTokenError, match=said):
            resume_chat(again, manifest, written(bad, changed))
        assert not again.messages, number
    assert resume_chat(make(), manifest, good) is None


def test_damage_and_hostile_archives(opened, tmp_path):
    make, manifest = opened
    chat = make()
    say(chat, "What does close do?")
    good, bad = tmp_path / "chat.npz", tmp_path / "bad.npz"
    save_chat(chat, manifest, good)
    content = good.read_bytes()
    key = content.index(b"held.key.0.npy") + 1000
    turned = bytearray(content)
    turned[key] ^= 4
    huge = io.BytesIO()
    np.lib.format.write_array_header_1_0(huge, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40,)})
    compressed, bomb, twice = io.BytesIO(), io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(compressed, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("tokens.npy", b"\0" * (1 << 20))
    with zipfile.ZipFile(bomb, "w") as made:
        made.writestr("tokens.npy", huge.getvalue())
    with zipfile.ZipFile(twice, "w") as made, pytest.warns(UserWarning, match="Duplicate"):
        made.writestr("tokens.npy", b"a")
        made.writestr("tokens.npy", b"b")
    contents = {
        "Bad CRC": bytes(turned), "compressed": compressed.getvalue(), "in 0 bytes": bomb.getvalue(), "two of one name": twice.getvalue(),
        "not a zip": content[: len(content) // 2], "zip": b"", "file": b"PK\5\6" + b"\0" * 18,
    }  # fmt: skip
    for said, bytes_of in contents.items():
        bad.write_bytes(bytes_of)
        with pytest.raises(FirstTokenError, match="conversation .*(cannot be read|holds no conversation)") as told:
            resume_chat(make(), manifest, bad)
        assert said in str(told.value), said
    with pytest.raises(FirstTokenError, match="is a folder"):
        resume_chat(make(), manifest, tmp_path)


def test_a_file_that_cannot_be_written_leaves_the_older_one(opened, tmp_path, monkeypatch):
    make, manifest = opened
    chat = make()
    say(chat, "What does close do?")
    save_chat(chat, manifest, tmp_path / "chat.npz")
    before = (tmp_path / "chat.npz").read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(FirstTokenError, match="cannot be written .*the file there, if any, is unchanged"):
        save_chat(chat, manifest, tmp_path / "chat.npz")
    assert (tmp_path / "chat.npz").read_bytes() == before and [path.name for path in tmp_path.iterdir()] == ["chat.npz"]
