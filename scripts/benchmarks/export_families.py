#!/usr/bin/env python3
"""Export of a 1B and a 7B shape of newer families (gemma3-1b, olmo2-7b): seconds and peak memory, on both runtimes.

Random weights, written by make_checkpoint.py (2 and 15 GB); no proof, whose cost is measured by export_tflite.py. Each export is a fresh
process with the checkpoint in the page cache as far as it fits; the bundle is removed afterwards.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from export_tflite import export_ours
from measure_process import MIB, arguments, publish, require_checkpoint, table

SHAPES = ("gemma3-1b", "olmo2-7b")
TARGETS = ("tflite-xnnpack", "executorch-xnnpack")


def main():
    parser = arguments(__doc__)
    parser.add_argument("--shapes", nargs="+", default=SHAPES, choices=SHAPES, help="shapes to export (default: both)")
    parser.add_argument("--targets", nargs="+", default=TARGETS, choices=TARGETS, help="targets to export for (default: both)")
    parser.add_argument("--plan", default="int8", help="(default: int8)")
    parser.add_argument("--clean", action="store_true", help="remove each checkpoint when it is done")
    options = parser.parse_args()
    rows, data = [], {}
    for shape in options.shapes:
        if not (options.work / "checkpoints" / shape).is_dir():
            subprocess.run([sys.executable, Path(__file__).with_name("make_checkpoint.py"), shape, "--work", options.work], check=True)
        checkpoint = require_checkpoint(options.work, shape)
        weights = sum(file.stat().st_size for file in checkpoint.glob("*.safetensors"))
        for target in options.targets:
            measured = export_ours(options.work, checkpoint, target, options.plan, options.quiet)
            bundle = options.work / "exports" / f"{shape}-{options.plan}" / target
            size = sum(file.stat().st_size for file in bundle.glob("model.*"))
            rows.append([
                shape, target.removesuffix("-xnnpack"), f"{weights / MIB:.0f}", f"{size / MIB:.0f}", f"{measured.seconds:.1f}",
                f"{measured.cpu_seconds:.1f}", f"{measured.peak_rss / MIB:.0f}", f"{measured.other_load:.2f}",
            ])  # fmt: skip
            data[f"{shape} {target}"] = measured
            print(" | ".join(rows[-1]), flush=True)
            shutil.rmtree(bundle.parent)
        if options.clean:
            shutil.rmtree(checkpoint)
    header = ["shape", "runtime", "weights MiB", "artifact MiB", "time s", "CPU s", "peak RSS MiB", "cores busy with others"]
    publish(options.work, "export_families", [table(header, rows)], {"export_families": data})


if __name__ == "__main__":
    main()
