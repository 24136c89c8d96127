"""What is in the written container, and what is said of one that is damaged or another's."""

import shutil
import struct

import litert_lm_builder
import pytest

from firsttoken import extras
from firsttoken.backends.litertlm.container import GRAPHS, METADATA, TOKENIZER, graphs_of, is_container, read_sections
from firsttoken.bundle.manifest import read_manifest
from firsttoken.errors import FirstTokenError
from firsttoken.run.open import open_runner


@pytest.fixture
def copy(bundles, tmp_path):
    return shutil.copy(bundles(cache_length=100) / "model.litertlm", tmp_path / "model.litertlm")


def test_the_sections_are_there(bundles):
    path = bundles(cache_length=100) / "model.litertlm"
    sections = read_sections(path)
    assert {GRAPHS, METADATA, TOKENIZER} == set(sections) and is_container(path)
    graphs = graphs_of(path)
    assert graphs.read(4, 4) == b"TFL3" and graphs.start + graphs.size <= path.stat().st_size


def test_googles_own_reader_shows_what_it_is_for(bundles, demo, tmp_path, capsys):
    bundle = bundles(checkpoint=demo, plan="fp16-attention")
    with open(tmp_path / "shown.txt", "w") as shown:
        litert_lm_builder.peek_litertlm_file(str(bundle / "model.litertlm"), None, shown)
    text = (tmp_path / "shown.txt").read_text()
    assert "backend_constraint" in text and "cpu" in text and "tf_lite_prefill_decode" in text
    assert read_manifest(bundle).checkpoint.fingerprint in text and "firsttoken.graphs_sha256" in text


def refused(path) -> str:
    with pytest.raises(FirstTokenError) as caught:
        graphs_of(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("at", "what", "said"),
    [
        (0, b"PK\3\4", "is no .litertlm file"),
        (8, struct.pack("<I", 9), "version 9; expected 1"),
        (24, struct.pack("<Q", 1 << 40), "its header ends at byte 1099511627776"),
        (24, struct.pack("<Q", 8), "its header ends at byte 8"),
        (32, b"\xff" * 64, "its header is damaged"),
    ],
)
def test_damage_is_one_line(copy, at, what, said):
    with open(copy, "r+b") as stream:
        stream.seek(at)
        stream.write(what)
    assert said in refused(copy)


def test_a_cut_file_is_refused(copy):
    size = copy.stat().st_size
    for share in range(10):
        with open(copy, "r+b") as stream:
            stream.truncate(size * (9 - share) // 10)
        refused(copy)


def test_another_file_in_the_bundle_is_refused(bundles, tmp_path):
    bundle = shutil.copytree(bundles(cache_length=100), tmp_path / "bundle")
    other = bundles(cache_length=100, plan="int8") / "model.litertlm"
    shutil.copy(other, bundle / "model.litertlm")
    with pytest.raises(FirstTokenError, match="but the manifest says"):
        open_runner(bundle)


def test_without_the_extra_it_is_named(bundles, monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda module: None)
    with pytest.raises(
        FirstTokenError, match=r"needs litert_lm_builder, which is not installed; run: pip install 'firsttoken\[litertlm\]'"
    ):
        read_sections(bundles(cache_length=100) / "model.litertlm")
