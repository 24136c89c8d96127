import mmap
import os
import time

import pytest

from firsttoken.backends.tflite.page_advice import read_ahead, read_single_pages
from firsttoken.measure.page_cache import drop, resident_share

SIZE = 8 << 20


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(os.urandom(SIZE))
    os.sync()
    if drop([path]) != "dropped":
        pytest.skip("pages cannot be dropped from this file system's cache")
    return path


def test_single_pages_are_read_of_a_file_that_is_so_mapped(file):
    with open(file, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert read_single_pages(file) == SIZE
        for place in range(SIZE // 4, SIZE, SIZE // 4):
            assert mapped[place] is not None
        assert resident_share(file) == pytest.approx(3 * mmap.PAGESIZE / SIZE)
    assert read_single_pages(file) == 0, "nothing is mapped any more"


def test_a_file_is_read_ahead_and_one_beyond_the_memory_is_not(file, monkeypatch):
    thread = read_ahead(file)
    thread.join(30)
    until = time.monotonic() + 30  # the pages come by themselves
    while resident_share(file) < 0.9 and time.monotonic() < until:
        time.sleep(0.05)
    assert resident_share(file) > 0.9 and read_ahead(file) is None, "it is there already"
    assert drop([file]) == "dropped"
    monkeypatch.setattr("firsttoken.backends.tflite.page_advice.SPARE", 1 << 30)
    assert read_ahead(file) is None and read_ahead(file.with_name("absent")) is None
