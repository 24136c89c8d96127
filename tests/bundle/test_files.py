"""A bundle folder is complete or absent, whatever happens; its files are checked against its manifest."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from firsttoken import file_hash
from firsttoken.bundle import atomic
from firsttoken.bundle import files as bundle
from firsttoken.bundle.atomic import Staging
from firsttoken.bundle.manifest import FileFacts
from firsttoken.errors import FirstTokenError

KILLER = Path(__file__).with_name("kill_everywhere.py")


def write(folder: Path, version: str):
    for name in ("model.tflite", "manifest.json"):
        (folder / name).write_text(version)


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_a_new_folder_appears_at_the_commit_only(tmp_path):
    with Staging(tmp_path / "a/b/out") as staging:
        write(staging.folder, "one")
        assert not (tmp_path / "a/b/out").exists()
        staging.commit()
    assert (tmp_path / "a/b/out/manifest.json").read_text() == "one"
    assert not hidden(tmp_path / "a/b")


def test_an_error_leaves_nothing_not_even_the_parents(tmp_path):
    with pytest.raises(ZeroDivisionError), Staging(tmp_path / "a/b/out") as staging:
        write(staging.folder, "one")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_replacing_needs_to_be_asked_for(tmp_path):
    for version, replace in (("one", False), ("two", True)):
        with Staging(tmp_path / "out") as staging:
            write(staging.folder, version)
            staging.commit(replace=replace)
    with pytest.raises(FirstTokenError, match="--force"), Staging(tmp_path / "out") as staging:
        write(staging.folder, "three")
        staging.commit()
    assert (tmp_path / "out/manifest.json").read_text() == "two"
    assert not hidden(tmp_path)


@pytest.mark.parametrize("mode", ["exchange", "rename"])
@pytest.mark.parametrize("start", ["new", "replace"])
def test_kill_9_at_every_line(tmp_path, mode, start):
    done = subprocess.run([sys.executable, KILLER, tmp_path, mode, start], capture_output=True, text=True, check=True)
    found = [line.split() for line in done.stdout.splitlines()]
    assert len(found) > 40, "the killer should have met many lines"
    for before, after, litter in found:
        allowed = {"new": {"absent", "new"}, "replace": {"old", "new"}}[start]
        # between the two renames of the fallback the old folder waits under its hidden name
        assert before in allowed | ({"absent"} if mode == "rename" else set())
        assert after in allowed
        assert litter == "-"
    assert {"old" if start == "replace" else "absent", "new"} <= {after for _, after, _ in found}


def test_the_folder_of_a_living_process_is_left_alone(tmp_path):
    program = (
        "import sys, time; from pathlib import Path; from firsttoken.bundle.atomic import Staging\n"
        "staging = Staging(Path(sys.argv[1])); print(staging.folder.name, flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", program, tmp_path / "out"], stdout=subprocess.PIPE, text=True)
    try:
        name = process.stdout.readline().strip()
        atomic.clean(tmp_path)
        assert hidden(tmp_path) == [name]
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    atomic.clean(tmp_path)
    assert hidden(tmp_path) == []


def test_a_reused_process_id_does_not_protect_litter(tmp_path, monkeypatch):
    litter = tmp_path / f".out.firsttoken-{os.getppid()}-00c0ffee.partial"
    litter.mkdir()
    atomic.clean(tmp_path)
    assert litter.exists(), "it may be about to be locked"
    monkeypatch.setattr(time, "time", lambda now=time.time(): now + 3600)
    atomic.clean(tmp_path)
    assert not litter.exists()


def test_only_our_own_hidden_folders_are_removed(tmp_path):
    for name in (".out.firsttoken-1-zzzzzzzz.partial", ".out.tmp", ".firsttoken", "out.firsttoken-999999999-00c0ffee.partial"):
        (tmp_path / name).mkdir()
    before = sorted(tmp_path.iterdir())
    atomic.clean(tmp_path)
    assert sorted(tmp_path.iterdir()) == before


def test_destinations_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/thesis.txt").write_text("")
    (tmp_path / "bundle").mkdir()
    write(tmp_path / "bundle", '{"files": {"model.tflite": {}}}')
    for place, force, message in (
        ("file", True, "is a file"),
        ("file/out", True, "is a file"),
        ("link", True, "dangling link"),
        ("other", True, "will not be replaced"),
        ("bundle", False, "--force"),
    ):
        with pytest.raises(FirstTokenError, match=message):
            bundle.check_destination(tmp_path / place, force)
    for place in ("bundle", "new", "new/deep/down"):
        bundle.check_destination(tmp_path / place, True)
    assert not (tmp_path / "new").exists()


def test_a_place_that_cannot_be_written_is_named():
    with pytest.raises(FirstTokenError, match="/proc/firsttoken.* cannot be written"):
        Staging(Path("/proc/firsttoken/out"))


@pytest.fixture
def written(tmp_path, monkeypatch):
    """A stand-in for a bundle of two files, and those of its files that were hashed."""
    from types import SimpleNamespace

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "model.tflite").write_bytes(b"weights" * 1000)
    (folder / "tokenizer.json").write_text("{}")
    facts = {path.name: FileFacts(sha256=bundle.hash_file(path), bytes=path.stat().st_size) for path in folder.iterdir()}
    hashed = []
    plain = bundle.hash_file
    monkeypatch.setattr(bundle, "hash_file", lambda path, report=None: hashed.append(path.name) or plain(path))
    return folder, SimpleNamespace(files=facts, packed_names=frozenset()), hashed


def test_a_verified_file_is_not_hashed_again_until_it_changes(written):
    folder, manifest, hashed = written
    for _ in range(3):
        bundle.check_files(folder, manifest)
    assert sorted(hashed) == ["model.tflite", "tokenizer.json"]
    moved = folder.with_name("moved")
    folder.rename(moved)
    bundle.check_files(moved, manifest)
    assert len(hashed) == 2, "a bundle that is renamed into place keeps what is known of it"
    path = moved / "model.tflite"
    facts, content = path.stat(), bytearray(path.read_bytes())
    content[3] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))  # hides the change from the times that can be set
    with pytest.raises(FirstTokenError, match="model.tflite: SHA-256"):
        bundle.check_files(moved, manifest)


@pytest.mark.parametrize("name", ["model.tflite", "tokenizer.json"])
def test_a_file_of_another_size_or_gone_is_refused(written, name):
    folder, manifest, _ = written
    (folder / name).write_bytes(b"short")
    with pytest.raises(FirstTokenError, match=f"{name}: 5 bytes, but the manifest says {manifest.files[name].bytes}"):
        bundle.check_files(folder, manifest)
    (folder / name).unlink()
    with pytest.raises(FirstTokenError, match=f"{name} is missing; export again"):
        bundle.check_files(folder, manifest)


def test_without_a_cache_folder_everything_works_and_is_hashed_each_time(written, monkeypatch, tmp_path):
    folder, manifest, hashed = written
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file/cache"))
    assert file_hash.cache_folder() is None
    for _ in range(2):
        bundle.check_files(folder, manifest)
    assert len(hashed) == 4


@pytest.fixture
def finished(tmp_path):
    """A bundle's folder as its manifest says."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "model.tflite").write_text("")
    (folder / "manifest.json").write_text('{"files": {"model.tflite": {}, "tokenizer.json": {}}}')
    return folder


@pytest.mark.parametrize("name", ["notes.txt", ".hidden", "folder/thesis.txt"])
def test_what_firsttoken_did_not_write_is_never_replaced(finished, name):
    bundle.check_destination(finished, force=True)
    (finished / name).parent.mkdir(exist_ok=True)
    (finished / name).write_text("mine")
    with pytest.raises(FirstTokenError, match=f"holds '{name.partition('/')[0]}', which is not the bundle's, and will not be replaced"):
        bundle.check_destination(finished, force=True)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": 3}', '{"files": null}', "\x00"])
def test_a_manifest_that_names_no_files_protects_the_folder(finished, text):
    (finished / "manifest.json").write_text(text)
    with pytest.raises(FirstTokenError, match="names no files"):
        bundle.check_destination(finished, force=True)


def test_rejected_bundles_take_a_name_that_is_free_or_ours(finished, tmp_path):
    destination = tmp_path / "target"
    first, second, third = (tmp_path / f"target.rejected{end}" for end in ("", "-2", "-3"))
    assert bundle.rejected_name(destination) == first
    first.mkdir()
    (first / "notes.txt").write_text("mine")
    assert bundle.rejected_name(destination) == second
    second.symlink_to(finished)
    assert bundle.rejected_name(destination) == third
    finished.rename(third)
    assert bundle.rejected_name(destination) == third, "an earlier rejected bundle is replaced"
    (third / "notes.txt").write_text("mine")
    assert bundle.rejected_name(destination).name == "target.rejected-4"
    assert (first / "notes.txt").read_text() == "mine"
