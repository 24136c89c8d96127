#!/usr/bin/env python3
"""Export to .pte: firsttoken against ExecuTorch's stock export_llm, on the same generated checkpoint.

The checkpoint is the Llama-class one without biases, since export_llm's Qwen class wants a package that is not on the
index. Stock recipe: 8da4w in groups of 128, INT8 embedding, KV cache, custom SDPA, XNNPACK with extended operators,
context 1280, weights from consolidated.pth. Like for like is our plan int4-group128.toml beside this script; our int8
plan is shown with it (export_llm's own int8 mode does not lower). Fresh processes, checkpoints in the page cache;
neither side checks its numbers here.
"""

import json
import shutil
import statistics
import sys
from pathlib import Path

from export_tflite import export_ours, read_through
from measure_process import MIB, Measured, Quiet, arguments, publish, require_checkpoint, run_measured, table, wait_for_quiet

INT4 = Path(__file__).resolve().parent / "int4-group128.toml"
STOCK = "export_llm"


def export_stock(work: Path, checkpoint: Path, reuse: bool, quiet: Quiet) -> Measured:
    """Runs export_llm, or returns what an earlier run recorded beside its output."""
    out = work / "exports" / f"{checkpoint.name}-{STOCK}"
    record = out / "measured.json"
    if reuse and record.is_file():
        return Measured(**json.loads(record.read_text()))
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    read_through(checkpoint)
    wait_for_quiet(quiet)
    settings = {
        "base.model_class": "llama3", "base.checkpoint": checkpoint / "consolidated.pth", "base.params": checkpoint / "params.json",
        "model.use_kv_cache": True, "model.use_sdpa_with_kv_cache": True, "model.dtype_override": "fp32",
        "quantization.qmode": "8da4w", "quantization.group_size": 128, "quantization.embedding_quantize": '"8,0"',
        "backend.xnnpack.enabled": True, "backend.xnnpack.extended_ops": True,
        "export.max_seq_length": 1280, "export.max_context_length": 1280, "export.output_dir": out, "export.output_name": out / "model.pte",  # a bare name is written to the working folder
        "hydra.run.dir": work / "logs" / "hydra",
    }  # fmt: skip
    command = [sys.executable, "-m", "executorch.extension.llm.export.export_llm", *(f"{key}={value}" for key, value in settings.items())]
    measured = run_measured(command, work / "logs" / f"export-{STOCK}-{checkpoint.name}.log")
    record.write_text(json.dumps(vars(measured)))
    return measured


def main():
    parser = arguments(__doc__)
    parser.add_argument("--repeats", type=int, default=1, help="runs of our side, of which the median counts (default: 1)")
    parser.add_argument(
        "--reuse", action="store_true", help="keep the stock export and its figures of an earlier run (it takes ten minutes)"
    )
    options = parser.parse_args()
    work = options.work
    checkpoint = require_checkpoint(work, "llama-0.5b")
    runs = {
        plan: [export_ours(work, checkpoint, "executorch-xnnpack", plan, options.quiet) for _ in range(options.repeats)]
        for plan in (str(INT4), "int8")
    }  # fmt: skip
    stock = export_stock(work, checkpoint, options.reuse, options.quiet)

    def row(name: str, measured: list[Measured], artifact: Path) -> list[str]:
        seconds, peak = statistics.median(m.seconds for m in measured), max(m.peak_rss for m in measured)
        cpu = statistics.median(m.cpu_seconds for m in measured)
        size = artifact.stat().st_size / MIB
        return [
            name,
            f"{seconds:.0f}",
            f"{cpu:.0f}",
            f"{peak / MIB:.0f}",
            f"{size:.0f}",
            f"{seconds / stock.seconds:.2f}×",
            f"{peak / stock.peak_rss:.2f}×",
        ]

    exports = work / "exports"
    rows = [row("export_llm, 8da4w", [stock], exports / f"{checkpoint.name}-{STOCK}" / "model.pte")]
    for plan, measured in runs.items():
        rows.append(
            row(
                f"firsttoken, {Path(plan).stem}",
                measured,
                exports / f"{checkpoint.name}-{Path(plan).stem}" / "executorch-xnnpack" / "model.pte",
            )
        )
    facts = f"Cores kept busy by others during the stock run: {stock.other_load:.2f}, ours: {max(m.other_load for side in runs.values() for m in side):.2f}."
    header = ["export to .pte, 0.5B shape", "time s", "CPU s", "peak RSS MiB", "file MiB", "time / stock", "RSS / stock"]
    publish(work, "export_executorch", [table(header, rows), facts], {"stock": stock, "ours": runs})


if __name__ == "__main__":
    main()
