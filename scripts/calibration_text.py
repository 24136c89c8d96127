"""Makes python/firsttoken/calibration/text.txt: prose and code of Python's standard library, none of it of the proof's held-out text.

    .venv/bin/python scripts/calibration_text.py

The file is in the repository, so that everyone calibrates with the same text; another version of Python gives another one. Python is under the
PSF licence, whose text lies beside the demo checkpoint.
"""

import pydoc_data.topics
import re
import sysconfig
from pathlib import Path

from demo_checkpoint_data import read_corpus

from firsttoken.demo import held_out_text
from firsttoken.text_overlap import contaminated, grams

OUTPUT = Path(__file__).resolve().parents[1] / "python/firsttoken/calibration/text.txt"
PIECES, LENGTH = 24, 1400  # of each kind; characters


def whole_lines(text: str) -> str:
    """The first `LENGTH` characters, up to the end of a line."""
    return text[:LENGTH].rpartition("\n")[0] + "\n"


def spread(items: list, count: int) -> list:
    """So many of the items, evenly spread."""
    return [items[n * len(items) // count] for n in range(count)]


def main() -> None:
    forbidden = grams(held_out_text())
    topics = [re.sub(r"\n{3,}", "\n\n", text).strip() for _, text in sorted(pydoc_data.topics.topics.items())]
    prose = [whole_lines(text) for text in topics if len(text) > LENGTH]
    code = [whole_lines(file.text) for file in read_corpus() if not file.held_out and len(file.text) > 4 * LENGTH]
    clean = [[piece for piece in pieces if not contaminated(piece, forbidden)] for pieces in (prose, code)]
    pieces = [piece for both in zip(*(spread(kind, PIECES) for kind in clean), strict=True) for piece in both]
    OUTPUT.write_text("\n".join(pieces), encoding="utf-8")
    print(f"{OUTPUT.name}: {len(pieces)} pieces, {OUTPUT.stat().st_size:,} bytes, Python {sysconfig.get_python_version()}")


if __name__ == "__main__":
    main()
