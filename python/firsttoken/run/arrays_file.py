"""Arrays in an ``.npz``, stored as they are: its checksums find damage, and nothing of a stranger's is taken before its place, type and size are as they must be."""

import io
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from firsttoken import plain_file
from firsttoken.atomic_file import write_bytes
from firsttoken.errors import FirstTokenError

MOST_BYTES = 8 << 30  # of a file; a cache of 32,768 tokens of an 8B model takes 4 GiB in FP16
MOST_MEMBERS = 10_000
TYPES = ("float32", "float16", "int32", "int64", "int8", "uint8")


def write_arrays(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes all of them, whole or not at all. Raises `FirstTokenError`."""
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]  # numpy's stubs take every keyword for allow_pickle
    write_bytes(path, content.getvalue())


def read_arrays(path: Path, what: str, expected: str) -> dict[str, np.ndarray]:
    """Reads all of them; ``what`` and ``expected`` are for the message. Raises `FirstTokenError` for anything else, before memory is taken for what is not there."""
    try:
        with plain_file.open_plain(path) as stream:
            plain_file.check_size(stream, path, MOST_BYTES)
            with zipfile.ZipFile(stream) as archive:
                members = archive.infolist()
                if len(members) > MOST_MEMBERS or len({member.filename for member in members}) < len(members):
                    raise ValueError(f"{len(members)} members, or two of one name")
                return {member.filename.removesuffix(".npy"): read_array(archive, member) for member in members}
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError, EOFError) as error:
        why = plain_file.why(error) if isinstance(error, OSError) else str(error)
        raise FirstTokenError(f"{what} {path}: cannot be read ({why}); {expected}") from None


def read_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """Raises `ValueError` for a member that is compressed, or no array that fills it."""
    if member.compress_type != zipfile.ZIP_STORED or not member.filename.endswith(".npy"):
        raise ValueError(f"{member.filename!r} is compressed or no .npy")
    with archive.open(member) as stream:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError(f"{member.filename!r} has another header")
        shape, turned, dtype = np.lib.format.read_array_header_1_0(stream)
        content: Any = stream.read()  # to the end, where its checksum is looked at
    if turned or dtype.name not in TYPES or math.prod(shape) * dtype.itemsize != len(content):
        raise ValueError(f"{member.filename!r} is {dtype} {list(shape)} in {len(content)} bytes")
    return np.frombuffer(content, dtype).reshape(shape)
