"""Only plain files are read, none of them without bounds, and never by waiting."""

import os

import pytest

from firsttoken import plain_file
from firsttoken.plain_file import parse_json, read_bytes, read_text


@pytest.mark.parametrize("kind", ["named pipe", "device", "folder", "made up", "loop"])
def test_what_is_no_plain_file_is_refused_at_once(kind, tmp_path):
    path = tmp_path / "file"
    match kind:
        case "named pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "folder":
            path.mkdir()
        case "made up":
            path.symlink_to("/proc/cpuinfo")
        case "loop":
            path.symlink_to(path)
    with pytest.raises(OSError) as caught:
        read_bytes(path)
    assert {"loop": "symbolic links", "made up": "made up by the system"}.get(kind, f"is a {kind}") in plain_file.why(caught.value)


def test_a_larger_file_than_allowed_is_neither_read_nor_copied(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    assert read_bytes(path, 100) == b"x" * 100
    with pytest.raises(OSError, match="at most"):
        read_bytes(path, 99)
    with pytest.raises(OSError, match="at most"):
        plain_file.copy(path, tmp_path / "copy", 99)
    assert not (tmp_path / "copy").exists()
    plain_file.copy(path, tmp_path / "copy", 100)
    assert (tmp_path / "copy").read_bytes() == path.read_bytes()


def test_reading_takes_memory_for_the_file_and_not_for_the_limit(tmp_path):
    import tracemalloc

    (tmp_path / "file").write_text("small")
    tracemalloc.start()
    try:
        assert read_text(tmp_path / "file", 4 << 30) == "small"
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("text", "said"),
    [("[" * 100_000, "nested too deeply"), ("9" * 301, "301 digits"), ("9" * 5000, "5000 digits"), ("{", "line 1"), (b"\xff", "")],
)
def test_json_that_no_one_means(text, said):
    with pytest.raises(ValueError, match=said):
        parse_json(text)


def test_large_whole_numbers_that_files_hold_are_kept():
    assert parse_json('{"model_max_length": 1000000000000000019884624838656}') == {"model_max_length": int(1e30)}
