"""scripts/android/pages.py: which memory pages native libraries are made for."""

import struct
import sys
import zipfile

import pytest
from building import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "scripts"))

from android.pages import load_alignment, made_for_smaller, misplaced, verdict


def library(*segments: tuple[int, int]) -> bytes:
    """An ELF file of 64 bits with only program headers, each of a kind and an alignment."""
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 3, 183, 1, 0, 64, 0, 0, 64, 56, len(segments), 0, 0, 0)
    return header + b"".join(struct.pack("<IIQQQQQQ", kind, 5, 0, 0, 0, 0, 0, alignment) for kind, alignment in segments)


def test_the_smallest_of_the_load_segments_counts():
    assert load_alignment(library((1, 0x4000), (1, 0x10000))) == 0x4000
    assert load_alignment(library((6, 8), (1, 0x4000), (1, 0x1000), (2, 8))) == 0x1000


@pytest.mark.parametrize("damaged", [b"", b"\x7fELF", library((1, 0x4000))[:100], b"\x7fELF\x01" + library((1, 0x4000))[5:], library()])
def test_what_cannot_be_read_is_not_taken_for_aligned(damaged):
    assert load_alignment(damaged) == 0


def test_an_apk_is_judged_library_by_library(tmp_path):
    apk = tmp_path / "app.apk"
    with zipfile.ZipFile(apk, "w") as archive:
        archive.writestr("lib/arm64-v8a/large.so", library((1, 0x4000)))
        archive.writestr("lib/arm64-v8a/small.so", library((1, 0x1000)))
        archive.writestr("assets/text", "")
    assert made_for_smaller(apk) == {"lib/arm64-v8a/small.so": 0x1000}
    assert "do not load them: arm64-v8a/small.so (4096 bytes); all others do" in verdict(apk)
    assert misplaced(apk) == ["lib/arm64-v8a/large.so", "lib/arm64-v8a/small.so"]


def test_an_apk_of_aligned_libraries_says_so(tmp_path):
    apk = tmp_path / "app.apk"
    with zipfile.ZipFile(apk, "w") as archive:
        archive.writestr("lib/arm64-v8a/large.so", library((1, 0x4000)))
    assert verdict(apk) == "native libraries: load on phones with memory pages of 4 KiB and of 16 KiB"
