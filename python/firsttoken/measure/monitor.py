"""Watching a bundle in long use: moving averages of TTFT, tokens/s and memory, and a warning when the device slows down.

A token late in a long answer costs more than an early one, and a long prompt more than a short one. So each is compared
with the first ones of its own kind (the same stretch of the cache, the same prompt length), never with the overall start.
"""

import json
import statistics
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TextIO

from firsttoken.run.generate import Statistics

STRETCH = 64  # positions or prompt tokens that count as the same kind
START = {"first_token": 2, "decode": 16}  # the first ones of a kind, whose median is its start
SLOWER = 1.25  # times the start from which a warning is given


class Average:
    """The last ``window`` durations of one sort, and how they compare with the start of their kinds."""

    def __init__(self, sort: str, window: int) -> None:
        self.sort, self.window = sort, window
        self.last: deque[tuple[int, int, float | None]] = deque(maxlen=window)  # tokens, nanoseconds, times its start
        self.starts: dict[int, list[int]] = {}

    def add(self, place: int, tokens: int, nanoseconds: int) -> None:
        """Adds a duration at ``place`` (a position in the cache, or a prompt's length)."""
        start = self.starts.setdefault(place // STRETCH, [])
        if len(start) < START[self.sort]:
            start.append(nanoseconds)
            times = None  # still part of the start
        else:
            times = nanoseconds / statistics.median(start)
        self.last.append((tokens, nanoseconds, times))

    @property
    def seconds(self) -> float | None:
        """The mean duration in the window."""
        return statistics.fmean(nanoseconds for _, nanoseconds, _ in self.last) / 1e9 if self.last else None

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens in the window over their time."""
        spent = sum(nanoseconds for _, nanoseconds, _ in self.last)
        return sum(tokens for tokens, _, _ in self.last) / spent * 1e9 if spent else None

    @property
    def times_the_start(self) -> float | None:
        """How many times as long as at the start: the median over the window, once half of it can be compared."""
        known = [times for _, _, times in self.last if times is not None]
        return statistics.median(known) if 2 * len(known) >= self.window else None


class Monitor:
    """Pass `observe` to `firsttoken.run.generate.generate`; each ``interval`` seconds a record goes to ``write``.

    A record is a dict: ``time``, ``seconds`` since the monitor began, ``answers``, ``tokens``, moving averages
    ``first_token_ms`` and ``prompt_tokens`` (last ``answers_window`` answers), ``tokens_per_second`` (last
    ``tokens_window`` decoded tokens), ``memory_mib`` (resident, averaged over the records in the window), the ratios
    ``first_token_times_the_start`` and ``decode_times_the_start``, and ``warning`` while one of them is past 1.25.
    """

    def __init__(
        self,
        write: Callable[[dict], None],
        interval: float = 1.0,
        answers_window: int = 8,
        tokens_window: int = 64,
        clock: Callable[[], float] = time.monotonic,
        memory: Callable[[], int] | None = None,
    ) -> None:
        self.write, self.interval, self.clock = write, interval, clock
        self.memory = memory or resident_memory
        self.first_token, self.decode = Average("first_token", answers_window), Average("decode", tokens_window)
        self.memories: deque[int] = deque(maxlen=answers_window)
        self.begun = self.written = clock()
        self.answers = self.tokens = 0

    def observe(self, facts: Statistics, nanoseconds: int) -> None:
        """Takes one token: the statistics so far and the nanoseconds it took."""
        self.tokens += 1
        if facts.new_tokens == 1:
            self.answers += 1
            self.first_token.add(facts.prompt_tokens, facts.prompt_tokens, nanoseconds)
        else:
            self.decode.add(facts.prompt_tokens + facts.new_tokens, 1, nanoseconds)
        if self.clock() - self.written >= self.interval:
            self.flush()

    def flush(self) -> None:
        """Writes a record now."""
        now = self.clock()
        self.written = now
        self.memories.append(self.memory())
        record = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "seconds": round(now - self.begun, 3),
            "answers": self.answers,
            "tokens": self.tokens,
            "first_token_ms": _rounded(self.first_token.seconds, 1000),
            "prompt_tokens": _rounded(
                statistics.fmean(tokens for tokens, _, _ in self.first_token.last) if self.first_token.last else None
            ),
            "tokens_per_second": _rounded(self.decode.tokens_per_second),
            "memory_mib": _rounded(statistics.fmean(self.memories) / (1 << 20)),
            "first_token_times_the_start": _rounded(self.first_token.times_the_start),
            "decode_times_the_start": _rounded(self.decode.times_the_start),
        }
        if warning := self.warning:
            record["warning"] = warning
        self.write({name: value for name, value in record.items() if value is not None})

    @property
    def warning(self) -> str | None:
        """What has become slow against its own start, in words, or None."""
        parts = [
            f"{name} takes {times:.2f} times as long as at the start"
            for name, times in (("the first token", self.first_token.times_the_start), ("decoding", self.decode.times_the_start))
            if times is not None and times > SLOWER
        ]
        return " and ".join(parts) + "; the device is probably throttling, or something else runs beside" if parts else None


def resident_memory() -> int:
    """Returns the resident memory of this process in bytes."""
    import psutil

    return psutil.Process().memory_info().rss


def line_writer(stream: TextIO) -> Callable[[dict], None]:
    """Returns a function that writes records to ``stream`` as JSON lines, each one at once."""

    def write(record: dict) -> None:
        stream.write(json.dumps(record) + "\n")
        stream.flush()

    return write


def _rounded(value: float | None, scale: float = 1) -> float | None:
    return None if value is None else round(value * scale, 3)
