#!/usr/bin/env python3
"""The plans among themselves, on both runtimes: first token, decode, file size, memory, and what they cost in quality.

Speed, size and memory on the generated 0.5B shape (qwen-0.5b); mean KL divergence on the trained checkpoint that comes
with firsttoken, since random weights say little of it. Fresh processes of all plans take turns. Memory is the process's peak while
running; "private" is what it does not share with files.

On x86 with INT8 instructions the FP16 parts are expected to cost time against all-INT8.
"""

import json
import shutil
import sys
from pathlib import Path

from export_tflite import GATE_MISSED, OURS, export_ours
from measure_process import (
    ANY_LOAD,
    MIB,
    Side,
    arguments,
    disturbance,
    per_turn,
    publish,
    ratio,
    require_checkpoint,
    run_measured,
    spread,
    table,
    take_turns,
)

HERE = Path(__file__).resolve().parent
PLANS = ("fp32", "int8", "fp16-attention", "fp16-attention-core", "int4")
TARGETS = ("tflite-xnnpack", "executorch-xnnpack")


def demo_proof(work: Path, plan: str, target: str) -> dict:
    """Exports the embedded checkpoint and returns the figures of its proof, prefill and decode together."""
    import firsttoken.demo

    out = work / "exports" / "plans-demo"
    checkpoint = Path(firsttoken.demo.__file__).parent / "checkpoint"
    run_measured(
        [*OURS, checkpoint, "--plan", plan, "--target", target, "-o", out, "--force"],
        work / "logs" / f"plans-demo-{plan}-{target}.log",
        accepted=(0, GATE_MISSED),
    )
    folder = next(f for f in (out / target, out / f"{target}.rejected") if (f / "manifest.json").is_file())
    proof = json.loads((folder / "manifest.json").read_text())["artifacts"][0]["proof"]["all"]
    shutil.rmtree(out)
    return proof


def main():
    parser = arguments(__doc__)
    parser.add_argument(
        "--plans", nargs="+", default=PLANS, metavar="PLAN", help=f"plans to compare, int8 among them (default: {' '.join(PLANS)})"
    )
    parser.add_argument("--targets", nargs="+", default=TARGETS, choices=TARGETS, help="targets to run (default: both)")
    parser.add_argument("--processes", type=int, default=3, help="fresh processes per plan (default: 3)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (default: 5)")
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--decode", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--reuse", action="store_true", help="keep bundles of an earlier run")
    parser.add_argument("--clean", action="store_true", help="remove the bundles at the end")
    options = parser.parse_args()
    work = options.work
    checkpoint = require_checkpoint(work, "qwen-0.5b")
    environment = {"XDG_CACHE_HOME": str(work / "cache-firsttoken")}
    rows, data, samples = [], {}, {}
    for target in options.targets:
        bundles = {plan: work / "exports" / f"{checkpoint.name}-{plan}" / target for plan in options.plans}
        for plan, bundle in bundles.items():
            if not (options.reuse and (bundle / "manifest.json").is_file()):
                export_ours(work, checkpoint, target, plan, ANY_LOAD)
        common = ["--prompt", options.prompt, "--decode", options.decode, "--threads", options.threads]
        sides = {
            plan: lambda bundle=bundle, common=common: Side(
                [sys.executable, HERE / "run_bundle.py", bundle, *common], work / "logs" / "plans.log", environment
            )
            for plan, bundle in bundles.items()
        }
        take_turns(sides, 1, 0, ANY_LOAD)  # fills the weight caches
        samples[target] = take_turns(sides, options.processes, options.rounds, options.quiet)
        for plan, runs in samples[target].items():
            proof = demo_proof(work, plan, target)
            size = sum(p.stat().st_size for p in bundles[plan].glob("model.*")) / MIB
            first = per_turn(runs, "first")
            rows.append([
                f"{target.removesuffix('-xnnpack')} {plan}", spread(first, 1000, 0), ratio(first, per_turn(samples[target]["int8"], "first")),
                spread(per_turn(runs, "decode"), 1000, 1), f"{size:.0f}", f"{max(r['peak'] for r in runs) / MIB:.0f}",
                f"{max(r['RssAnon'] for r in runs) / MIB:.0f}", f"{proof['mean_kld']:.5f}", f"{proof['same_top']:.1%}",
            ])  # fmt: skip
            data[f"{target} {plan}"] = {"runs": runs, "proof": proof, "file_mib": size}
        if options.clean:
            for bundle in bundles.values():
                shutil.rmtree(bundle.parent)
    header = [
        "runtime and plan", f"first token, {options.prompt} tokens, ms", "against int8", "decode, ms a token", "file MiB", "peak MiB", "private MiB",
        "mean KLD (demo)", "same top (demo)",
    ]  # fmt: skip
    facts = (
        f"Median (minimum) of {options.processes} processes × {options.rounds} turns on {options.threads} threads; ratio: median (middle half) over neighbouring turns. "
        + disturbance(list(samples.values()))
    )
    publish(work, "plans", [table(header, rows), facts], {"plans": data})


if __name__ == "__main__":
    main()
