#!/usr/bin/env python3
"""What a searched plan is worth: beside built-in plans at their own sizes, and beside INT8 at a tenth more bytes and time; and how long the search takes.

For each checkpoint the built-in plans are exported and proven, then `plan search` finds a plan for the size of each, and one for 1.1 times
INT8's bytes and time to the first token. Damages that were measured before are taken from the cache folder, unless ``--anew`` is given.
"""

import argparse
import json
import os
from pathlib import Path

from export_tflite import OURS
from measure_process import MIB, arguments, publish, run_measured, table
from quality import proof_of

BESIDE = ("fp16-attention", "int8", "int4-gptq")
ROOM = 1.1  # times INT8's bytes and first token


def searched(work: Path, checkpoint: str | Path, target: str, label: str, flags: list[str]) -> dict:
    """Runs a search and returns what it found, with the seconds and the peak memory that it took."""
    plan = work / "plans" / f"{label}.toml"
    plan.parent.mkdir(parents=True, exist_ok=True)
    command = [*OURS[:-1], "plan", "search", checkpoint, "-t", target, "-o", plan, "--force", "--json", *flags]
    log = work / "logs" / f"search-{label}.log"
    measured = run_measured(command, log)
    document = log.read_text()
    found = json.loads(document[document.index("\n{\n") if not document.startswith("{") else 0 : document.rindex("}") + 1])
    return found | {"seconds": measured.seconds, "peak": measured.peak_rss}


def row(name: str, target: str, label: str, size: int, proof: dict, seconds: float, beside: dict | None) -> list[str]:
    ratio = "" if beside is None else f"{proof['mean_kld'] / beside['mean_kld']:.2f}"
    return [
        Path(name).name,
        target,
        label,
        f"{size / MIB:.2f}",
        f"{proof['mean_kld']:.2e}",
        f"{proof['same_top']:.1%}",
        ratio,
        f"{seconds:.0f}",
    ]


def main():
    from firsttoken.demo import checkpoint_path

    parser = arguments(__doc__)
    parser.add_argument("--checkpoints", nargs="+", default=["demo"], metavar="NAME|FOLDER", help="what to search for (default: demo)")
    parser.add_argument("--targets", nargs="+", default=["tflite-xnnpack"], help="targets (default: tflite-xnnpack)")
    parser.add_argument("--flags", nargs=argparse.REMAINDER, default=[], help="what else `plan search` is given, as the last option")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    rows, data = [], {}
    for name in options.checkpoints:
        checkpoint = checkpoint_path() if name == "demo" else name
        for target in options.targets:
            proofs = {plan: proof_of(options.work, checkpoint, plan, target) for plan in BESIDE}
            for plan, found in proofs.items():
                rows.append(row(name, target, plan, found["size"], found["proof"]["all"], found["seconds"], None))
            budgets = {f"the size of {plan}": (plan, ["--max-size", f"{found['size']}B"]) for plan, found in proofs.items()}
            budgets["1.1 × int8"] = ("int8", ["--max-size", f"{int(ROOM * proofs['int8']['size'])}B", "--max-first-token", str(ROOM)])
            for label, (plan, flags) in budgets.items():
                found = searched(options.work, checkpoint, target, f"{Path(name).name}-{target}-{len(rows)}", [*flags, *options.flags])
                beside = proofs[plan]["proof"]["all"]
                rows.append(row(name, target, label, found["exported"]["bytes"], found["figures"], found["seconds"], beside))
                data[f"{name} {target} {label}"] = found
                print(" | ".join(rows[-1]), flush=True)
    header = ["checkpoint", "target", "plan, or searched for", "MiB", "mean KLD", "same top", "× the plan's KLD", "s"]
    publish(options.work, "plan_search", [table(header, rows)], {"plan_search": data})


if __name__ == "__main__":
    main()
