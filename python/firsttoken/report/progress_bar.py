"""A progress bar for work that takes longer than a glance, on standard error."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from firsttoken.progress import Report, silent

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

PATIENCE_SECONDS = 1.0  # work done sooner shows no bar
REFRESH_SECONDS = 0.1


@contextmanager
def progress_bar() -> Iterator[Report]:
    """Yields a `Report` that shows stage, share, rate and time left; nothing where standard error is not a terminal."""
    if not sys.stderr.isatty():
        yield silent
        return
    bar = _Bar()
    try:
        yield bar.report
    finally:
        bar.stop()


class _Bar:
    """Starts rich (an import of its own) only once the work has taken `PATIENCE_SECONDS`."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.drawn = 0.0
        self.stage_name: str | None = None
        self.progress: Progress | None = None
        self.task: TaskID | None = None
        # a copy, since `quiet_runtime` turns descriptor 2 away while libraries work
        self.stream = os.fdopen(os.dup(2), "w", encoding="utf-8", errors="replace")

    def report(self, stage: str, done: float, total: float, unit: str) -> None:
        now = time.monotonic()
        if now - self.started < PATIENCE_SECONDS or (stage == self.stage_name and done < total and now - self.drawn < REFRESH_SECONDS):
            return
        self.drawn = now
        progress = self.progress = self.progress or self._started()
        if self.task is None or stage != self.stage_name:
            if self.task is not None:
                progress.remove_task(self.task)
            self.task, self.stage_name = progress.add_task(stage, total=total, amount=""), stage
        speed = progress.tasks[progress.task_ids.index(self.task)].speed or 0.0
        progress.update(self.task, completed=done, total=total, amount=_amount(done, total, unit, speed))

    def _started(self) -> Progress:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[amount]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        progress = Progress(*columns, console=Console(file=self.stream), transient=True)
        progress.start()
        return progress

    def stop(self) -> None:
        if self.progress is not None:
            self.progress.stop()
        self.stream.close()


def _amount(done: float, total: float, unit: str, speed: float) -> str:
    if unit in ("B", "bytes"):
        rate = f", {speed / 1e6:.0f} MB/s" if speed else ""
        return f"{done / 1e6:.0f} of {total / 1e6:.0f} MB{rate}"
    rate = f", {speed:.0f} {unit}/s" if speed >= 10 else f", {speed:.1f} {unit}/s" if speed else ""
    return f"{done:.0f} of {total:.0f} {unit}{rate}"
