"""Damaging files by a seed: bytes, and what the bytes mean (JSON values, words of a text), and what lies in the file's place."""

import json
import os
import re
import socket
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any

Mutation = Callable[[bytes, Random], bytes]

ODD_VALUES = (
    None, True, False, 0, -1, 1, 3, 255, 2**31, 2**32, 2**63, 2**64, -(2**63), 10**200, 1.5, -0.0, 1e308, -1e308, 1e-320,
    float("nan"), float("inf"), float("-inf"), "", "x", "12", "true", "\0", "\x1b]0;t\x07\x1b[31m", "\u202eabc", "\ud800", "../../etc/passwd", "A" * 70000,
    "a\nb\r", [], {}, [[]], [None], {"a": {}}, {"": 0}, [1e308] * 40, ["x"] * 40,
)  # fmt: skip
# Spellings that no value of Python's has.
RAW = (
    "1e999", "-1e999", "9" * 310, "9" * 5000, "1" + "0" * 400, "-" + "9" * 400, "-0", "0.1e-400", '"\\ud800"', '"\\u0000"', '"\\u001b[2J"',
    '{"a":1,"a":[2]}', "[" * 900 + "]" * 900, "[" * 200_000 + "]" * 200_000, '{"a":' * 30_000 + "1" + "}" * 30_000, "01", "1.", "nan", "[1,]", "'x'",
)  # fmt: skip
NUMBERS = (
    0,
    1,
    2,
    7,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x10000,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    1 << 40,
    (1 << 63) - 1,
    1 << 63,
    (1 << 64) - 1,
)
WORDS = (
    "1e999", "nan", "inf", "-inf", "-1", "0", "9" * 30, "9" * 400, "9" * 5000, "0x" + "f" * 400, "true", '""', "'''", '"""', "[", "]", "[[", "]]", "{", "}",
    "=", ".", ",", "\n", "\0", "\x1b[31m", "\u202e", "#", '"\\ud800"', '"\\u001b"', "1979-05-27", "1e308", "-1e308", "[" * 3000, "a." * 3000, "{a=" * 2000,
    "{{", "}}", "{%", "%}", "{#", "|", "~", "**", "%", "range(10**9)", "messages", "namespace()", "loop", "lipsum(n=99)", "'x' * 10**10", "10**10",
    "|tojson(indent=10**9)", "|join('x' * 999)", "raise_exception(messages)", "strftime_now('%' * 999)", "''.join", ".__class__", "['__init__']", "[::-1]",
)  # fmt: skip


def mutate_bytes(data: bytes, random: Random) -> bytes:
    """One to eight changes of bits, numbers, stretches and the length."""
    made = bytearray(data)
    for _ in range(random.randint(1, 8)):
        at, length = random.randint(0, len(made)), random.choice((1, 1, 2, 4, 8, 16, 64, 500))
        match random.randrange(8):
            case 0 if at < len(made):
                made[at] ^= 1 << random.randrange(8)
            case 1 if at < len(made):
                made[at] = random.choice((0, 1, 0x7F, 0x80, 0xFF, 0x1B, 0x22, 0x5B, 0x7B, random.randrange(256)))
            case 2:
                made[at:at] = random.randbytes(length)
            case 3:
                del made[at : at + length]
            case 4:
                made[at:at] = made[at : at + length] * random.choice((1, 2, 50))
            case 5 | 6:
                size = random.choice((2, 4, 8))
                at -= at % size  # as numbers lie
                made[at : at + size] = (random.choice(NUMBERS) % (1 << 8 * size)).to_bytes(size, "little")
            case 7 if random.random() < 0.3:
                del made[random.randint(0, len(made)) :]
    return bytes(made)


def mutate_json(data: bytes, random: Random) -> bytes:
    """One to four values put in the place of others, dropped, doubled or renamed; now and then the bytes themselves."""
    if random.random() < 0.15:
        return mutate_bytes(data, random)
    values, raw = json.loads(data), []
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        values = _changed(values, random, raw)
    text = json.dumps(values)
    for number, spelling in enumerate(raw):
        text = text.replace(f'"@{number}@"', spelling)
    return text.encode("utf-8", "surrogatepass")


def _changed(values: Any, random: Random, raw: list[str]) -> Any:
    holder, key = _place(values, random)
    if holder is None:
        return _other(values, random, raw)
    action = random.random()
    if action < 0.12:
        del holder[key]
    elif action < 0.2 and isinstance(holder, dict):
        holder[random.choice((f"{key}x", "", "\x1b[31m", "\ud800", "k" * 5000))] = holder.pop(key)
    elif action < 0.26 and isinstance(holder, list):
        holder.extend(holder[key : key + 1] * random.choice((1, 2, 300)))
    elif action < 0.32:
        holder[key] = random.choice(({"a": holder[key]}, [holder[key]], [holder[key]] * 3, str(holder[key])[:2000]))
    else:
        holder[key] = _other(holder[key], random, raw)
    return values


def _place(values: Any, random: Random) -> tuple[Any, Any]:
    holder, key = None, None
    while isinstance(values, dict | list) and values and (holder is None or random.random() < 0.8):
        holder, key = values, random.choice(list(values)) if isinstance(values, dict) else random.randrange(len(values))
        values = holder[key]
    return holder, key


def _other(value: Any, random: Random, raw: list[str]) -> Any:
    if random.random() < 0.2:
        raw.append(random.choice(RAW))
        return f"@{len(raw) - 1}@"
    if isinstance(value, int | float) and not isinstance(value, bool) and random.random() < 0.5:
        return random.choice((value + 1, value - 1, -value, value * 2, value * 1000003, value // 2))
    if isinstance(value, str) and value and random.random() < 0.3:
        return random.choice((value[:-1], value * 2, value.upper(), value + "\x1b[0m", "/" + value))
    return deepcopy(random.choice(ODD_VALUES))


def mutate_text(data: bytes, random: Random) -> bytes:
    """Words of a text dropped, doubled, moved or replaced by odd ones; now and then the bytes themselves."""
    if random.random() < 0.1:
        return mutate_bytes(data, random)
    words = re.findall(r"\w+|\s+|[^\w\s]", data.decode("utf-8", "replace"))
    for _ in range(random.choice((1, 1, 2, 3, 6))):
        at = random.randrange(len(words) + 1)
        match random.randrange(5):
            case 0:
                del words[at : at + random.choice((1, 1, 3))]
            case 1:
                words[at:at] = words[at : at + 20] * random.choice((1, 3))
            case 2:
                words[at:at] = [random.choice(words)] if words else []
            case 3:
                words[at:at] = [random.choice(WORDS)]
            case 4:
                words[at : at + 1] = [random.choice(WORDS)]
    return "".join(words).encode("utf-8", "surrogatepass")


def mutate_lines(data: bytes, random: Random) -> bytes:
    """One line of JSONL changed as JSON, or the bytes."""
    lines = data.splitlines(keepends=False)
    if random.random() < 0.2 or not lines:
        return mutate_bytes(data, random)
    at = random.randrange(len(lines))
    lines[at] = mutate_json(lines[at], random)
    return b"\n".join(lines) + random.choice((b"\n", b"", b"\r\n", b"\xe2\x80\xa8\n"))


def mutate_safetensors(data: bytes, random: Random) -> bytes:
    """The header changed as JSON with its length put right, or the bytes, most of them near the start."""
    length = int.from_bytes(data[:8], "little")
    if random.random() < 0.3:
        cut = random.choice((8, 8 + length, len(data)))
        return mutate_bytes(data[:cut], random) + data[cut:]
    header = mutate_json(data[8 : 8 + length], random)
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


def put_odd_file(path: Path, random: Random) -> None:
    """Puts something in the place of a file that is no plain file, or an endless, empty or huge one."""
    path.unlink()
    match random.randrange(8):
        case 0:
            os.mkfifo(path)
        case 1:
            path.mkdir()
        case 2:
            path.symlink_to("/dev/zero")
        case 3:
            path.symlink_to(path.name)
        case 4:
            path.symlink_to(random.choice(("/proc/self/mem", "/dev/tty", "/dev/full", "/proc/kmsg", "absent")))
        case 5:
            with open(path, "wb") as stream:
                # an artifact may have gigabytes, and hashing so many takes its time; of other files they are refused by their size
                largest = 300 << 20 if path.suffix in (".pte", ".tflite") else 5 << 30
                stream.truncate(random.choice((0, 1, 65 << 20, largest)))
        case 6:
            path.write_bytes(random.choice((b"", b"\0" * 4096, b"\xff\xfe" * 500, b"[" * 3_000_000)))
        case 7:
            with socket.socket(socket.AF_UNIX) as made:
                # a socket's path may have 107 bytes
                here = os.open(path.parent, os.O_DIRECTORY)
                try:
                    made.bind(f"/proc/self/fd/{here}/{path.name}")
                finally:
                    os.close(here)
