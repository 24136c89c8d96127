#!/usr/bin/env python3
"""Writes the Unicode tables of the app's tokenizer, as Hugging Face tokenizers has them: asked of the library itself, character by character.

    python scripts/unicode_tables.py            # writes UnicodeTables.kt
    python scripts/unicode_tables.py --check    # says whether it is what the installed library gives

Java's and Android's own tables are of other versions of Unicode, so they put young characters into other categories. Two tables stand in the
library: that of its regular expressions (Oniguruma) and, for Digits, that of Rust's `char::is_numeric`.
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, pre_tokenizers

TABLES = Path(__file__).parents[1] / "android-demo/core/src/main/kotlin/dev/firsttoken/core/tokenizer/UnicodeTables.kt"
END = 0x110000
SURROGATES = (0xD800, 0xE000)
# Cn first: what no other category has.
CATEGORIES = [
    "Cn",
    "Cc",
    "Cf",
    "Co",
    "Cs",
    "Ll",
    "Lm",
    "Lo",
    "Lt",
    "Lu",
    "Mc",
    "Me",
    "Mn",
    "Nd",
    "Nl",
    "No",
    "Pc",
    "Pd",
    "Pe",
    "Pf",
    "Pi",
    "Po",
    "Ps",
    "Sc",
    "Sk",
    "Sm",
    "So",
    "Zl",
    "Zp",
    "Zs",
]
SCRIPTS = [
    "Arabic",
    "Armenian",
    "Bengali",
    "Bopomofo",
    "Common",
    "Cyrillic",
    "Devanagari",
    "Ethiopic",
    "Georgian",
    "Greek",
    "Gujarati",
    "Gurmukhi",
    "Han",
    "Hangul",
    "Hebrew",
    "Hiragana",
    "Inherited",
    "Kannada",
    "Katakana",
    "Khmer",
    "Lao",
    "Latin",
    "Malayalam",
    "Mongolian",
    "Myanmar",
    "Oriya",
    "Sinhala",
    "Tamil",
    "Telugu",
    "Thaana",
    "Thai",
    "Tibetan",
]
# Characters that are assigned, by version: the totals of The Unicode Standard and 65 control characters.
VERSIONS = {143859: "13.0", 144697: "14.0", 149186: "15.0", 149813: "15.1", 154998: "16.0", 159801: "17.0"}
CONTROLS = 65
CODE = """\
package dev.firsttoken.core.tokenizer

/**
 * Unicode's categories and scripts as Hugging Face tokenizers {library} has them, whatever the phone's Android knows.
 *
 * Written by scripts/unicode_tables.py: change nothing here. [VERSION] is that of regular expressions; [NUMERIC] is Rust's table for Digits.
 */
internal object UnicodeTables {{
    const val VERSION = "{version}"

    /** The two letters of each category, in the order of the letters A to Z and a to d in [CATEGORIES]. */
    const val NAMES = "{names}"

    /** From U+0000 on: a letter for the category, and how many characters in a row have it where that is more than one. */
    const val CATEGORIES =
{categories}

    /** From U+0000 on: how many are not in it, how many are, how many are not, … */
    const val NUMERIC =
{numeric}

    /** A name, then as in [NUMERIC]; one after another, with a semicolon between. */
    const val SCRIPTS =
{scripts}
}}
"""
Ranges = list[tuple[int, int]]


def matched(splitter, points: list[int]) -> Ranges:
    """Returns which of ``points``, in their order, a splitter that removes what it matches takes away; as ranges of points, end excluded."""
    left = bytearray(len(points))
    for _, (start, end) in splitter.pre_tokenize_str("".join(map(chr, points))):
        left[start:end] = b"\1" * (end - start)
    return ranges(point for point, kept in zip(points, left, strict=True) if not kept)


def ranges(points: Iterable[int]) -> Ranges:
    found: Ranges = []
    for point in points:
        if found and found[-1][1] == point:
            found[-1] = found[-1][0], point + 1
        else:
            found.append((point, point + 1))
    return found


def having(name: str, points: list[int]) -> Ranges:
    return matched(pre_tokenizers.Split(Regex(rf"\p{{{name}}}+"), "removed"), points)


def numeric(points: list[int]) -> Ranges:
    """What `Digits` cuts off one by one: its pieces of one character whose neighbours would not make it one."""
    digits = pre_tokenizers.Digits(individual_digits=True)
    text = "".join(chr(point) + "a" for point in points)  # a letter between any two: a piece of one character that is no "a" is a digit
    pieces = {start for _, (start, end) in digits.pre_tokenize_str(text) if end - start == 1 and start % 2 == 0}
    return ranges(point for place, point in enumerate(points) if 2 * place in pieces)


def categories() -> bytearray:
    """Returns the category of every character, as its place in `CATEGORIES`."""
    found = bytearray(END)
    found[SURROGATES[0] : SURROGATES[1]] = bytes([CATEGORIES.index("Cs")]) * (SURROGATES[1] - SURROGATES[0])
    whole = [*range(SURROGATES[0]), *range(SURROGATES[1], END)]
    unassigned = having("Cn", whole)
    open_points = set(whole).difference(*(range(*found) for found in unassigned))
    for name in ("Co", "Lo", *(name for name in CATEGORIES if name not in ("Cn", "Cs", "Co", "Lo"))):  # the largest first
        for start, end in having(name, sorted(open_points)):
            found[start:end] = bytes([CATEGORIES.index(name)]) * (end - start)
            open_points.difference_update(range(start, end))
    if open_points:
        sys.exit(f"error: U+{min(open_points):04X} is in no category of tokenizers; expected Oniguruma's")
    return found


def written_categories(of: bytearray) -> str:
    letters = [*"ABCDEFGHIJKLMNOPQRSTUVWXYZabcd"]
    out, start = [], 0
    for place in range(1, END + 1):
        if place == END or of[place] != of[start]:
            out.append(letters[of[start]] + (str(place - start) if place - start > 1 else ""))
            start = place
    return "".join(out)


def written_ranges(of: Ranges) -> str:
    at, out = 0, []
    for start, end in of:
        out += [str(start - at), str(end - start)]
        at = end
    return " ".join(out)


def quoted(text: str, width: int = 140) -> str:
    parts = [text[at : at + width] for at in range(0, len(text), width)]
    return " +\n".join(f'        "{part}"' for part in parts)


def made() -> str:
    """Returns the Kotlin file."""
    import tokenizers

    of = categories()
    points = [point for point in range(END) if of[point] not in (CATEGORIES.index("Cn"), CATEGORIES.index("Co"), CATEGORIES.index("Cs"))]
    total = len(points) - CONTROLS
    version = VERSIONS.get(total) or sys.exit(
        f"error: {total} characters are assigned, which no version of Unicode in {sorted(VERSIONS)} has"
    )
    # scripts and digits of characters that Oniguruma takes for unassigned are asked too: Rust's table may be a younger one
    blocks = [
        point
        for point in range(END)
        if not SURROGATES[0] <= point < SURROGATES[1] and of[point] != CATEGORIES.index("Co") and point < 0x32000
    ]
    return CODE.format(
        library=tokenizers.__version__,
        version=version,
        names="".join(CATEGORIES),
        categories=quoted(written_categories(of)),
        numeric=quoted(written_ranges(numeric(blocks))),
        scripts=quoted(";".join(f"{name} {written_ranges(having(name, points))}" for name in SCRIPTS)),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 where the file is not what the library gives")
    check, text = parser.parse_args().check, made()
    if not check:
        TABLES.write_text(text, encoding="utf-8")
        print(f"{TABLES.name}: {len(text)} bytes")
        return 0
    same = TABLES.read_text(encoding="utf-8") == text
    print(f"{TABLES.name}: {'is' if same else 'is not'} what the installed tokenizers gives")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
