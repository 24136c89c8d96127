import os

import pytest

from firsttoken.backends.tflite import weight_cache
from firsttoken.backends.tflite.weight_cache import packed_weights


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(weight_cache, "cache_folder", lambda: tmp_path)
    return tmp_path / "xnnpack"


def test_second_load_finds_the_first_ones_file(folder):
    with packed_weights("a" * 64) as path:
        path.write_bytes(b"packed")
    with packed_weights("a" * 64) as again:
        assert again.read_bytes() == b"packed" and again != path
    with packed_weights("b" * 64) as other:
        assert not other.exists()


def test_a_failed_load_leaves_nothing(folder):
    with pytest.raises(RuntimeError), packed_weights("a" * 64) as path:
        path.write_bytes(b"half")
        raise RuntimeError
    assert list(folder.iterdir()) == []


def test_a_killed_loads_file_is_never_used_and_goes(folder):
    folder.mkdir()
    litter = folder / f"{'a' * 64}.x.cache.999999999.partial"
    litter.write_bytes(b"half")
    with packed_weights("a" * 64) as path:
        assert path != litter
        path.write_bytes(b"whole")
    assert not litter.exists()


def test_least_recently_used_files_go(folder, monkeypatch):
    monkeypatch.setattr(weight_cache, "KEPT", 2)
    for age, name in enumerate("abc"):
        with packed_weights(name * 64) as path:
            path.write_bytes(b"x")
        newest = max(folder.iterdir(), key=lambda p: p.name)
        os.utime(newest, (1000 + age, 1000 + age))
    with packed_weights("d" * 64) as path:
        path.write_bytes(b"x")
    assert sorted(p.name[0] for p in folder.iterdir()) == ["c", "d"]


def test_no_folder_means_no_cache(monkeypatch):
    monkeypatch.setattr(weight_cache, "cache_folder", lambda: None)
    with packed_weights("a" * 64) as path:
        assert path is None
