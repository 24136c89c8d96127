"""Packed weights are kept whole or not at all, for one artifact only, and a disk without room is no death."""

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from small_disks import free_bytes, small_disk

from firsttoken.backends.tflite import weight_cache
from firsttoken.backends.tflite.weight_cache import note_of, packed_file, packed_weights

ONE, OTHER = "a" * 64, "b" * 64
MIB = 1 << 20


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(weight_cache, "cache_folder", lambda: tmp_path)
    return tmp_path / "xnnpack"


def pack(artifact: str, content: bytes) -> Path:
    """As a runtime does: a complete file is read, another is written. Returns where it was."""
    with packed_weights(artifact) as packed:
        if not packed.file.exists():
            packed.file.write_bytes(content)
    return packed.file


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_second_load_finds_the_first_ones_file(folder):
    first = pack(ONE, b"packed")
    assert first.name.endswith(".partial") and not first.exists()
    again = pack(ONE, b"other")
    assert again == packed_file(folder, ONE) and again.read_bytes() == b"packed"
    assert files(folder) == [again.name, note_of(again).name]
    with packed_weights(OTHER) as packed:
        assert not packed.file.exists()


def damaged(path: Path):
    content = bytearray(path.read_bytes())
    content[3] ^= 1
    path.write_bytes(content)


def cut(path: Path):
    os.truncate(path, 2)


def swapped(path: Path):
    """Another export's file under this one's name, with times set back."""
    facts = path.stat()
    path.unlink()
    path.write_bytes(b"zzzzzz")
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def without_its_note(path: Path):
    note_of(path).unlink()


def with_a_note_of_nothing(path: Path):
    note_of(path).write_text("[]")


def with_another_ones_note(path: Path):
    other = note_of(pack(OTHER, b"foreign weights"))
    note_of(path).write_bytes(note_of(packed_file(path.parent, OTHER)).read_bytes())
    assert other.suffix == ".json"


@pytest.mark.parametrize("harm", [damaged, cut, swapped, without_its_note, with_a_note_of_nothing, with_another_ones_note])
def test_a_file_that_is_not_as_it_was_packed_is_packed_again(folder, harm):
    pack(ONE, b"packed")
    harm(packed_file(folder, ONE))
    with packed_weights(ONE) as packed:
        assert packed.file.name.endswith(".partial") and not packed.file.exists()
        packed.file.write_bytes(b"anew")
    assert pack(ONE, b"third").read_bytes() == b"anew"


def test_a_file_that_was_only_touched_is_read_once_and_kept(folder, monkeypatch):
    pack(ONE, b"packed")
    complete = packed_file(folder, ONE)
    os.utime(complete, ns=(1, 1))
    hashed = []
    plain = weight_cache.hash_file
    monkeypatch.setattr(weight_cache, "hash_file", lambda path: hashed.append(path) or plain(path))
    assert [pack(ONE, b"other").read_bytes() for _ in range(2)] == [b"packed"] * 2
    assert hashed == [complete]


def test_a_failed_load_leaves_nothing(folder):
    with pytest.raises(RuntimeError), packed_weights(ONE) as packed:
        packed.file.write_bytes(b"half")
        raise RuntimeError
    assert files(folder) == []


def test_what_the_dead_left_goes_and_what_the_living_pack_stays(folder):
    folder.mkdir()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    litter = [folder / f"{ONE}.x.cache.{pid}.partial" for pid in (dead.pid, "nonsense")]
    living = folder / f"{OTHER}.x.cache.{os.getppid()}.partial"
    for path in (*litter, living):
        path.write_bytes(b"half")
    (folder / f"{OTHER}.x.cache.json").write_text("{}")  # a note without its file
    assert pack(ONE, b"whole") not in litter
    assert files(folder) == sorted([packed_file(folder, ONE).name, note_of(packed_file(folder, ONE)).name, living.name])


def test_least_recently_used_files_go(folder, monkeypatch):
    monkeypatch.setattr(weight_cache, "KEPT", 2)
    for age, name in enumerate("abc"):
        pack(name * 64, b"x")
        os.utime(note_of(packed_file(folder, name * 64)), (1000 + age, 1000 + age))
    pack("d" * 64, b"x")
    assert [name[0] for name in files(folder)] == ["c", "c", "d", "d"]


def test_no_folder_means_no_cache(monkeypatch):
    monkeypatch.setattr(weight_cache, "cache_folder", lambda: None)
    with packed_weights(ONE) as packed:
        assert packed.file is None and packed.note == ""


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_without_room_weights_stay_in_memory_and_it_is_said(folder, monkeypatch, reason):
    def full(*_):
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with packed_weights(ONE, 100 * MIB) as packed:
        assert packed.file is None and "has no room for 123.0 MiB" in packed.note and "XDG_CACHE_HOME" in packed.note
    assert files(folder) == []


def test_where_room_cannot_be_taken_the_disk_is_asked(folder, monkeypatch):
    def cannot(*_):
        raise OSError(errno.EOPNOTSUPP, "not here")

    monkeypatch.setattr(os, "posix_fallocate", cannot)
    with packed_weights(ONE, MIB) as packed:
        assert packed.file is not None
    with packed_weights(ONE, 1 << 60) as packed:
        assert packed.file is None and packed.note


def test_a_note_that_cannot_be_written_costs_a_packing_and_no_more(folder, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(weight_cache, "write_note", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
        pack(ONE, b"packed")
    assert files(folder) == []


GENERATE = "from firsttoken.cli import main; main()"


def generate(bundle: Path, cache: Path, *before: str):
    return subprocess.run(
        [sys.executable, "-c", "; ".join([*before, GENERATE]), "generate", bundle, "--prompt", "def f(x):", "--raw", "--max-tokens", "8"],
        capture_output=True,
        text=True,
        env={**os.environ, "XDG_CACHE_HOME": str(cache)},
    )


@pytest.fixture
def bundle(demo_bundle):
    return demo_bundle("tflite-xnnpack")


def test_a_damaged_file_changes_no_answer(bundle, tmp_path):
    """The real runtime, which notices nothing by itself."""
    good = generate(bundle, tmp_path)
    [packed] = (tmp_path / "firsttoken/xnnpack").glob("*.cache")
    content = bytearray(packed.read_bytes())
    for place in range(len(content) // 2, len(content) // 2 + 100_000):
        content[place] ^= 0x5A
    packed.write_bytes(content)
    again = generate(bundle, tmp_path)
    assert good.returncode == again.returncode == 0 and again.stdout == good.stdout
    assert json.loads(note_of(packed).read_text())["facts"] == weight_cache.facts_of(packed), "packed anew"


def test_a_full_disk_is_a_note_and_an_answer_and_room_is_used_again(bundle, tmp_path):
    good = generate(bundle, tmp_path / "good")
    with small_disk(tmp_path / "disk", 3 * MIB) as disk:
        for _ in range(2):
            full = generate(bundle, disk)
            assert full.returncode == 0 and full.stdout == good.stdout, full.stderr
            assert "note: packed weights are kept in memory" in full.stderr and full.stderr.count("\n") == 2
            assert list((disk / "firsttoken/xnnpack").iterdir()) == []
        subprocess.run(["mount", "-o", f"remount,size={30 * MIB}", disk], check=True)
        assert "kept in memory" not in generate(bundle, disk).stderr
        assert len(list((disk / "firsttoken/xnnpack").iterdir())) == 2


def test_a_limit_on_the_size_of_files_is_no_death(bundle, tmp_path):
    """The runtime's file in memory counts as one."""
    limited = generate(bundle, tmp_path, "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (3000000, 3000000))")
    assert limited.returncode == 0 and "kept in memory" in limited.stderr and limited.stderr.count("\n") == 2, limited.stderr
    assert limited.stdout == generate(bundle, tmp_path).stdout


def test_a_packer_that_dies_of_a_full_disk_is_told_and_does_not_fill_it_for_good(bundle, tmp_path):
    """The disk fills up after the room was looked for."""
    blind = "from firsttoken.backends.tflite import weight_cache; weight_cache.has_room = lambda *_: True"
    with small_disk(tmp_path / "disk", 3 * MIB) as disk:
        died = generate(bundle, disk, blind)
        assert died.returncode > 128 and died.stdout == ""
        assert re.fullmatch(r"error: loading .*model.tflite: a native library ended firsttoken \(SIG.*disk full.*\n", died.stderr)
        assert free_bytes(disk) < MIB
        again = generate(bundle, disk)
        assert again.returncode == 0 and list((disk / "firsttoken/xnnpack").iterdir()) == []
        assert free_bytes(disk) > 2 * MIB


def test_a_proof_does_not_read_what_was_kept(bundle, tmp_path, monkeypatch):
    from firsttoken.run.open import open_runner

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kept = tmp_path / "firsttoken/xnnpack"
    open_runner(bundle, 1, kept=False).close()
    assert not kept.exists() or not list(kept.iterdir())
    open_runner(bundle, 1).close()
    assert len(list(kept.iterdir())) == 2
