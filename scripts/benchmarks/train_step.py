#!/usr/bin/env python3
"""Tokens a second of distillation steps: firsttoken's trainer, TRL's GKDTrainer, and a plain PyTorch loop, with the same loss.

    pip install --target FOLDER --no-deps trl datasets dill xxhash multiprocess
    PYTHONPATH=FOLDER scripts/benchmarks/train_step.py [--checkpoint demo|smollm2] [--steps 6] [--rounds 3]

Same models (the student has half of the teacher's layers, the same random weights), same windows, forward KL divergence at temperature 1,
AdamW, float32, one thread. The losses of the first steps are printed side by side, and have to agree. A process for each runner and round, in
turn; the first step is not timed. CPU seconds are what the process used, on a busy machine the fairer figure. TRL is left out where it is not
installed; it is no dependency.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

SIZES = {"demo": (8, 256), "smollm2": (2, 256)}  # sequences a step, tokens
RATE = 1e-4


def models(checkpoint, length, steps, batch):
    """Teacher, student of half the layers with random weights of seed 0, and windows ``[steps * batch, length]``."""
    import torch

    from firsttoken.checkpoint import read_json
    from firsttoken.checkpoint_sources.open import checkpoint_folder
    from firsttoken.demo import checkpoint_path, held_out_text
    from firsttoken.distill.models import load_decoder, make_decoder
    from firsttoken.tokenizer import Tokenizer

    folder = checkpoint_path() if checkpoint == "demo" else checkpoint_folder(checkpoint)
    config = read_json(Path(folder) / "config.json", "")
    layers = config["num_hidden_layers"] // 2
    smaller = (
        config | {"num_hidden_layers": layers} | ({"layer_types": config["layer_types"][:layers]} if config.get("layer_types") else {})
    )
    torch.manual_seed(0)
    tokens = Tokenizer(folder).encode(held_out_text(), begin=False)
    count = steps * batch
    assert len(tokens) >= count * length, "the held-out text is long enough"
    windows = torch.tensor(tokens[: count * length]).reshape(count, length)
    return load_decoder(folder).requires_grad_(False), make_decoder(smaller).train(), windows, folder


class Clock:
    """Times after every step but the first."""

    def __init__(self):
        self.times, self.losses = [], []

    def tick(self, loss):
        self.times.append((time.perf_counter(), time.process_time()))
        self.losses.append(float(loss))


def clocked():
    from transformers import TrainerCallback

    class Ticks(TrainerCallback):
        clock = Clock()

        def on_log(self, _args, _state, _control, logs=None, **_):
            if logs and "loss" in logs:
                self.clock.tick(logs["loss"])

    return Ticks()


def ours(teacher, student, windows, options, folder, work):
    from types import SimpleNamespace

    import numpy as np
    import torch
    from transformers.trainer_callback import PrinterCallback

    from firsttoken.distill.objective import Distillation
    from firsttoken.distill.recipe import Loss, Training
    from firsttoken.distill.schedules import constant
    from firsttoken.distill.teachers import LiveTeacher
    from firsttoken.distill.trainer import DistillationTrainer, WindowItems
    from firsttoken.distill.windows import Windows

    array = windows.numpy().astype(np.int32)
    data = Windows(array, array, np.zeros(len(array), np.int32), ("text",), ("text",) * len(array))
    training = Training(
        steps=options.steps, batch=SIZES[options.checkpoint][0], learning_rate=RATE, evaluate_every=10_000, schedule="constant_with_warmup"
    )
    losses = (Loss(kind="forward_kl"),)
    plan = SimpleNamespace(seed=0, temperature=constant(1.0), losses=losses, training=training)
    objective = Distillation(student, [LiveTeacher("t", teacher)], losses, ("text",), student.config.vocab_size, training.head_chunk)
    ticks = clocked()
    trainer = DistillationTrainer(objective, plan, WindowItems(data), WindowItems(data.first(1)), work, options.steps, [ticks])
    trainer.remove_callback(PrinterCallback)
    trainer.train_dataset = [
        {**WindowItems(data)[n], "position": torch.tensor(n)} for n in range(len(data))
    ]  # the order of the other runners
    trainer.args.eval_strategy = trainer.args.save_strategy = "no"
    trainer.train()
    return ticks.clock


def trl(teacher, student, windows, options, folder, work):
    import torch
    from datasets import Dataset
    from transformers import AutoTokenizer
    from transformers.trainer_callback import PrinterCallback
    from trl.experimental.gkd import GKDConfig, GKDTrainer

    def collate(items):
        tokens = torch.tensor([item["input_ids"] for item in items])
        ones = torch.ones_like(tokens)
        return {
            "input_ids": tokens,
            "attention_mask": ones,
            "labels": tokens,
            "prompts": tokens[:, :1],
            "prompt_attention_mask": ones[:, :1],
        }

    arguments = GKDConfig(
        output_dir=str(work), max_steps=options.steps, per_device_train_batch_size=SIZES[options.checkpoint][0], learning_rate=RATE,
        lr_scheduler_type="constant_with_warmup", beta=0.0, lmbda=0.0, temperature=1.0, logging_steps=1, save_strategy="no", report_to="none", use_cpu=True,
        bf16=False, gradient_checkpointing=False, train_sampling_strategy="sequential", disable_tqdm=True, remove_unused_columns=False,
        dataset_kwargs={"skip_prepare_dataset": True}, weight_decay=0.0, max_grad_norm=1.0, dataloader_pin_memory=False,
    )  # fmt: skip
    ticks = clocked()
    data = Dataset.from_dict({"input_ids": windows.tolist()})
    trainer = GKDTrainer(
        model=student, teacher_model=teacher, args=arguments, train_dataset=data, data_collator=collate,
        processing_class=AutoTokenizer.from_pretrained(folder), callbacks=[ticks],
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return ticks.clock


def plain(teacher, student, windows, options, folder, work):
    import torch

    optimizer = torch.optim.AdamW(student.parameters(), lr=RATE, weight_decay=0.0, fused=True)
    clock = Clock()
    for batch in windows.split(SIZES[options.checkpoint][0]):
        with torch.no_grad():
            theirs = teacher(input_ids=batch, use_cache=False).logits[:, :-1].flatten(0, 1).log_softmax(-1)
        logits = student(input_ids=batch, use_cache=False).logits[:, :-1].flatten(0, 1).log_softmax(-1)
        loss = torch.nn.functional.kl_div(logits, theirs, reduction="batchmean", log_target=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        clock.tick(loss)
    return clock


RUNNERS = {"firsttoken": ours, "TRL GKDTrainer": trl, "plain loop": plain}


def child(options):
    import resource

    batch, length = SIZES[options.checkpoint]
    teacher, student, windows, folder = models(options.checkpoint, length, options.steps, batch)
    with tempfile.TemporaryDirectory() as work:
        clock = RUNNERS[options.runner](teacher, student, windows, options, folder, Path(work))
    wall, used = (clock.times[-1][n] - clock.times[0][n] for n in (0, 1))
    tokens = (options.steps - 1) * batch * length
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"wall": tokens / wall, "cpu": tokens / used, "peak": peak, "losses": clock.losses[:3]}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", choices=SIZES, default="demo")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runner", choices=RUNNERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.runner:
        child(options)
        return
    runners = [name for name in RUNNERS if name != "TRL GKDTrainer" or find_spec("trl")]
    found = {name: [] for name in runners}
    for _ in range(options.rounds):
        for name in runners:
            command = [sys.executable, __file__, "--runner", name, "--checkpoint", options.checkpoint, "--steps", str(options.steps)]
            done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
            if done.returncode:
                sys.exit(done.stderr)
            found[name].append(json.loads(done.stdout.splitlines()[-1]))
    print("| | tokens a CPU second | tokens a second | peak of the process, MB | loss of the first steps |\n|:--|--:|--:|--:|:--|")
    for name, runs in found.items():
        cpu, wall = ([run[key] for run in runs] for key in ("cpu", "wall"))
        losses = ", ".join(f"{loss:.4f}" for loss in runs[0]["losses"])
        peak = max(run["peak"] for run in runs) / 1e6
        print(
            f"| {name} | {statistics.median(cpu):,.0f} ({min(cpu):,.0f} to {max(cpu):,.0f}) | {statistics.median(wall):,.0f} | {peak:,.0f} | {losses} |"
        )
    first = [runs[0]["losses"] for runs in found.values()]
    apart = max(abs(a - b) for other in first[1:] for a, b in zip(first[0], other, strict=True))
    if apart > 2e-3 * max(map(max, first)):
        sys.exit(f"the losses differ by {apart:.3g}: the runners do not compute the same")


if __name__ == "__main__":
    main()
