#!/usr/bin/env python3
"""What distillation gives at the demo checkpoint's size: a table over several seeds, all with the same token budget.

  scripts/distill_demo.py                      the full run: 3 seeds, 2.4 million tokens each (hours on two cores)
  scripts/distill_demo.py --short              one seed and few steps: shows that it works, says nothing

The teacher is the embedded demo checkpoint, the student has less than half its parameters, the data is the standard
library's train split and the score is on demo/held_out.txt, which nothing was trained on. Every line of the table is a
recipe; --work keeps the students, so that an interrupted run goes on. Needs `pip install -e '.[distill]'`.

  cut only            the student as it is cut, not trained
  from scratch        the student's shape with random weights, labels only
  cut, labels         cut, then trained on labels only
  cut, KL T=1         cut, then forward KL at temperature 1 and labels
  cut, KL T=3         the same at temperature 3, weights 0.7 and 0.3
  cut, KL T 5 to 1    the same, temperature annealed
  cut, KL+hidden+attention   the annealed run with hidden states and attention maps as well
"""

import argparse
import json
import shutil
import statistics
import sys
from pathlib import Path

from firsttoken.bundle.lineage import RECORD
from firsttoken.distill.distill import distill
from firsttoken.distill.recipe import Recipe, check_recipe, load_recipe
from firsttoken.errors import FirstTokenError

KL, LABELS = {"kind": "forward_kl", "weight": 0.7}, {"kind": "cross_entropy", "weight": 0.3}
ONLY_LABELS = [{"kind": "cross_entropy"}]
ANNEALED = {"shape": "linear", "start": 5, "end": 1}
# name -> (student, temperature, losses)
VARIANTS = {
    "from scratch": ("config", 1, ONLY_LABELS),
    "cut, labels": ("cut", 1, ONLY_LABELS),
    "cut, KL T=1": ("cut", 1, [KL, LABELS]),
    "cut, KL T=3": ("cut", 3, [KL, LABELS]),
    "cut, KL T 5 to 1": ("cut", ANNEALED, [KL, LABELS]),
    "cut, KL+hidden+attention": ("cut", ANNEALED, [KL, LABELS, {"kind": "hidden_l2", "weight": 0.1}, {"kind": "attention", "weight": 0.1}]),
}
# claims: what is said to be better, and than what
CLAIMS = (
    ("cut, KL T 5 to 1", "cut, labels"),
    ("cut, labels", "from scratch"),
    ("cut, KL T 5 to 1", "cut, KL T=1"),
    ("cut, KL T 5 to 1", "cut, KL T=3"),
    ("cut, KL+hidden+attention", "cut, KL T 5 to 1"),
)
# the two-sided 95 % quantile of Student's t by the number of seeds
STUDENT_T = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, choices=range(1, 11), metavar="N", help="seeds 1 to N (default 3)")
    parser.add_argument("--steps", type=int, help="training steps (default: the recipe's 600)")
    parser.add_argument("--batch", type=int, help="sequences a step (default: the recipe's 16)")
    parser.add_argument("--length", type=int, help="tokens a sequence (default: the recipe's 256)")
    parser.add_argument("--short", action="store_true", help="one seed, 8 steps, little data")
    parser.add_argument(
        "--work", type=Path, default=Path("build/distill_demo"), help="folder for the students (default build/distill_demo)"
    )
    parser.add_argument("--only", action="append", choices=list(VARIANTS), help="only this line; may be repeated")
    return parser.parse_args()


def recipe_for(name: str, seed: int, options: argparse.Namespace, config: Path) -> Recipe:
    """The recipe `demo-cut` with what the variant changes."""
    source, temperature, losses = VARIANTS[name]
    base = load_recipe("demo-cut")
    values = base.model_dump(mode="json", by_alias=True) | {"name": name, "seed": seed, "temperature": temperature, "loss": losses}
    if source == "config":
        values["student"] = {"config": str(config.resolve())}
    values["training"]["keep"] = "last"  # the held-out text scores; it must not choose
    if options.steps:
        values["training"]["steps"] = options.steps
    if options.batch:
        values["training"]["batch"] = options.batch
    if options.length:
        values["data"]["length"] = options.length
    if options.short:
        values["data"]["train"][0]["files"] = ["{stdlib}/json/*.py"]
        values["data"] |= {"length": 64, "held_out_windows": 8}
        values["training"] |= {"steps": options.steps or 8, "batch": 4, "warmup_steps": 1, "evaluate_every": 8}
    values["training"]["warmup_steps"] = min(values["training"]["warmup_steps"], values["training"]["steps"] // 4)
    values["training"]["evaluate_every"] = min(values["training"]["evaluate_every"], values["training"]["steps"])
    return check_recipe(values)


def student_config(folder: Path, options: argparse.Namespace) -> Path:
    """Writes the config.json of the cut student, for the run from scratch."""
    made = folder / "student-config.json"
    first = folder / f"{slug('cut, labels')}-1"
    if not first.exists():
        distill(recipe_for("cut, labels", 1, options, made), first)
    shutil.copy(first / "config.json", made)
    return made


def slug(name: str) -> str:
    """A folder name."""
    return "".join(c if c.isalnum() else "-" for c in name).replace("--", "-")


def interval(values: list[float]) -> str:
    """Mean and, for several seeds, the half width of the 95 % interval of the mean (Student's t)."""
    mean = statistics.fmean(values)
    if len(values) == 1:
        return f"{mean:.3f}"
    return f"{mean:.3f} ± {STUDENT_T[len(values)] * statistics.stdev(values) / len(values) ** 0.5:.3f}"


def main():
    """Train every variant with every seed and print the table as Markdown."""
    options = arguments()
    if options.short:
        options.seeds, options.work = 1, options.work.with_name(f"{options.work.name}-short")
    options.work.mkdir(parents=True, exist_ok=True)
    config = student_config(options.work, options)
    rows: dict[str, list[dict]] = {}
    parameters = tokens = 0
    for seed in range(1, options.seeds + 1):
        for name in options.only or VARIANTS:
            folder = options.work / f"{slug(name)}-{seed}"
            print(f"== {name}, seed {seed}", flush=True)
            if not folder.exists():
                distill(recipe_for(name, seed, options, config), folder)
            record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
            rows.setdefault(name, []).append(record["figures"]["student as written"])
            parameters, tokens = record["parameters"], record["tokens seen"]
            teacher = record["figures"].get("teacher checkpoint") or {}
            if teacher:
                rows["teacher"] = [teacher]
            if VARIANTS[name][0] == "cut":
                rows.setdefault("cut only", []).append(record["figures"]["student as cut"]) if name == "cut, labels" else None
    print(
        f"\nStudent: {parameters:,} parameters; {tokens:,} training tokens; {options.seeds} seeds. Held-out perplexity and KL divergence from the teacher.\n"
    )
    print("| | perplexity | KL divergence, nats per token |\n|---|---|---|")
    for name in ("teacher", "cut only", *VARIANTS):
        if name in rows:
            klds = [row["kld"] for row in rows[name] if "kld" in row]
            print(f"| {name} | {interval([row['perplexity'] for row in rows[name]])} | {interval(klds) if klds else ''} |")
    print("\nDifference of the perplexities within a seed:\n\n| | |\n|---|---|")
    for better, worse in CLAIMS:
        if better in rows and worse in rows:
            pairs = zip(rows[better], rows[worse], strict=True)
            print(f"| {better}, minus {worse} | {interval([a['perplexity'] - b['perplexity'] for a, b in pairs])} |")


if __name__ == "__main__":
    try:
        main()
    except FirstTokenError as error:
        sys.exit(f"error: {error}")
