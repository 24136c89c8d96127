#!/usr/bin/env python3
"""What further options of a recipe give on the demo checkpoint: a table over seeds, all with the same number of steps.

  scripts/benchmarks/distill_options.py                  3 seeds, 30 steps of 4 windows of 128 tokens
  scripts/benchmarks/distill_options.py --across         the same for a student with another tokenizer

The first student is cut from the demo checkpoint as `demo-cut` does, and the score is the divergence from the teacher on
demo/held_out.txt, which nothing was trained on. For the second, a tokenizer of 1,024 tokens is made from the training files; its
student begins with random weights and is scored by bits per byte, which do not depend on a tokenizer. --work keeps the students, and
an interrupted call goes on. Needs `pip install -e '.[distill,lora]'`.
"""

import argparse
import json
import statistics
import sys
import sysconfig
import time
from pathlib import Path

from firsttoken.bundle.lineage import RECORD
from firsttoken.demo import checkpoint_path, held_out_text
from firsttoken.distill.distill import distill
from firsttoken.distill.recipe import Recipe, check_recipe, load_recipe
from firsttoken.errors import FirstTokenError
from firsttoken.tokenizer import Tokenizer

KL, LABELS = {"kind": "forward_kl"}, {"kind": "cross_entropy", "weight": 0.3}
BASE = "KL"
# name -> changes of the recipe by dotted name; the first is what the others are compared with
VARIANTS: dict[str, dict] = {
    BASE: {},
    "KL and labels": {"loss": [KL, LABELS]},
    "KL and smoothed labels, 0.1": {"loss": [KL, {**LABELS, "label_smoothing": 0.1}]},
    "dropout 0.1": {"training.dropout": 0.1},
    "reverse KL": {"loss": [{"kind": "reverse_kl"}]},
    "on-policy, half": {"on_policy": {"share": 0.5}},
    "on-policy, half, reverse KL": {"on_policy": {"share": 0.5}, "loss": [{"kind": "reverse_kl"}]},
    "LoRA, rank 16": {"student.lora": {"rank": 16, "alpha": 32}},
}
ACROSS: dict[str, dict] = {
    "labels": {"loss": [{"kind": "cross_entropy"}]},
    "labels and ULD": {"loss": [{"kind": "cross_entropy"}, {"kind": "uld"}]},
    "labels and GOLD": {"loss": [{"kind": "cross_entropy"}, {"kind": "gold"}]},
}
TOKENS = 1024  # of the other tokenizer
# the two-sided 95 % quantile of Student's t by the number of seeds
STUDENT_T = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--across", action="store_true", help="a student with another tokenizer")
    parser.add_argument("--seeds", type=int, default=3, choices=range(2, 6), metavar="N", help="seeds 1 to N (default 3)")
    parser.add_argument("--steps", type=int, default=30, help="training steps (default 30)")
    parser.add_argument("--work", type=Path, default=Path("build/distill_options"), help="folder for the students")
    parser.add_argument("--only", action="append", help="only this line; may be repeated")
    return parser.parse_args()


def recipe_for(changes: dict, seed: int, options: argparse.Namespace, student: dict | None) -> Recipe:
    """The recipe `demo-cut` at temperature 1, shorter, with a variant's changes."""
    values = load_recipe("demo-cut").model_dump(mode="json", by_alias=True) | {"seed": seed, "temperature": 1, "loss": [KL]}
    values["data"] |= {"length": 128, "held_out_windows": 12}
    values["data"]["train"][0]["files"] = ["{stdlib}/asyncio/*.py", "{stdlib}/email/*.py"]
    values["training"] |= {
        "steps": options.steps,
        "batch": 4,
        "keep": "last",
        "evaluate_every": options.steps,
        "warmup_steps": options.steps // 10,
    }
    values |= {"student": {"cut": {**values["student"]["cut"], "calibration_windows": 8}}} if student is None else student
    for name, value in changes.items():
        *path, last = name.split(".")
        place = values
        for part in path:
            place = place[part]
        place[last] = value
    return check_recipe(values)


def other_student(folder: Path) -> dict:
    """Writes a byte-level BPE tokenizer, trained on the recipe's kind of files, and the config of a student for it; the recipe's fields."""
    from tokenizers import Tokenizer as Engine
    from tokenizers import decoders, models, pre_tokenizers, trainers

    engine = Engine(models.BPE())
    engine.pre_tokenizer, engine.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=TOKENS, special_tokens=["<|end|>"], initial_alphabet=alphabet, show_progress=False)
    engine.train([str(path) for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))], trainer)
    folder.mkdir(parents=True, exist_ok=True)
    engine.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|end|>"}), encoding="utf-8")
    config = json.loads((checkpoint_path() / "config.json").read_text(encoding="utf-8"))
    config |= {"vocab_size": TOKENS, "num_hidden_layers": 3, "bos_token_id": None, "eos_token_id": 0, "pad_token_id": None}
    config.pop("layer_types", None)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return {"tokenizer": str(folder.resolve()), "student": {"config": str((folder / "config.json").resolve())}}


def interval(values: list[float]) -> str:
    """Mean and half width of the 95 % interval of the mean (Student's t)."""
    return f"{statistics.fmean(values):.4f} ± {STUDENT_T[len(values)] * statistics.stdev(values) / len(values) ** 0.5:.4f}"


def figure_of(record: dict, across: bool, tokens_per_byte: float) -> float:
    """The divergence from the teacher in nats a token, or bits a byte of the held-out text."""
    figures = record["figures"]["student as written"]
    return figures["cross_entropy"] / 0.6931471805599453 * tokens_per_byte if across else figures["kld"]


def main() -> None:
    """Train every variant with every seed and print the table as Markdown."""
    options = arguments()
    variants, student, rate = (ACROSS, other_student(options.work / "other"), 0.0) if options.across else (VARIANTS, None, 0.0)
    if student is not None:
        text = held_out_text()
        rate = len(Tokenizer(student["tokenizer"]).encode(text, begin=False)) / len(text.encode())
    rows: dict[str, list[float]] = {}
    seconds: dict[str, list[float]] = {}
    for seed in range(1, options.seeds + 1):
        for name, changes in variants.items():
            if options.only and name not in options.only:
                continue
            folder = options.work / f"{''.join(c if c.isalnum() else '-' for c in name)}-{seed}-{options.steps}"
            if not folder.exists():
                print(f"== {name}, seed {seed}", flush=True)
                started = time.process_time()
                distill(recipe_for(changes, seed, options, student), folder, say=lambda line: None)
                seconds.setdefault(name, []).append(time.process_time() - started)
            rows.setdefault(name, []).append(figure_of(json.loads((folder / RECORD).read_text(encoding="utf-8")), options.across, rate))
    what = "bits a byte" if options.across else "KL divergence from the teacher, nats a token"
    first = next(iter(rows))
    print(
        f"\n{options.steps} steps, {options.seeds} seeds\n\n| | {what} | minus *{first}*, within a seed | CPU seconds |\n|---|---|---|---|"
    )
    for name, values in rows.items():
        less = "" if name == first else interval([a - b for a, b in zip(values, rows[first], strict=True)])
        spent = f"{statistics.fmean(seconds[name]):.0f}" if name in seconds else ""
        print(f"| {name} | {interval(values)} | {less} | {spent} |")


if __name__ == "__main__":
    try:
        main()
    except FirstTokenError as error:
        sys.exit(f"error: {error}")
