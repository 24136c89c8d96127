"""Dropping files from the page cache, on whatever the test folder's file system can."""

import mmap
from pathlib import Path

import pytest

from firsttoken.measure.page_cache import drop, resident_share


def memory_file_system(folder: Path) -> bool:
    lines = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    mounts = [(len(where), kind) for _, where, kind, *_ in lines if folder.resolve().is_relative_to(where)]
    return max(mounts)[1] in ("tmpfs", "ramfs", "overlay")


def test_a_written_file_is_resident_and_can_be_dropped(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * (4 << 20))
    assert resident_share(path) == 1.0
    if memory_file_system(tmp_path):
        pytest.skip("the test folder lies in memory or on an overlay: nothing can be dropped from there")
    assert drop([path]) == "dropped" and resident_share(path) < 0.02
    path.read_bytes()
    assert resident_share(path) == 1.0


def test_what_another_mapping_holds_is_said_to_be_cached(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * (4 << 20))
    with open(path, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert sum(mapped[:: mmap.PAGESIZE])  # every page is in the page table now
        assert drop([path]) == "cached"


def test_files_that_are_empty_or_absent(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    assert resident_share(tmp_path / "empty") == 0 and drop([tmp_path / "empty"]) == "dropped"
    assert drop([tmp_path / "absent"]) == "unknown"
