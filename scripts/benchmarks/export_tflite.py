#!/usr/bin/env python3
"""Export to .tflite: firsttoken against the stock `litert-torch export_hf`, on the same generated checkpoint.

Both make what a phone needs for prompts up to 512 and a cache of 1280, INT8 weights with dynamic activations (the
stock default recipe, our plan int8), each in a fresh process with the checkpoint in the page cache. Figures are wall
time and peak resident memory of the whole process, imports included. Neither side checks its numbers here; what our
proof costs on top is the row "with proof" (random weights miss the proof's gate, which costs the same time).

The stock command needs TensorFlow: pip install litert-torch==0.10.0 tensorflow-cpu==2.21.0 (--stock-python may name
another environment's Python).
"""

import json
import shutil
import statistics
import sys
from pathlib import Path

from measure_process import MIB, Measured, Quiet, arguments, publish, require_checkpoint, run_measured, table, wait_for_quiet

OURS = [sys.executable, "-c", "from firsttoken.cli import main; main()", "export"]
GATE_MISSED = 3  # exit status


def read_through(folder: Path):
    """Brings a folder's files into the page cache."""
    for path in folder.iterdir():
        with open(path, "rb") as stream:
            while stream.read(16 * MIB):
                pass


def export_ours(work: Path, checkpoint: Path, target: str, plan: str | Path, quiet: Quiet, prove: bool = False) -> Measured:
    """Runs `firsttoken export`. The bundle stays under exports/; a proven one, which random weights fail, does not."""
    out = work / "exports" / (f"{checkpoint.name}-{Path(plan).stem}" + ("-proven" if prove else ""))
    read_through(checkpoint)
    wait_for_quiet(quiet)
    command = [*OURS, checkpoint, "--plan", plan, "--target", target, "-o", out, "--force", *([] if prove else ["--no-prove"])]
    measured = run_measured(command, work / "logs" / f"export-{target}-{out.name}.log", accepted=(0, GATE_MISSED) if prove else (0,))
    if prove:
        shutil.rmtree(out)
    return measured


def export_stock(work: Path, python: str | Path, checkpoint: Path, reuse: bool, quiet: Quiet) -> Measured:
    """Runs `litert-torch export_hf`, or returns what an earlier run recorded beside its output."""
    out = work / "exports" / f"{checkpoint.name}-litert-torch"
    record = out / "measured.json"
    if reuse and record.is_file():
        return Measured(**json.loads(record.read_text()))
    shutil.rmtree(out, ignore_errors=True)
    read_through(checkpoint)
    wait_for_quiet(quiet)
    options = [
        f"--model={checkpoint}",
        f"--output_dir={out}",
        "--prefill_lengths=[128,512]",
        "--cache_length=1280",
        "--quantization_recipe=dynamic_wi8_afp32",
    ]
    measured = run_measured(
        [python, "-m", "litert_torch.cli", "export_hf", *options], work / "logs" / f"export-litert-torch-{checkpoint.name}.log"
    )
    record.write_text(json.dumps(vars(measured)))
    return measured


def main():
    parser = arguments(__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="runs of our side, of which the median counts (default: 3)")
    parser.add_argument("--reuse", action="store_true", help="keep the stock export and its figures of an earlier run")
    parser.add_argument(
        "--stock-python",
        type=lambda text: Path(text).absolute(),
        default=sys.executable,
        metavar="PYTHON",
        help="Python that has litert-torch and TensorFlow (default: this one)",
    )
    options = parser.parse_args()
    work = options.work
    small, large = require_checkpoint(work, "qwen-0.5b"), require_checkpoint(work, "qwen-1.5b")

    def ours(checkpoint: Path, prove: bool = False) -> Measured:
        return export_ours(work, checkpoint, "tflite-xnnpack", "int8", options.quiet, prove)

    runs = [ours(small) for _ in range(options.repeats)]
    proven = [ours(small, prove=True)]
    stock = export_stock(work, options.stock_python, small, options.reuse, options.quiet)
    runs_large = [ours(large) for _ in range(options.repeats)]

    def row(name: str, measured: list[Measured]) -> list[str]:
        seconds, peak = statistics.median(m.seconds for m in measured), max(m.peak_rss for m in measured)
        cpu = statistics.median(m.cpu_seconds for m in measured)
        return [
            name,
            f"{seconds:.1f}",
            f"{cpu:.1f}",
            f"{peak / MIB:.0f}",
            f"{seconds / stock.seconds:.3f}×",
            f"{peak / stock.peak_rss:.3f}×",
        ]

    rows = [
        row("litert-torch export_hf, 0.5B shape", [stock]), row("firsttoken export, 0.5B shape", runs), row("firsttoken export with proof, 0.5B shape", proven),
        row("firsttoken export, 1.5B shape", runs_large),
    ]  # fmt: skip
    growth = max(m.peak_rss for m in runs_large) / max(m.peak_rss for m in runs)
    facts = f"Our peak memory, 1.5B against 0.5B: {growth:.2f}×. Cores kept busy by others during the stock run: {stock.other_load:.2f}, ours: {max(m.other_load for m in runs):.2f}."
    publish(
        work, "export_tflite", [table(["export to .tflite, INT8", "time s", "CPU s", "peak RSS MiB", "time / stock", "RSS / stock"], rows), facts],
        {"stock": stock, "ours": runs, "ours_proven": proven, "ours_1.5b": runs_large},
    )  # fmt: skip


if __name__ == "__main__":
    main()
