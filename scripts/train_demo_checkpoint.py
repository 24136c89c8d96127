#!/usr/bin/env python3
"""Train the small checkpoint that `firsttoken demo` works on.

A Qwen2-layout decoder and its byte-level BPE tokenizer, trained from nothing on
the Python standard library of the running interpreter: no download, no GPU.
Files are divided into train and held-out by a hash of their relative path.

  scripts/train_demo_checkpoint.py --minutes 25        the shipped checkpoint
  scripts/train_demo_checkpoint.py --resume            go on after an interruption
  scripts/train_demo_checkpoint.py --minutes 3 --output out/quick    a quick try

The learning rate follows the progress through --minutes or --steps, whichever is
nearer its end. The last fifth of the run uses long sequences, so that the model
works at positions up to about a thousand. Progress is saved every few minutes in
--work; the checkpoint appears in --output in one rename, at the end, with its
held-out figures in README.md. A run that does not clearly beat a bigram model of
the same tokens is not written. Needs the packages of `pip install -e '.[test]'`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import shutil
import sys
import sysconfig
import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import Qwen2Config, Qwen2ForCausalLM

sys.path.insert(0, str(Path(__file__).resolve().parent))
import demo_checkpoint_data as data
from demo_checkpoint_card import write_card

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "python/firsttoken/demo"
LONG_PHASE = 0.8  # the share of the run after which sequences are long
WARM_UP_STEPS = 100
console = Console()


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    run = parser.add_argument_group("how long")
    run.add_argument("--minutes", type=float, help="training time, resumed time included (default 25 unless --steps is given)")
    run.add_argument("--steps", type=int, help="stop after this many optimizer steps")
    run.add_argument("--resume", action="store_true", help="go on from the state in --work")
    run.add_argument("--save-every", type=float, default=3, metavar="MINUTES", help="how often the state is saved (default 3)")
    place = parser.add_argument_group("where")
    place.add_argument("--output", type=Path, default=DEMO / "checkpoint", help="checkpoint folder, replaced as a whole")
    place.add_argument("--work", type=Path, default=ROOT / "build/train_demo_checkpoint", help="folder for the resumable state")
    place.add_argument(
        "--held-out-text", type=Path, help="held-out text to write as well (default: held_out.txt beside the default --output)"
    )
    place.add_argument("--publish-early", action="store_true", help="also write --output at the first save, marked as unfinished")
    shape = parser.add_argument_group("model")
    shape.add_argument("--vocab", type=int, default=4096, help="tokens, special ones included (default 4096)")
    shape.add_argument("--hidden", type=int, default=256, help="hidden size, a multiple of 64 (default 256)")
    shape.add_argument("--layers", type=int, default=4, help="decoder layers (default 4)")
    shape.add_argument("--kv-heads", type=int, default=2, help="key/value heads of size 64 (default 2)")
    shape.add_argument("--intermediate", type=int, default=640, help="MLP width (default 640)")
    train = parser.add_argument_group("training")
    train.add_argument("--batch-tokens", type=int, default=4096, help="tokens a step (default 4096)")
    train.add_argument("--length", type=int, default=256, help="sequence length of the first phase (default 256)")
    train.add_argument("--long-length", type=int, default=1024, help="sequence length of the last phase (default 1024)")
    train.add_argument("--learning-rate", type=float, default=3e-3, help="peak learning rate (default 3e-3)")
    train.add_argument("--chat-share", type=float, default=0.15, help="share of chat samples (default 0.15)")
    train.add_argument("--seed", type=int, default=20240607)
    train.add_argument("--threads", type=int, default=min(os.cpu_count() or 1, 8), help="CPU threads")
    train.add_argument("--no-compile", action="store_true", help="run without torch.compile (slower, starts sooner)")
    parsed = parser.parse_args()
    if parsed.minutes is None and parsed.steps is None:
        parsed.minutes = 25.0
    if parsed.held_out_text is None and parsed.output.resolve() == DEMO / "checkpoint":
        parsed.held_out_text = DEMO / "held_out.txt"
    if parsed.hidden % 64 or (parsed.hidden // 64) % parsed.kv_heads:
        parser.error("--hidden must be a multiple of 64, and --kv-heads must divide hidden / 64")
    return parsed


class Windows:
    """Batches cut from the token streams, reproducible from the seed and a position."""

    def __init__(self, source: np.ndarray, chat: np.ndarray, chat_share: float, seed: int):
        self.source, self.chat, self.chat_share, self.seed = source, chat, chat_share, seed
        self._epochs: dict[tuple[int, int], list[tuple[np.ndarray, int]]] = {}

    def _epoch(self, length: int, number: int) -> list[tuple[np.ndarray, int]]:
        key = (length, number)
        if key not in self._epochs:
            chooser = np.random.default_rng([self.seed, length, number])
            # A new offset every epoch moves the window borders.
            rows = [(self.source, int(s)) for s in range(int(chooser.integers(length)), len(self.source) - length, length)]
            starts = chooser.permutation(np.arange(0, len(self.chat) - length, length // 2))
            wanted = int(len(rows) * self.chat_share / (1 - self.chat_share))
            rows += [(self.chat, int(s)) for s in starts[:wanted]]
            self._epochs = {key: [rows[i] for i in chooser.permutation(len(rows))]}
        return self._epochs[key]

    def batch(self, length: int, position: int, rows: int) -> torch.Tensor:
        """The rows of `length` + 1 tokens that follow `position` rows of this length."""
        # Epochs differ by a window with their offset: count on the shortest.
        size = len(self.source) // length - 2
        out = []
        for index in range(position, position + rows):
            stream, start = self._epoch(length, index // size)[index % size]
            out.append(stream[start : start + length + 1])
        return torch.from_numpy(np.stack(out).astype(np.int64))


def save_atomically(value: dict, path: Path) -> None:
    """Write with torch.save so that an interruption never leaves half a file."""
    temporary = path.with_suffix(".tmp")
    torch.save(value, temporary)
    os.replace(temporary, path)


def config_json(options: argparse.Namespace) -> dict:
    """config.json in the keys that every Qwen2 reader knows."""
    first_special = options.vocab - len(data.SPECIAL_TOKENS)
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "vocab_size": options.vocab,
        "hidden_size": options.hidden,
        "intermediate_size": options.intermediate,
        "num_hidden_layers": options.layers,
        "num_attention_heads": options.hidden // 64,
        "num_key_value_heads": options.kv_heads,
        "hidden_act": "silu",
        "max_position_embeddings": 2048,
        "rope_theta": 10000.0,
        "rms_norm_eps": 1e-6,
        "initializer_range": 0.02,
        "attention_dropout": 0.0,
        "tie_word_embeddings": True,
        "use_cache": True,
        "use_sliding_window": False,
        "bos_token_id": first_special,
        "eos_token_id": first_special + 2,
        "torch_dtype": "bfloat16",
    }


def write_checkpoint(
    options: argparse.Namespace, model: Qwen2ForCausalLM, tokenizer: Tokenizer, corpus: list, training: dict | None
) -> None:
    """Write the whole folder beside --output, then rename it into place."""
    output = options.output.resolve()
    temporary = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    config = config_json(options)
    (temporary / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    stops = [config["eos_token_id"], config["bos_token_id"]]
    generation = {"bos_token_id": config["bos_token_id"], "eos_token_id": stops, "pad_token_id": config["bos_token_id"], "do_sample": False}
    (temporary / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    tensors = {k: v.detach().to(torch.bfloat16).contiguous().clone() for k, v in model.state_dict().items() if k != "lm_head.weight"}
    save_file(tensors, temporary / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save(str(temporary / "tokenizer.json"), pretty=False)
    (temporary / "tokenizer_config.json").write_text(data.tokenizer_config(config["max_position_embeddings"]))
    licence = Path(sysconfig.get_paths()["stdlib"]) / "LICENSE.txt"
    if licence.exists():
        shutil.copyfile(licence, temporary / "LICENSE.txt")
    (temporary / "model.safetensors").chmod(0o644)
    try:
        write_card(temporary, corpus, training)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise

    old = output.with_name(f".{output.name}.{os.getpid()}.old")
    if output.exists():
        os.rename(output, old)
    os.rename(temporary, output)
    shutil.rmtree(old, ignore_errors=True)


def main() -> None:
    """Prepare the data, train, evaluate and write the checkpoint."""
    options = arguments()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    options.work.mkdir(parents=True, exist_ok=True)
    (options.work / ".gitignore").write_text("*\n")
    state_path, tokenizer_path = options.work / "state.pt", options.work / "tokenizer.json"

    corpus = data.read_corpus()
    train_files, held_out = data.split(corpus)
    if options.resume and tokenizer_path.exists():
        tokenizer = Tokenizer.from_file(str(tokenizer_path))
    else:
        with console.status("training the tokenizer"):
            tokenizer = data.train_tokenizer([f.text for f in train_files], options.vocab)
        tokenizer.save(str(tokenizer_path))
    end = tokenizer.token_to_id(data.END_OF_TEXT)
    with console.status("encoding the corpus"):

        def encode(texts):
            return np.concatenate([np.array([end, *e.ids], dtype=np.int32) for e in tokenizer.encode_batch(texts)])

        order = np.random.default_rng(options.seed).permutation(len(train_files))
        source = encode([train_files[i].text for i in order])
        chat = encode(data.chat_samples(train_files, options.seed))
    console.print(f"{len(train_files)} train files, {len(source):,} source tokens, {len(chat):,} chat tokens")
    windows = Windows(source, chat, options.chat_share, options.seed)

    model = Qwen2ForCausalLM(Qwen2Config(**{k: v for k, v in config_json(options).items() if k not in ("torch_dtype", "architectures")}))
    model.float()
    for name, parameter in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            # Residual branches start small, so that depth does not add up to noise.
            parameter.data.div_(math.sqrt(2 * options.layers))
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
        lr=options.learning_rate,
        betas=(0.9, 0.95),
        fused=True,
    )

    def loss_of(tokens: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(input_ids=tokens[:, :-1], use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten())

    step_loss = loss_of if options.no_compile else torch.compile(loss_of, dynamic=False)
    state = {"step": 0, "tokens": 0, "seconds": 0.0, "rows": {}, "loss": None}
    if options.resume:
        if not state_path.exists():
            raise SystemExit(f"Nothing to resume: {state_path} does not exist. Start without --resume.")
        saved = torch.load(state_path, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        state = saved["state"]
        console.print(f"resumed at step {state['step']}, {state['seconds'] / 60:.1f} minutes in")

    def progress_now() -> float:
        by_time = state["seconds"] / (options.minutes * 60) if options.minutes else 0.0
        return max(by_time, state["step"] / options.steps if options.steps else 0.0)

    bar = Progress(
        TextColumn("training"),
        BarColumn(),
        TextColumn("{task.percentage:.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        refresh_per_second=2,
    )
    last_save, published = state["seconds"], not options.publish_early
    model.train()
    with bar:
        task = bar.add_task("training", total=1.0, note="compiling" if not options.no_compile else "")
        while (progress := progress_now()) < 1.0:
            begun = time.monotonic()
            length = options.length if progress < LONG_PHASE else options.long_length
            rows = max(1, options.batch_tokens // length)
            rate = (
                options.learning_rate
                * min(1.0, (state["step"] + 1) / WARM_UP_STEPS)
                * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
            )
            for group in optimizer.param_groups:
                group["lr"] = rate
            position = state["rows"].get(length, 0)
            loss = step_loss(windows.batch(length, position, rows))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            value = loss.item()
            if not math.isfinite(value):
                raise SystemExit(f"The loss is {value} at step {state['step']}; try a lower --learning-rate with --resume.")
            state["loss"] = value if state["loss"] is None else 0.98 * state["loss"] + 0.02 * value
            state["rows"][length] = position + rows
            state["step"] += 1
            state["tokens"] += rows * length
            spent = time.monotonic() - begun
            state["seconds"] += spent
            left = state["seconds"] * (1 / progress_now() - 1)
            bar.update(
                task,
                completed=progress_now(),
                note=f"step {state['step']}  loss {state['loss']:.3f}  {rows * length / spent:,.0f} tokens/s  {left / 60:.1f} min left",
            )
            if not console.is_terminal and state["step"] % 100 == 0:
                console.print(
                    f"step {state['step']} loss {state['loss']:.3f} {state['tokens'] / state['seconds']:,.0f} tokens/s, {left / 60:.1f} min left"
                )
            if state["seconds"] - last_save > options.save_every * 60:
                save_atomically({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "state": state}, state_path)
                last_save = state["seconds"]
                if not published:
                    write_checkpoint(options, model, tokenizer, corpus, None)
                    published = True
    save_atomically({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "state": state}, state_path)
    kept = [word for word in sys.argv[1:] if word not in ("--resume", "--publish-early")]
    command = shlex.join(["scripts/train_demo_checkpoint.py", *kept])
    training = {**state, "command": command, "seed": options.seed, "source": source, "options": vars(options)}
    with console.status("computing the held-out figures"):
        write_checkpoint(options, model, tokenizer, corpus, training)
    if options.held_out_text:
        temporary = options.held_out_text.with_suffix(".tmp")
        temporary.write_text(data.held_out_text(held_out), encoding="utf-8")
        os.replace(temporary, options.held_out_text)
    console.print(f"wrote {options.output}")
    console.print((options.output / "README.md").read_text(), markup=False, highlight=False)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("\nInterrupted. The same command with --resume goes on from the last saved state, if one was saved.") from None
