#!/usr/bin/env python3
"""Is a searched recipe better than the one written by hand? Both trained for the same steps over several seeds, held-out scores side by side.

  scripts/benchmarks/recipe_search.py                          demo-hidden, 100 steps of 8 windows of 128 tokens, 16 trials, 3 seeds
  scripts/benchmarks/recipe_search.py --recipe demo-cut --steps 300 --trials 40

The search trains with the recipe's seed and scores on files that the demo checkpoint was not trained on and that share nothing
with demo/held_out.txt. The comparison trains with other seeds, so that nothing of the search is in it, and scores on demo/held_out.txt.
"Better" is said where the 95 % interval of the difference within a seed (Student's t) lies below zero. Goes on where it was
interrupted. Needs `pip install -e '.[distill]'`.
"""

import argparse
import json
import math
import statistics
import time
from pathlib import Path

from firsttoken.bundle.lineage import RECORD
from firsttoken.distill.distill import distill
from firsttoken.distill.recipe import Recipe, check_recipe, load_recipe
from firsttoken.distill.recipe_search.search import search

# the two-sided 95 % quantile of Student's t by the number of seeds
STUDENT_T = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
SHOWN = {"cross_entropy": "cross-entropy, nats per token", "perplexity": "perplexity", "kld": "KL divergence from the teacher"}


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="demo-hidden", help="recipe to begin with (default demo-hidden)")
    parser.add_argument("--steps", type=int, default=100, help="steps of a whole trial and of every compared training (default 100)")
    parser.add_argument("--batch", type=int, default=8, help="sequences a step (default 8)")
    parser.add_argument("--length", type=int, default=128, help="tokens a sequence (default 128)")
    parser.add_argument("--trials", type=int, default=16, help="trials of the search (default 16)")
    parser.add_argument("--seeds", type=int, default=3, choices=range(2, 11), metavar="N", help="seeds of the comparison (default 3)")
    parser.add_argument("--work", type=Path, default=Path("build/recipe_search"), help="folder (default build/recipe_search)")
    return parser.parse_args()


def by_hand(options: argparse.Namespace) -> Recipe:
    """The built-in recipe at the size of the comparison; its last step is kept, since the held-out text scores and must not choose."""
    base = load_recipe(options.recipe)
    values = base.model_dump(mode="json", by_alias=True, exclude={"folder", "search", "quantize"})
    training = values["training"]
    training["warmup_steps"] = round(training["warmup_steps"] * options.steps / training["steps"])
    values["training"] |= {"steps": options.steps, "batch": options.batch, "evaluate_every": options.steps, "keep": "last"}
    values["data"]["length"] = options.length
    return check_recipe(values)


def scored(recipe: Recipe, name: str, seed: int, work: Path) -> dict[str, float]:
    """Held-out figures of a recipe's student with one seed, trained where it is not there yet."""
    folder = work / f"{name}-seed-{seed}"
    if not folder.exists():
        distill(recipe.model_copy(update={"seed": seed}), folder)
    return json.loads((folder / RECORD).read_text(encoding="utf-8"))["figures"]["student as written"]


def interval(values: list[float]) -> tuple[float, float]:
    """Mean and half width of its 95 % interval."""
    return statistics.fmean(values), STUDENT_T[len(values)] * statistics.stdev(values) / math.sqrt(len(values))


def verdict(differences: list[float]) -> str:
    """What the differences of a score within a seed, found minus written by hand, say."""
    mean, half = interval(differences)
    if mean + half < 0:
        return "better"
    return "worse" if mean - half > 0 else "not shown"


def compared(what: str, before: list[float], after: list[float]) -> str:
    """A row: both with their intervals, the difference within a seed, and what it says."""
    differences = [a - b for a, b in zip(after, before, strict=True)]
    cells = ["{:.4f} ± {:.4f}".format(*interval(values)) for values in (before, after, differences)]
    return f"| {what} | {' | '.join(cells)} | {verdict(differences)} |"


def main() -> None:
    options = arguments()
    work = options.work / f"{options.recipe}-{options.steps}-{options.batch}-{options.length}-{options.trials}"
    work.mkdir(parents=True, exist_ok=True)
    hand = by_hand(options)
    began, cpu = time.monotonic(), time.process_time()
    found = search(hand, work / "search", {"trials": options.trials})
    print(f"search: {time.monotonic() - began:.0f} s, {time.process_time() - cpu:.0f} s of processor (of this call)")
    seeds = range(hand.seed + 1, hand.seed + 1 + options.seeds)
    best = found.record["best"]
    rate = hand.training.model_copy(update={"learning_rate": found.recipe.training.learning_rate})
    recipes = {
        "by hand": (hand, "by-hand"),
        "found": (found.recipe, f"found-{best}"),
        "by hand, with the learning rate found": (hand.model_copy(update={"training": rate}), f"rate-{best}"),
    }
    rows = {name: [scored(recipe, folder, seed, work) for seed in seeds] for name, (recipe, folder) in recipes.items()}
    trials = found.record["trials"]
    print(f"\n{options.recipe}, {options.steps} steps of {options.batch} windows of {options.length} tokens; ", end="")
    print(
        f"search: {len(trials)} trials, {sum(t['score'] is not None for t in trials)} of them whole, {found.record['steps trained']} steps together"
    )
    print(
        f"the search's own score: {trials[0]['score']:.4f} by hand, {trials[found.record['best']]['score']:.4f} found (trial {found.record['best']})"
    )
    print("\n| value | by hand | found | searched |\n|---|---|---|---|")
    for name, each in found.record["space"].items():
        print(
            f"| `{name}` | {each['recipe']:g} | {trials[found.record['best']]['values'][name]:g} | {each['low']:.4g} to {each['high']:.4g} |"
        )
    print(f"\nOn demo/held_out.txt, mean ± 95 % interval over seeds {', '.join(map(str, seeds))}:\n")
    print("| | by hand | found | found minus by hand, within a seed | |\n|---|---|---|---|---|")
    for score, what in SHOWN.items():
        print(compared(what, *([row[score] for row in rows[name]] for name in ("by hand", "found"))))
    print("\nWhat the learning rate alone does:\n")
    print("| | by hand, with the learning rate found | found | found minus that, within a seed | |\n|---|---|---|---|---|")
    for score, what in SHOWN.items():
        print(compared(what, *([row[score] for row in rows[name]] for name in ("by hand, with the learning rate found", "found"))))
    for name, figures in rows.items():
        print(f"{name}: cross-entropy by seed", *(f"{row['cross_entropy']:.4f}" for row in figures))


if __name__ == "__main__":
    main()
