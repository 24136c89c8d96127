"""Folders that set-up scripts fill: a part is there whole or not at all, and what was interrupted is cleared away."""

import pytest

from firsttoken.errors import FirstTokenError
from firsttoken.setup_folder import STAMP, building_in, command_of, folder_of, need_room, put_in_place


def test_a_part_replaces_an_older_one_whole(tmp_path):
    place = tmp_path / "folder"
    (place / "part").mkdir(parents=True)
    (place / "part" / "old").write_text("1")
    (place / ".building-abandoned").mkdir()
    with building_in(place) as scratch:
        assert scratch.parent == place and not (place / ".building-abandoned").exists()
        (scratch / "part").mkdir()
        (scratch / "part" / "new").write_text("2")
        assert (place / "part" / "old").exists(), "until the new one is complete"
        put_in_place(scratch / "part", place / "part", "made from x\n")
    assert {path.name for path in (place / "part").iterdir()} == {"new", STAMP}
    assert (place / "part" / STAMP).read_text() == "made from x\n"
    assert {path.name for path in place.iterdir()} == {"part", ".lock"}


def test_an_interrupted_run_leaves_the_older_part(tmp_path):
    (tmp_path / "part").mkdir()
    with pytest.raises(KeyboardInterrupt), building_in(tmp_path) as scratch:
        (scratch / "part").mkdir()
        raise KeyboardInterrupt
    assert {path.name for path in tmp_path.iterdir()} == {"part", ".lock"}


def test_where_it_is_and_what_it_needs(tmp_path, monkeypatch):
    monkeypatch.setenv("FIRSTTOKEN_X", str(tmp_path / "x"))
    assert folder_of("FIRSTTOKEN_X", "x", "x") == tmp_path / "x"
    monkeypatch.delenv("FIRSTTOKEN_X")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert folder_of("FIRSTTOKEN_X", "x", "x") == tmp_path / "firsttoken" / "x"
    need_room(tmp_path / "not" / "there", 1, "FIRSTTOKEN_X")
    with pytest.raises(FirstTokenError, match="are needed while setting up; free some space, or name another folder in FIRSTTOKEN_X"):
        need_room(tmp_path, 1 << 60, "FIRSTTOKEN_X")
    assert command_of("setup_gpu", "firsttoken.gpu.setup").endswith("scripts/setup_gpu")
    assert command_of("setup_nothing", "firsttoken.x") == "python -m firsttoken.x"
