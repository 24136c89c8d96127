"""What a run shows while it goes: a bar with the loss's parts on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from firsttoken.safe_text import harmless

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

LINES = 20  # where there is no terminal, this many over a stage


class Watch(TrainerCallback):
    """Shows step, loss parts, temperature, speed and time left. ``say`` takes finished lines; ``unit`` is what a step has ``per_step`` of."""

    def __init__(self, stage: str, per_step: int, say: Callable[[str], None], unit: str = "tokens") -> None:
        self.stage, self.per_step, self.say, self.unit = stage, per_step, say, unit
        self.shown: tuple[Progress, TaskID] | None = None
        self.note = ""

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.started, self.first = time.monotonic(), state.global_step
        if state.is_world_process_zero and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

            columns = (
                TextColumn("{task.description}"),
                BarColumn(20),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
            )
            bar = Progress(*columns, console=Console(stderr=True), transient=True)
            bar.start()
            self.shown = bar, bar.add_task(self.stage, total=state.max_steps, completed=state.global_step, note="")

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, float] | None = None, **_: Any
    ) -> None:
        if not logs or not state.is_world_process_zero or "train_runtime" in logs:
            return
        if "eval_cross_entropy" in logs:
            divergence = f", KL divergence from the teacher {logs['eval_kld']:.4f}" if "eval_kld" in logs else ""
            line = f"step {state.global_step}: held-out perplexity {logs['eval_perplexity']:.3f} (cross-entropy {logs['eval_cross_entropy']:.4f}{divergence})"
            self._line(line)
        elif "loss" in logs:
            self.note = self._describe(state, logs)
            if self.shown is None and state.global_step % max(1, state.max_steps // LINES) < args.logging_steps:
                self._line(f"step {state.global_step} of {state.max_steps}: {self.note}, {self._left(state)} left")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.shown is not None:
            bar, task = self.shown
            bar.update(task, completed=state.global_step, note=self.note)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.close()

    def close(self) -> None:
        """Takes the bar away; safe to call twice."""
        if self.shown is not None:
            self.shown[0].stop()
            self.shown = None

    def _describe(self, state: TrainerState, logs: dict[str, float]) -> str:
        parts = " + ".join(f"{name.removeprefix('part_')} {value:.3f}" for name, value in logs.items() if name.startswith("part_"))
        done = state.global_step - self.first
        speed = done * self.per_step / max(1e-9, time.monotonic() - self.started)
        return f"loss {logs['loss']:.3f} ({parts}), T {logs['temperature']:.2f}, {speed:,.0f} {self.unit}/s"

    def _left(self, state: TrainerState) -> str:
        done = max(1, state.global_step - self.first)
        seconds = (time.monotonic() - self.started) / done * (state.max_steps - state.global_step)
        return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s"

    def _line(self, line: str) -> None:
        if self.shown is not None:
            self.shown[0].console.print(harmless(line), highlight=False, markup=False)
        else:
            self.say(line)
