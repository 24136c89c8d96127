"""Watching a bundle in long use: moving averages of TTFT, tokens/s and memory, and a warning when the device slows down.

A token late in a long answer costs more than an early one, and a long prompt more than a short one. So each is compared
with the first ones of its own kind (the same stretch of the cache, nearly the same prompt length), never with the overall start. What a process does before it
is warm belongs to no start: the first answers, and the first tokens of all.
"""

import json
import math
import statistics
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TextIO

from firsttoken.run.generate import Statistics

STRETCH = 64  # positions that count as the same kind
LONGER = 1.15  # times as long a prompt is of another kind
WARM_UP_ANSWERS, WARM_UP_SECONDS = 2, 5.0  # both are over before anything counts as a start
START = {"first_token": 4, "decode": 24}  # the first ones of a kind after that, whose median is its start
SLOWER = 1.1  # times the start from which a warning is given, beyond what noise explains: one of a quarter is told, noise is not (tests/measure/test_monitor.py)
LOOK_BACK = 15.0  # seconds of durations that are held against the start, and more where a slow device had too few in them
FEWEST = {"first_token": 4, "decode": 48}  # of them
FEW, FEW_SCATTER = 12, 0.1  # of fewer than so many the scatter may look smaller than it is; so much is taken at least
NOISE = 3.0  # standard errors of the times the start that count as noise


class Average:
    """The last ``window`` durations of one sort, and how they compare with the start of their kinds."""

    def __init__(self, sort: str, window: int) -> None:
        self.sort, self.window = sort, window
        self.last: deque[tuple[int, int]] = deque(maxlen=window)  # tokens, nanoseconds
        self.recent: deque[tuple[float, int, float]] = deque()  # when, kind, times its start, of the last `LOOK_BACK`
        self.starts: dict[int, list[int]] = {}

    def add(self, place: int, tokens: int, nanoseconds: int, now: float, is_warm: bool) -> None:
        """Adds a duration at ``place`` (a position in the cache, or a prompt's length) that ended ``now``, in seconds of any clock."""
        self.last.append((tokens, nanoseconds))
        kind = place // STRETCH if self.sort == "decode" else int(math.log(max(place, 1), LONGER))
        start = self.starts.setdefault(kind, [])
        if is_warm and len(start) < START[self.sort]:
            start.append(nanoseconds)
        elif is_warm:
            self.recent.append((now, kind, nanoseconds / statistics.median(start)))
        while len(self.recent) > FEWEST[self.sort] and self.recent[0][0] < now - LOOK_BACK:
            self.recent.popleft()

    @property
    def seconds(self) -> float | None:
        """The mean duration in the window."""
        return statistics.fmean(nanoseconds for _, nanoseconds in self.last) / 1e9 if self.last else None

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens in the window over their time."""
        spent = sum(nanoseconds for _, nanoseconds in self.last)
        return sum(tokens for tokens, _ in self.last) / spent * 1e9 if spent else None

    @property
    def times_the_start(self) -> float | None:
        """How many times as long as at the start: the median of the last `LOOK_BACK` seconds, once there are enough."""
        return statistics.median(times for *_, times in self.recent) if len(self.recent) >= FEWEST[self.sort] else None

    @property
    def is_slower(self) -> bool:
        """Whether that is past `SLOWER` by more than noise: the scatter of what was looked at, in a median of so many, against starts of so many
        (1.2533 is a median's standard error over a mean's; 1.4826 times the median deviation estimates a normal distribution's)."""
        if self.times_the_start is None:
            return False
        logs = [math.log(times) for *_, times in self.recent if times > 0]
        middle = statistics.median(logs)
        scatter = max(1.4826 * statistics.median(abs(value - middle) for value in logs), FEW_SCATTER if len(logs) < FEW else 0.0)
        of_starts = sum(len(self.starts[kind]) for kind in {kind for _, kind, _ in self.recent})
        error = 1.2533 * scatter * math.sqrt(1 / len(logs) + 1 / of_starts)
        return middle - NOISE * error > math.log(SLOWER)


class Monitor:
    """Pass `observe` to `firsttoken.run.generate.generate`; each ``interval`` seconds a record goes to ``write``.

    A record is a dict: ``time``, ``seconds`` since the monitor began, ``answers``, ``tokens``, moving averages
    ``first_token_ms`` and ``prompt_tokens`` (last ``answers_window`` answers), ``tokens_per_second`` (last
    ``tokens_window`` decoded tokens), ``memory_mib`` (resident, averaged over the records in the window), the ratios
    ``first_token_times_the_start`` and ``decode_times_the_start``, and ``warning`` while one of them is past `SLOWER` by more than noise.
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
        now = self.clock()
        is_warm = self.answers >= WARM_UP_ANSWERS and now - self.begun >= WARM_UP_SECONDS
        if facts.new_tokens == 1:
            self.answers += 1
            self.first_token.add(facts.prompt_tokens, facts.prompt_tokens, nanoseconds, now, is_warm)
        else:
            self.decode.add(facts.prompt_tokens + facts.new_tokens, 1, nanoseconds, now, is_warm)
        if now - self.written >= self.interval:
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
            "prompt_tokens": _rounded(statistics.fmean(tokens for tokens, _ in self.first_token.last) if self.first_token.last else None),
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
            for name, average in (("the first token", self.first_token), ("decoding", self.decode))
            if (times := average.times_the_start) is not None and average.is_slower
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
