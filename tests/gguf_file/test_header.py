"""Headers of GGUF files that lie: every count, length, place and kind in them is a stranger's."""

import os
import struct

import pytest

from firsttoken.errors import FirstTokenError
from firsttoken.gguf_file.header import read_header


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def entry(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def tensor(name: str = "w", shape=(4, 2), kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape) + struct.pack("<IQ", kind, offset)


def file(path, entries=(), tensors=(), data=b"\0" * 32, magic=b"GGUF", version=3, counts=None):
    header = magic + struct.pack("<IQQ", version, *(counts or (len(tensors), len(entries)))) + b"".join([*entries, *tensors])
    path.write_bytes(header + b"\0" * (-len(header) % 32) + data)
    return path


def test_what_is_read(tmp_path):
    entries = [
        entry("a", 4, struct.pack("<I", 7)),
        entry("b", 8, text("größe")),
        entry("c", 9, struct.pack("<IQ", 8, 2) + text("x") + text("y")),
        entry("d", 9, struct.pack("<IQ2f", 6, 2, 1.5, 2.5)),
        entry("e", 7, b"\1"),
    ]
    header = read_header(file(tmp_path / "m.gguf", entries, [tensor()]))
    assert {key: value.tolist() if key == "d" else value for key, value in header.metadata.items()} == {
        "a": 7, "b": "größe", "c": ["x", "y"], "d": [1.5, 2.5], "e": True,
    }  # fmt: skip
    stored = header.tensors["w"]
    assert (stored.shape, stored.dtype, stored.length, stored.offset % 32) == ((2, 4), "F32", 32, 0)


NUMBER = entry("a", 4, struct.pack("<I", 7))
LIES = {
    "another file": ({"magic": b"GGML"}, "does not begin with GGUF"),
    "an old version": ({"version": 1}, "GGUF version 1; expected 2 or 3"),
    "big endian": ({"version": 3 << 24}, "big-endian"),
    "more tensors than there can be": ({"counts": (2**63, 0)}, "claims 9223372036854775808 tensors"),
    "more metadata than there can be": ({"counts": (0, 2**40)}, "metadata entries"),
    "more tensors than there are": ({"counts": (5, 0)}, "expected|truncated"),
    "a key of a terabyte": ({"entries": [struct.pack("<Q", 2**40)]}, "bytes of a key"),
    "a key twice": ({"entries": [NUMBER, NUMBER]}, "'a' appears twice"),
    "a key that is no text": ({"entries": [text(b"\xff\xfe") + struct.pack("<II", 4, 1)]}, "not UTF-8"),
    "an unknown kind": ({"entries": [entry("a", 13, b"")]}, "kind 13"),
    "a list in a list": ({"entries": [entry("a", 9, struct.pack("<IQ", 9, 1) + struct.pack("<IQ", 9, 1) * 100)]}, "kind 9 inside a list"),
    "a list without end": ({"entries": [entry("a", 9, struct.pack("<IQ", 4, 2**62))]}, "items of 'a'"),
    "a text longer than the file": ({"entries": [entry("a", 8, struct.pack("<Q", 10**6))]}, "truncated"),
    "an alignment of three": ({"entries": [entry("general.alignment", 4, struct.pack("<I", 3))]}, "power of two"),
    "an alignment of nothing": ({"entries": [entry("general.alignment", 4, struct.pack("<I", 0))]}, "power of two"),
    "an alignment in words": ({"entries": [entry("general.alignment", 8, text("32"))]}, "power of two"),
    "no dimension": ({"tensors": [tensor(shape=())]}, "0 dimensions"),
    "many dimensions": ({"tensors": [tensor(shape=(1,) * 9)]}, "9 dimensions"),
    "an empty dimension": ({"tensors": [tensor(shape=(4, 0))]}, "impossible shape"),
    "a shape beyond all numbers": ({"tensors": [tensor(shape=(2**62, 2**62))]}, "impossible shape"),
    "a shape that wraps around": ({"tensors": [tensor(shape=(2**32, 2**32, 4))]}, "impossible shape"),
    "an unknown type": ({"tensors": [tensor(kind=77)]}, "type 77, which is not supported"),
    "a type that is not read": ({"tensors": [tensor(kind=20, shape=(32, 1))]}, "IQ4_NL, which is not supported; expected one of F32"),
    "broken blocks": ({"tensors": [tensor(kind=8, shape=(33, 1))]}, "rows of 33 values; Q8_0 is stored in blocks of 32"),
    "an odd place": ({"tensors": [tensor(offset=4)]}, "no multiple of 32"),
    "a place past the end": ({"tensors": [tensor(offset=64)]}, "truncated, tensor 'w'"),
    "a place beyond all numbers": ({"tensors": [tensor(offset=2**64 - 32)]}, "impossible shape or place"),
    "a tensor twice": ({"tensors": [tensor(), tensor(offset=32)], "data": b"\0" * 64}, "'w' appears twice"),
    "two tensors in one place": ({"tensors": [tensor(), tensor("v")]}, "share bytes"),
    "nothing at all": ({"magic": b"", "data": b""}, "."),
}  # fmt: skip


@pytest.mark.parametrize(("lie", "said"), LIES.values(), ids=LIES)
def test_lies_are_named(tmp_path, lie, said):
    with pytest.raises(FirstTokenError, match=said) as raised:
        read_header(file(tmp_path / "m.gguf", **lie))
    assert "m.gguf" in str(raised.value)


def test_every_cut_is_told(tmp_path):
    whole = file(tmp_path / "m.gguf", [NUMBER, entry("b", 9, struct.pack("<IQ", 8, 1) + text("x"))], [tensor()]).read_bytes()
    for length in range(len(whole)):
        (tmp_path / "cut.gguf").write_bytes(whole[:length])
        with pytest.raises(FirstTokenError):
            read_header(tmp_path / "cut.gguf")


@pytest.mark.parametrize("make", [lambda path: os.mkfifo(path), lambda path: path.mkdir(), lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file(tmp_path, make):
    make(tmp_path / "m.gguf")
    with pytest.raises(FirstTokenError, match="expected a plain file"):
        read_header(tmp_path / "m.gguf")
