#!/usr/bin/env python3
"""How often the proof of a rightly built bundle fails: over families, plans, runtimes, seeds and held-out texts. It should be never.

Each run makes a random small checkpoint of one family (or takes the demo's), a held-out text of its own, exports and proves. A line a run; at
the end the counts, and every miss.

A random model has no answers that a precision could spoil, so the gate's bounds on the checkpoint's own predictions are counted apart.

    .venv/bin/python scripts/benchmarks/clean_proofs.py --runs 200
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

import torch

sys.path[:0] = [str(Path(__file__).parents[2] / "tests" / "decoder")]
from families_on_disk import CASES, random_model, save  # noqa: E402

from firsttoken.demo import checkpoint_path, held_out_text  # noqa: E402
from firsttoken.pipeline import export  # noqa: E402
from firsttoken.prove.prove import prove  # noqa: E402

PLANS = ("fp32", "fp16", "fp16-attention", "fp16-attention-core", "int8", "int4", "int4-mlp")
PRECISION = ("mean KL", "99th percentile", "same top", "logit magnitude", "KL divergence")  # how a miss of the gate begins
TARGETS = ("tflite-xnnpack", "tflite-xnnpack", "tflite-compat", "executorch-xnnpack")  # a .pte takes several times as long


def text_of(chance: random.Random) -> str:
    """A text of the demo's lines, characters and numbers, in an order of its own."""
    lines = held_out_text().splitlines()
    chance.shuffle(lines)
    noise = ["".join(chance.choice("abcdefghij .,\n0123456789äßé") for _ in range(chance.randrange(20, 200))) for _ in range(20)]
    made = lines[: chance.randrange(30, 200)] + noise
    chance.shuffle(made)
    return "\n".join(made)


def checkpoint_of(case: str, seed: int, folder: Path) -> Path:
    if case == "demo":
        return Path(shutil.copytree(checkpoint_path(), folder))
    # logits of a spread like a trained model's, with dtypes as they are published
    model = random_model(case, seed, vocab_size=4096, max_position_embeddings=2048)
    final = model.model.norm if hasattr(model.model, "norm") else model.model.embedding_norm  # LFM2's name
    (model.lm_head.weight if model.config.tie_word_embeddings is False else final.weight).mul_(3)
    save(model, folder, (torch.float32, torch.bfloat16, torch.float16)[seed % 3])
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(checkpoint_path() / name, folder / name)
    return folder


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--runs", type=int, default=200)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--first", type=int, default=0, metavar="RUN", help="begin with this run, to repeat it alone")
    given = options.parse_args()
    cases, failed, imprecise = ["demo", *CASES], 0, 0
    for run in range(given.first, given.first + given.runs):
        seed = given.seed + run
        chance = random.Random(seed)
        case, plan, target = cases[run % len(cases)], PLANS[run % len(PLANS)], TARGETS[run % len(TARGETS)]
        if target == "tflite-compat" and "int4" in plan:
            target = "tflite-xnnpack"
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as scratch:
            checkpoint = checkpoint_of(case, seed, Path(scratch, "checkpoint"))
            held_out = Path(scratch, "held_out.txt")
            held_out.write_text(text_of(chance))
            [bundle] = export(checkpoint, Path(scratch, "out"), plan=plan, targets=(target,), prove=False, **lengths(chance))
            proof, _ = prove(bundle, checkpoint, held_out)
        faults = [miss for miss in proof.misses if not miss.startswith(PRECISION)]
        failed += bool(faults)
        imprecise += not proof.passed and not faults
        said = f"FAILED {'; '.join(faults)}" if faults else "passed" if proof.passed else "built right, but imprecise"
        twin = f"{proof.twin.mean_kld:.2e}/{proof.twin.noise_mean_kld:.2e}" if proof.twin else "-"
        print(f"{run} {case} {plan} {target}: {said} ({twin}, {time.perf_counter() - started:.1f} s)", flush=True)
    print(f"{given.runs} clean bundles, {failed} failed their proof as wrongly built, {imprecise} more the gate's bounds on precision")
    return 1 if failed else 0


def lengths(chance: random.Random) -> dict[str, int]:
    cache = chance.choice([200, 512, 640, 1280])
    return {"cache_length": cache, "prefill_chunk": chance.choice([32, 64, 100])}


if __name__ == "__main__":
    sys.exit(main())
