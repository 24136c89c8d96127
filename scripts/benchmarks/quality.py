#!/usr/bin/env python3
"""What each built-in plan costs in quality, on both runtimes: KL divergence, same top token, perplexity; and what the export takes.

On the demo checkpoint and on SmolLM2-135M-Instruct (`firsttoken get smollm2`, 93 MB): a gate that holds on one model alone says
little. The figures are those of each export's own proof, over the demo's held-out text; "gate" is the plan's bound on the mean.
"""

import json
import shutil
from pathlib import Path

from export_tflite import GATE_MISSED, OURS
from measure_process import MIB, arguments, publish, run_measured, table

TARGETS = ("tflite-xnnpack", "executorch-xnnpack")


def proof_of(work: Path, checkpoint: str | Path, plan: str, target: str) -> dict:
    """Exports with the proof and returns its figures with those of the export; nothing of the bundle is kept."""
    out = work / "exports" / "quality"
    shutil.rmtree(out, ignore_errors=True)
    command = [*OURS, checkpoint, "--plan", plan, "--target", target, "-o", out, "--no-witness"]
    measured = run_measured(command, work / "logs" / f"quality-{Path(plan).stem}-{target}.log", accepted=(0, GATE_MISSED))
    folder = next(f for f in (out / target, out / f"{target}.rejected") if (f / "manifest.json").is_file())
    [artifact] = json.loads((folder / "manifest.json").read_text())["artifacts"]
    found = {
        "size": sum(file.stat().st_size for file in folder.glob("model.*")),
        "seconds": measured.seconds,
        "peak": measured.peak_rss,
        "proof": artifact["proof"],
    }
    shutil.rmtree(out)
    return found


def main():
    from firsttoken.demo import checkpoint_path
    from firsttoken.quant.plan import load_plan, plan_names

    parser = arguments(__doc__)
    parser.add_argument("--plans", nargs="+", default=plan_names(), metavar="PLAN", help="plans to try (default: all that are built in)")
    parser.add_argument(
        "--targets", nargs="+", default=TARGETS, choices=(*TARGETS, "gguf", "onnx-cpu"), help="targets to try (default: the phones')"
    )
    parser.add_argument(
        "--checkpoints", nargs="+", default=["demo", "smollm2"], metavar="NAME|FOLDER", help="what to export (default: demo smollm2)"
    )
    options = parser.parse_args()
    rows, data = [], {}
    for name in options.checkpoints:
        checkpoint = checkpoint_path() if name == "demo" else name
        for plan in options.plans:
            for target in options.targets:
                found = proof_of(options.work, checkpoint, plan, target)
                both, twin = found["proof"]["all"], found["proof"]["twin"]
                rows.append([
                    Path(name).name, Path(plan).stem, target.removesuffix("-xnnpack"), f"{both['mean_kld']:.2g}", f"{load_plan(plan).gate.mean_kld:g}",
                    f"{both['p99_kld']:.2g}", f"{both['same_top']:.2%}", f"{both['perplexity']:.3f}", f"{both['perplexity_change']:+.2%}",
                    f"{both['magnitude_ratio']:.4f}", f"{twin['scale']:.4f}" if twin else "", "yes" if found["proof"]["passed"] else "no",
                    f"{found['size'] / MIB:.1f}", f"{found['seconds']:.0f}", f"{found['peak'] / MIB:.0f}",
                ])  # fmt: skip
                data[f"{name} {plan} {target}"] = found
                print(" | ".join(rows[-1]), flush=True)
    header = [
        "checkpoint", "plan", "runtime", "mean KLD", "gate", "p99", "same top", "perplexity", "change", "magnitude", "of the plan's own", "passed",
        "MiB", "export and proof s", "peak MiB",
    ]  # fmt: skip
    publish(options.work, "quality", [table(header, rows)], {"quality": data})


if __name__ == "__main__":
    main()
