"""A progress bar for work that takes longer than a glance, on standard error."""

import os
import sys
import time
from contextlib import contextmanager

from firsttoken.progress import silent

PATIENCE_SECONDS = 1.0  # work done sooner shows no bar
REFRESH_SECONDS = 0.1


@contextmanager
def progress_bar():
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

    def __init__(self):
        self.started = time.monotonic()
        self.drawn = 0.0
        self.stage_name: str | None = None
        self.progress = None
        self.task = None
        # a copy, since `quiet_runtime` turns descriptor 2 away while libraries work
        self.stream = os.fdopen(os.dup(2), "w", encoding="utf-8", errors="replace")

    def report(self, stage: str, done: float, total: float, unit: str):
        now = time.monotonic()
        if now - self.started < PATIENCE_SECONDS or (stage == self.stage_name and done < total and now - self.drawn < REFRESH_SECONDS):
            return
        self.drawn = now
        if self.progress is None:
            self._start()
        if stage != self.stage_name:
            if self.task is not None:
                self.progress.remove_task(self.task)
            self.task, self.stage_name = self.progress.add_task(stage, total=total, amount=""), stage
        self.progress.update(self.task, completed=done, total=total, amount=self._amount(done, total, unit))

    def _start(self):
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
        self.progress = Progress(*columns, console=Console(file=self.stream), transient=True)
        self.progress.start()

    def _amount(self, done: float, total: float, unit: str) -> str:
        task = next((t for t in self.progress.tasks if t.id == self.task), None)
        speed = (task.speed or 0) if task else 0
        if unit in ("B", "bytes"):
            rate = f", {speed / 1e6:.0f} MB/s" if speed else ""
            return f"{done / 1e6:.0f} of {total / 1e6:.0f} MB{rate}"
        rate = f", {speed:.0f} {unit}/s" if speed >= 10 else f", {speed:.1f} {unit}/s" if speed else ""
        return f"{done:.0f} of {total:.0f} {unit}{rate}"

    def stop(self):
        if self.progress is not None:
            self.progress.stop()
        self.stream.close()
