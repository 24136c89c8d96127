#!/usr/bin/env python3
"""What quantization costs a demo student, before and after quantization-aware training, over several seeds.

  scripts/distill_demo.py --only 'cut, KL T 5 to 1'    first: makes the students
  scripts/distill_qat.py                               then: int8 and int4, three seeds
  scripts/distill_qat.py --plans int4 --steps 20       a quick look at whether it works

Every student is exported, proven on the written .tflite file, trained for quantization and proven again. Prints a Markdown
table: mean KL divergence of the bundle from the float student, and its perplexity, mean and 95 % interval of the mean
(Student's t). An interrupted run goes on. Needs `pip install -e '.[distill]'`.
"""

import argparse
import json
import sys
from pathlib import Path

from distill_demo import VARIANTS, interval, slug

from firsttoken.bundle.lineage import RECORD
from firsttoken.distill.distill import distill
from firsttoken.distill.recipe import check_recipe, load_recipe
from firsttoken.errors import FirstTokenError

STUDENT = "cut, KL T 5 to 1"


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, choices=range(1, 11), metavar="N", help="seeds 1 to N (default 3)")
    parser.add_argument("--plans", default="int8,int4", help="precision plans (default int8,int4)")
    parser.add_argument("--steps", type=int, default=200, help="steps of quantization-aware training (default 200)")
    parser.add_argument("--batch", type=int, default=8, help="sequences a step (default 8)")
    parser.add_argument("--length", type=int, default=128, help="tokens a sequence (default 128)")
    parser.add_argument("--rate", type=float, default=3e-4, help="learning rate (default 3e-4)")
    parser.add_argument("--students", type=Path, default=Path("build/distill_demo"), help="--work of scripts/distill_demo.py")
    parser.add_argument("--work", type=Path, default=Path("build/distill_qat"), help="folder for the results (default build/distill_qat)")
    return parser.parse_args()


def run(student: Path, seed: int, plan: str, options: argparse.Namespace) -> dict:
    """Proves, trains and proves one student; returns what `distillation.json` says of it."""
    folder = options.work / f"{plan}-{options.steps}-{seed}"
    if not folder.exists():
        values = load_recipe("demo-cut").model_dump(mode="json", by_alias=True) | {"name": f"qat-{plan}", "seed": seed}
        values["student"] = {"checkpoint": str(student.resolve())}
        values["quantize"] = {"plan": plan, "when": "always", "steps": options.steps, "learning_rate": options.rate}
        values["training"] |= {"steps": 0, "batch": options.batch, "evaluate_every": options.steps}
        values["data"]["length"] = options.length
        distill(check_recipe(values), folder)
    return json.loads((folder / RECORD).read_text(encoding="utf-8"))["quantization"]


def main():
    """Print the table."""
    options = arguments()
    options.work.mkdir(parents=True, exist_ok=True)
    print_rows = []
    for plan in options.plans.split(","):
        found = []
        for seed in range(1, options.seeds + 1):
            student = options.students / f"{slug(STUDENT)}-{seed}"
            if STUDENT not in VARIANTS or not student.exists():
                raise FirstTokenError(f"{student}: does not exist; make it with scripts/distill_demo.py --only {STUDENT!r}")
            print(f"== {plan}, seed {seed}", flush=True)
            found.append(run(student, seed, plan, options))
        figures = {which: [each[which]["figures"] for each in found] for which in ("before", "after")}
        changes = [a["mean_kld"] / b["mean_kld"] - 1 for a, b in zip(figures["after"], figures["before"], strict=True)]
        cells = [interval([f["reference_perplexity"] for f in figures["before"]])]
        for which in ("before", "after"):
            cells += [interval([f["mean_kld"] for f in figures[which]]), interval([f["perplexity"] for f in figures[which]])]
        passed = " / ".join(f"{sum(each[which]['passed'] for each in found)} of {len(found)}" for which in ("before", "after"))
        print_rows.append(f"| {plan} | {' | '.join(cells)} | {interval([100 * c for c in changes])} % | {passed} |")
    print(f"\n{options.seeds} seeds, {options.steps} steps of {options.batch} x {options.length} tokens.\n")
    print(
        "| plan | float perplexity | KL divergence, quantized | perplexity | KL divergence, trained for it | perplexity | change of KL divergence | passed before / after |"
    )
    print("|---|---|---|---|---|---|---|---|")
    print("\n".join(print_rows))


if __name__ == "__main__":
    try:
        main()
    except FirstTokenError as error:
        sys.exit(f"error: {error}")
