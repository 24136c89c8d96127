#!/usr/bin/env python3
"""Peak memory of training steps as measured, beside what `firsttoken distill estimate` says.

    scripts/benchmarks/training_memory.py [--checkpoints demo smollm2] [--cases plain checkpointing …]

A process for each case: resident memory after everything is imported, then the highest it gets in three steps of the run's own
trainer (VmHWM, reset before them; freed memory goes back to the system at once, or, with --kept, stays as in every run). The student is the teacher with half its layers.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

CASES = {
    "plain": {},
    "checkpointing": {"training.gradient_checkpointing": True},
    "accumulated": {"training.micro_batch": 2},
    "bfloat16": {"teacher.0.dtype": "bfloat16", "training.precision": "bf16"},
    "student in bfloat16": {"teacher.0.dtype": "bfloat16", "student.dtype": "bfloat16"},
    "whole logits": {"training.head_chunk": 100_000},
    "layers compared": {"loss": [{"kind": "forward_kl"}, {"kind": "hidden_l2"}]},
    "attention compared": {"loss": [{"kind": "attention"}]},
    "documents apart": {"data.attend_across_documents": False},
}
SIZES = {"demo": (8, 512), "smollm2": (4, 256)}  # sequences a step, tokens
FREE = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}


def recipe_of(checkpoint, case, folder):
    """The recipe of a case, as a dictionary."""
    batch, length = SIZES[checkpoint]
    values = {
        "summary": case,
        "teacher": [{"checkpoint": "{demo}/checkpoint" if checkpoint == "demo" else checkpoint}],
        "student": {"cut": {"layers": {"demo": 3, "smollm2": 15}[checkpoint]}},
        "data": {"train": [{"files": [str(folder / "text.txt")]}], "held_out": [str(folder / "text.txt")], "length": length, "held_out_windows": 2},
        "loss": [{"kind": "forward_kl"}, {"kind": "cross_entropy"}],
        "training": {"steps": 3, "batch": batch},
    }  # fmt: skip
    for name, value in CASES[case].items():
        *path, last = name.split(".")
        place = values
        for part in path:
            place = place[int(part)] if part.isdigit() else place[part]
        place[last] = value
    return values


def status(name):
    return int(re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text()).group(1)) * 1024


def measure(values, folder):
    """In a process of its own: bytes of a training at its peak, and the estimate's."""
    from transformers import TrainerCallback
    from transformers.trainer_callback import PrinterCallback

    from firsttoken.distill.memory import Machine, estimate
    from firsttoken.distill.models import need_transformers
    from firsttoken.distill.recipe import check_recipe
    from firsttoken.distill.running import DistillRun
    from firsttoken.distill.students import first_student, plan_stages
    from firsttoken.distill.trainer import DistillationTrainer, WindowItems

    class Peak(TrainerCallback):
        def on_train_begin(self, *_, **__):
            Path("/proc/self/clear_refs").write_text("5")

        def on_step_end(self, *_, **__):
            self.bytes = status("VmHWM")

    need_transformers()
    recipe = check_recipe(values)
    found = estimate(recipe, Machine(gpu=False))
    empty = status("VmRSS")
    run = DistillRun(recipe, folder / "student", "", True, lambda: nullcontext(lambda *_: None), lambda _line: None)
    [stage] = plan_stages(recipe)
    model = first_student(recipe, run.attention).train()
    from firsttoken.distill.models import DTYPES
    from firsttoken.distill.students import cut_model

    model = cut_model(model, recipe, stage.sizes, run.train.first(2), run.attention).train().to(DTYPES[recipe.student.dtype])
    if recipe.training.gradient_checkpointing:
        model.activation_checkpointing_enable()
    peak, items = Peak(), WindowItems(run.train)
    trainer = DistillationTrainer(
        run.objective(model, recipe, run.teachers), recipe, items, WindowItems(run.held_out), folder / "steps", 3, [peak]
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    print(json.dumps({"measured": peak.bytes - empty, "estimated": found.training}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--kept", action="store_true", help="freed memory stays with the process, as in every run")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        measure(json.loads(options.child[0]), Path(options.child[1]))
        return
    from firsttoken.demo import held_out_text

    print("| | estimated, MB | measured, MB | estimated / measured |\n|:--|--:|--:|--:|")
    for checkpoint in options.checkpoints:
        for case in options.cases:
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                (folder / "text.txt").write_text(held_out_text()[:60_000], encoding="utf-8")
                command = [sys.executable, __file__, "--child", json.dumps(recipe_of(checkpoint, case, folder)), name]
                done = subprocess.run(command, env={**os.environ, **({} if options.kept else FREE)}, capture_output=True, text=True)
            if done.returncode:
                sys.exit(done.stderr)
            found = json.loads(done.stdout.splitlines()[-1])
            estimated, measured = found["estimated"] / 1e6, found["measured"] / 1e6
            print(f"| {checkpoint}, {case} | {estimated:,.0f} | {measured:,.0f} | {estimated / measured:.2f} |", flush=True)


if __name__ == "__main__":
    main()
