"""Whatever is given where a checkpoint is expected."""

import shutil

import pytest
from families_on_disk import random_model
from gguf_writer import write_model

from firsttoken.checkpoint import Checkpoint
from firsttoken.checkpoint_sources.open import checkpoint_folder, open_checkpoint
from firsttoken.demo import checkpoint_path
from firsttoken.errors import FirstTokenError
from firsttoken.gguf_file.checkpoint import GgufCheckpoint


def test_folder_file_and_what_is_open(tmp_path, tiny_checkpoint):
    with open_checkpoint(tiny_checkpoint) as opened:
        assert type(opened) is Checkpoint and open_checkpoint(opened) is opened
    path = write_model(tmp_path / "Model.Q8_0.GGUF", random_model("qwen2"))
    with open_checkpoint(str(path)) as opened:
        assert type(opened) is GgufCheckpoint and opened.name == "Model.Q8_0"


def test_a_folder_of_the_hubs_cache_has_its_models_name(tmp_path, tiny_checkpoint):
    place = tmp_path / "models--Qwen--Qwen2.5-0.5B--x" / "snapshots" / "0123abc"
    shutil.copytree(tiny_checkpoint, place)
    assert Checkpoint(place).name == "Qwen/Qwen2.5-0.5B--x"
    assert Checkpoint(tiny_checkpoint).name == "tiny"


@pytest.mark.parametrize("given", ["nowhere", "./no/where", "/no/where/at/all", "smolm2", ""])
def test_what_is_nothing(tmp_path, monkeypatch, given):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FirstTokenError, match="a hub id like|config.json") as raised:
        open_checkpoint(given)
    assert ("did you mean 'smollm2'" in str(raised.value)) == (given == "smolm2")


def test_the_embedded_one_has_a_name(tmp_path, monkeypatch, tiny_checkpoint):
    monkeypatch.chdir(tmp_path)
    with open_checkpoint("demo") as opened, open_checkpoint(checkpoint_path()) as same:
        assert opened.folder == checkpoint_path() and opened.fingerprint() == same.fingerprint()
    with pytest.raises(FirstTokenError, match="did you mean 'demo'.*or one of demo, smollm2"):
        open_checkpoint("dmeo")
    shutil.copytree(tiny_checkpoint, tmp_path / "demo")
    with open_checkpoint("demo") as opened:
        assert opened.folder.resolve() == tmp_path / "demo", "a folder of that name comes first"


def test_a_misspelt_path_is_not_asked_for_on_the_hub(tmp_path, monkeypatch):
    from firsttoken.checkpoint_sources import hub

    monkeypatch.setattr(hub, "download", lambda *_: pytest.fail("the hub was asked"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    with pytest.raises(
        FirstTokenError, match="out/studnet: not a folder .a folder out is here, so the hub is not asked; .* hf download out/studnet"
    ):
        open_checkpoint("out/studnet")


def test_a_file_of_another_kind(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(FirstTokenError, match="not a folder, and its name does not end in .gguf"):
        open_checkpoint(tmp_path / "model.safetensors")
    (tmp_path / "model.gguf").write_bytes(b"PK\3\4")
    with pytest.raises(FirstTokenError, match="does not begin with GGUF"):
        open_checkpoint(tmp_path / "model.gguf")
    with pytest.raises(FirstTokenError, match="absent.gguf: cannot be read"):
        open_checkpoint(tmp_path / "absent.gguf")


def test_what_needs_a_folder_says_how_to_make_one(tmp_path, tiny_checkpoint):
    assert checkpoint_folder(tiny_checkpoint) == tiny_checkpoint
    path = write_model(tmp_path / "model.gguf", random_model("qwen2"))
    with pytest.raises(FirstTokenError, match=f"make one with: firsttoken get {path} -o FOLDER"):
        checkpoint_folder(path)
