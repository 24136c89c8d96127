"""Lines that tokenizers stumble over: code, scripts, emoji, whitespace, odd Unicode, special tokens in the text."""

import random
from pathlib import Path

SCRIPTS = {
    "latin": (0xC0, 0x17F), "greek": (0x391, 0x3C9), "cyrillic": (0x410, 0x44F), "armenian": (0x561, 0x586), "hebrew": (0x5D0, 0x5EA),
    "arabic": (0x621, 0x64A), "devanagari": (0x905, 0x94D), "bengali": (0x985, 0x9A8), "tamil": (0xB85, 0xB95), "thai": (0xE01, 0xE4E),
    "georgian": (0x10D0, 0x10F0), "ethiopic": (0x1200, 0x1248), "hiragana": (0x3041, 0x3096), "katakana": (0x30A1, 0x30FA), "han": (0x4E00, 0x9FA5),
    "hangul": (0xAC00, 0xD7A3), "jamo": (0x1100, 0x11C2), "gothic": (0x10330, 0x1034A), "han-b": (0x20000, 0x2A6D6),
    # of Unicode 14 to 17, younger than the tables of Java 17 and of older Androids: letters, marks, digits, and those that even the library lacks
    "vithkuqi": (0x10570, 0x1057A), "latin-g": (0x1DF00, 0x1DF1E), "kawi": (0x11F00, 0x11F59), "han-h": (0x31350, 0x323AF), "garay": (0x10D40, 0x10D85),
    "todhri": (0x105C0, 0x105F3), "symbols": (0x1CC00, 0x1CCF9), "georgian-2": (0x1C89, 0x1C90), "sidetic": (0x10940, 0x10959), "tolong": (0x11DB0, 0x11DE9),
}  # fmt: skip
SPACES = [
    *list(" \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0\u1680\u180e\u2000\u2003\u2007\u200a\u200b\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"),
    "  ",
    "    ",
    "\r\n",
    " \n",
]
EMOJI = ["😀", "👩‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇳🇱", "1️⃣", "❤️", "🫡", "☕", "🧑🏿‍🚀", "\u200d", "\ufe0f"]
ODD = ["a\u0301", "A\u030a", "ﬁ", "ſ", "K", "'ſ", "a'ſt", "'S", "'Ll", "'RE", "İ", "ß", "Ǆ", "½", "²", "Ⅷ", "٣", "१२३", "𝟘𝟙", "㊿", "\u0000", "\x07", "\u00ad", "\u0345", "\u1ab0", "\ufffd", "\uffff", "\ue000",
       "\U0010ffff", "\U000e0041", "\ufdd0", "▁", "▁▁", "<0x41>", "<0x0A>", "Ġ", "Ċ", "“q”", "…", "—", "_", "__init__", "e\u0301\u0302", "\u0958", "\u212b", "가", "가각", "\u0f71\u0f72\u0f74", "\u200c", "—-", "--", "ABC", "the "]  # fmt: skip
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_call>", "<|begin_of_text|>", "<|eot_id|>", "<s>", "</s>", "<unk>", "[INST]", "[/INST]", "<think>", "</think>", "<｜User｜>", "<｜begin▁of▁sentence｜>",
           "<|left|>", "<|right|>", "<|left|><|right|>", "import", "imports", "é!", "e\u0301!", "<|im_", "<", "<|", "<s", "the the"]  # fmt: skip
CONTRACTIONS = [
    "I'm",
    "we'll",
    "they'd",
    "it's",
    "don't",
    "you're",
    "I've",
    "DON'T",
    "x = 3.14159",
    "1234567",
    "0x1F",
    "a,b;c",
    "foo(bar)",
    "user@host.example",
    "https://example.org/a?b=c",
    "C:\\dir",
    "\\n",
    "####",
    "```py",
    "==>",
    "/* */",
]
EMPTY = ["", " ", "  ", "\n", "\n\n", "\t", "a", " a", "a ", "▁", "<s>", "\u3000"]


def lines(count: int, seed: int = 5) -> list[str]:
    """Returns ``count`` lines, the same for the same ``seed``: one part code, three parts put together at random."""
    rng = random.Random(seed)
    made = list(EMPTY)
    made += rng.sample(code(), count // 4)
    while len(made) < count:
        made.append("".join(rng.choice(PIECES)(rng) for _ in range(rng.choice((1, 2, 3, 5, 8, 16)))))
    return made


def code() -> list[str]:
    import json as package

    files = sorted(Path(package.__file__).parent.parent.glob("*.py"))[60:120]
    return [
        line for file in files for line in file.read_text(encoding="utf-8", errors="ignore").splitlines(keepends=True) if len(line) < 300
    ]


def word(rng: random.Random) -> str:
    low, high = SCRIPTS[rng.choice(sorted(SCRIPTS))]
    letters = "".join(chr(rng.randint(low, high)) for _ in range(rng.choice((1, 2, 3, 5, 9))))
    return rng.choice(("", " ")) + letters


def ascii_word(rng: random.Random) -> str:
    return rng.choice(("", " ")) + "".join(
        rng.choice("abcdefghijklmnopqrstuvwxyzABCDEFGXYZ0123456789'-_.,;:!?()[]{}<>|\"") for _ in range(rng.randint(1, 8))
    )


def spaces(rng: random.Random) -> str:
    return "".join(rng.choice(SPACES) for _ in range(rng.choice((1, 1, 2, 3, 7))))


PIECES = [
    word,
    word,
    ascii_word,
    spaces,
    lambda rng: rng.choice(EMOJI),
    lambda rng: rng.choice(ODD),
    lambda rng: rng.choice(SPECIAL),
    lambda rng: " " + rng.choice(CONTRACTIONS),
]
