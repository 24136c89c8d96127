#!/usr/bin/env python3
"""First token after long prompts: firsttoken's .tflite, the stock bundle in LiteRT-LM, and llama.cpp, taking turns in one run.

    scripts/benchmarks/make_checkpoint.py qwen-0.5b
    scripts/benchmarks/long_prompt.py                                      1k, 2k, 4k and 8k tokens, plan int8
    scripts/benchmarks/long_prompt.py --prompts 4096 --processes 3 --llama-python /path/to/venv/bin/python

All have room for 8,448 tokens. Ours is exported here; LiteRT-LM's by `litert-torch export_hf` (prefill graphs of 128 and 512, as in
export_tflite.py), which needs tensorflow-cpu beside litert-torch (--stock-python); llama.cpp's by write_gguf.py in Q8_0, run by a Python that
has llama-cpp-python (--llama-python). A side whose Python is not given is left out, and the table says so. What was exported stays for the
next run. Random weights: only times and memory count.
"""

import sys
from pathlib import Path

from first_token_tflite import OURS, STOCK
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
LLAMA = "llama.cpp"
ROOM = 8448  # tokens
FIRSTTOKEN = [sys.executable, "-c", "from firsttoken.cli import main; main()"]


def export_ours(work: Path, checkpoint: Path, plan: str) -> Path:
    bundle = work / "exports" / f"{checkpoint.name}-{plan}-long" / "tflite-xnnpack"
    if not (bundle / "manifest.json").is_file():
        command = [*FIRSTTOKEN, "export", checkpoint, "-p", plan, "-t", "tflite-xnnpack", "--cache-length", ROOM, "-o", bundle.parent]
        run_measured([*map(str, command), "--force", "--no-prove"], work / "logs" / "long-prompt-export.log")
    return bundle


def export_stock(work: Path, checkpoint: Path, python: Path) -> Path:
    folder = work / "exports" / f"{checkpoint.name}-litert-torch-long"
    if not (folder / "model.litertlm").is_file():
        options = [f"--model={checkpoint}", f"--output_dir={folder}", "--prefill_lengths=[128,512]", f"--cache_length={ROOM}", "--quantization_recipe=dynamic_wi8_afp32"]  # fmt: skip
        run_measured([python, "-m", "litert_torch.cli", "export_hf", *options], work / "logs" / "long-prompt-stock.log")
    return folder / "model.litertlm"


def export_gguf(work: Path, checkpoint: Path) -> Path:
    path = work / f"{checkpoint.name}.gguf"
    if not path.is_file():
        run_measured([sys.executable, HERE / "write_gguf.py", checkpoint, path], work / "logs" / "long-prompt-gguf.log")
    return path


def main():
    parser = arguments(__doc__)
    parser.add_argument("--plan", default="int8")
    parser.add_argument("--prompts", type=int, nargs="+", default=[1024, 2048, 4096, 8192], help="tokens (default: 1024 2048 4096 8192)")
    parser.add_argument("--processes", type=int, default=2, help="fresh processes per side and prompt length (default: 2)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each (default: 3)")
    parser.add_argument("--decode", type=int, default=4, help="tokens decoded after each prompt (default: 4)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--stock-python", type=Path, metavar="PYTHON", help="Python with litert-torch and TensorFlow, for the stock export")
    parser.add_argument(
        "--stock", type=Path, metavar="FILE", help="a model.litertlm of the same checkpoint with that room, exported before"
    )
    parser.add_argument("--llama-python", type=Path, metavar="PYTHON", help="Python with llama-cpp-python")
    options = parser.parse_args()
    work = options.work
    checkpoint = require_checkpoint(work, "qwen-0.5b")
    bundle = export_ours(work, checkpoint, options.plan)
    stock = options.stock or (export_stock(work, checkpoint, options.stock_python) if options.stock_python else None)

    def sides(prompt: int) -> dict:
        common = ["--prompt", prompt, "--decode", options.decode, "--threads", options.threads]
        commands = {OURS: [sys.executable, HERE / "run_bundle.py", bundle, *common]}
        if stock:
            cache = work / "cache-litert-lm-long"
            commands[STOCK] = [sys.executable, HERE / "run_litert_lm.py", stock, *common, "--cache", cache, "--cache-length", ROOM]
        if options.llama_python:
            commands[LLAMA] = [
                options.llama_python,
                HERE / "run_llama_cpp.py",
                export_gguf(work, checkpoint),
                *common,
                "--cache-length",
                ROOM,
            ]
        environment = {"XDG_CACHE_HOME": str(work / "cache-firsttoken")}
        return {name: lambda name=name: Side(commands[name], work / "logs" / f"long-prompt-{name}.log", environment) for name in commands}

    take_turns(sides(128), 1, 1, ANY_LOAD)  # fills both disk caches
    samples = {prompt: take_turns(sides(prompt), options.processes, options.rounds, options.quiet) for prompt in options.prompts}
    names = list(next(iter(samples.values())))
    rows = []

    def row(title: str, of: dict, key: str, scale: float = 1000, digits: int = 0):
        values = {name: per_turn(of[name], key) for name in names}
        others = [ratio(values[OURS], values[name]) for name in names[1:]]
        rows.append([title, *(spread(values[name], scale, digits) for name in names), *others])

    for prompt, of in samples.items():
        row(f"first token, {prompt:,} tokens, ms", of, "first")
    for prompt, of in samples.items():
        row(f"decode after {prompt:,} tokens, ms a token", of, "decode", digits=1)
    for prompt, of in samples.items():
        row(f"private memory, {prompt:,} tokens, MiB", of, "RssAnon", 1 / MIB)
    facts = f"Median (minimum) of {options.processes} processes × {options.rounds} turns on {options.threads} threads; ratio: median (middle half) over neighbouring turns. "
    left_out = [name for name in (STOCK, LLAMA) if name not in names]
    facts += disturbance(list(samples.values())) + (f" Not run: {', '.join(left_out)}." if left_out else "")
    header = [f"0.5B shape, plan {options.plan}", *names, *(f"ratio to {name}" for name in names[1:])]
    publish(work, "long_prompt", [table(header, rows), facts], {"samples": samples})


if __name__ == "__main__":
    main()
