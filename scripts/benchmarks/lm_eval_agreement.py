#!/usr/bin/env python3
"""What lm_eval says of a checkpoint through its own ``hf`` model (FP32), and through ours of the same checkpoint and of its bundles.

    scripts/benchmarks/lm_eval_agreement.py --checkpoint demo --bundles out/tflite-xnnpack

The tasks: three of ours on the demo's held-out text (tests/evaluate/harness/tasks), and one that lm_eval generates, RULER's most frequent words,
with contexts of at most --length tokens. Needs the extra lm-eval; nothing is downloaded.
"""

import argparse
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "python"))
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}

from firsttoken.checkpoint_sources.open import checkpoint_folder  # noqa: E402
from firsttoken.demo import checkpoint_path  # noqa: E402
from firsttoken.evaluate.harness import register  # noqa: E402

TASKS = ("held_out_texts", "held_out_choice", "held_out_rest", "frequent_words")


def scored(model: str, args: dict, folder: str, tasks: list[str], limit: int, length: int) -> dict:
    from lm_eval import simple_evaluate
    from lm_eval.api.registry import get_model
    from lm_eval.tasks import TaskManager

    loaded = get_model(model).create_from_arg_obj(args, {"device": "cpu", "batch_size": 1})

    metadata = {"pretrained": folder, "max_seq_lengths": [length]}
    manager = TaskManager(include_path=str(ROOT / "tests" / "evaluate" / "harness" / "tasks"), metadata=metadata)
    return simple_evaluate(model=loaded, tasks=tasks, task_manager=manager, limit=limit, bootstrap_iters=0, metadata=metadata)  # fmt: skip


def answers(found: dict, task: str) -> list:
    """What the model gave for each request of a task: numbers, or text."""
    return [answer for sample in found["samples"][task] for answer in sample["resps"]]


def difference(ours: list, theirs: list) -> str:
    """How far two models' answers are from each other."""
    flat = [list(zip(a, b, strict=True)) for a, b in zip(ours, theirs, strict=True)]
    pairs = [pair for each in flat for pair in each]
    if isinstance(pairs[0][0], str):
        return f"{sum(a == b for a, b in pairs)} of {len(pairs)} texts equal"
    if isinstance(pairs[0][0], tuple | list):
        same = sum(bool(a[1]) == bool(b[1]) for a, b in pairs)
        return f"log probability within {max(abs(float(a[0]) - float(b[0])) for a, b in pairs):.1e} nats, {same} of {len(pairs)} as greedy"
    return (
        f"log probability within {max(abs(float(a) - float(b)) for a, b in pairs):.1e} nats of {max(abs(float(b)) for _, b in pairs):.0f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="demo")
    parser.add_argument("--bundles", nargs="*", default=[])
    parser.add_argument("--tasks", nargs="*", default=TASKS)
    parser.add_argument("--limit", type=int, default=6)
    parser.add_argument("--length", type=int, default=400)
    asked = parser.parse_args()
    folder = str(checkpoint_path() if asked.checkpoint == "demo" else checkpoint_folder(asked.checkpoint))
    register()
    models = [("hf", {"pretrained": folder, "dtype": "float32", "max_length": 2048}), ("firsttoken", {"pretrained": folder})]
    models += [("firsttoken", {"bundle": bundle}) for bundle in asked.bundles]
    reference = None
    for model, args in models:
        begun = time.perf_counter()
        found = scored(model, args, folder, list(asked.tasks), asked.limit, asked.length)
        print(f"\n{model} {next(iter(args.values()))}: {time.perf_counter() - begun:.0f} s")
        reference = reference or found
        for task in found["results"]:
            prompts = [[sample["arguments"] for sample in each["samples"][task]] for each in (found, reference)]
            assert prompts[0] == prompts[1], f"{task}: the models were asked different things"
            figures = {
                name: value
                for name, value in found["results"][task].items()
                if isinstance(value, float) and "stderr" not in name and value >= 0
            }
            print(f"  {task}: {figures}; {difference(answers(found, task), answers(reference, task))}")


if __name__ == "__main__":
    main()
