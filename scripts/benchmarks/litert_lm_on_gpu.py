#!/usr/bin/env python3
"""LiteRT-LM's GPU backend on the software GPU: how often its greedy answer is the CPU backend's, and what a late position would give.

    scripts/benchmarks/litert_lm_on_gpu.py BUNDLE_OR_FILE [--sessions 14] [--prompt TEXT] [--tokens 6]

A file is any .litertlm; of a bundle for litertlm-gpu the answer is computed besides with LiteRT itself, on the CPU, with decoding as it should
be, and with every step from one on fed the position of the step before, and the mask of the one before that.
"""

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from firsttoken.backends.gpu.device import device_environment

PROMPT = "def open(file, mode"


def answers(file: Path, backend: str, sessions: int, prompt: str, tokens: int) -> list[str]:
    """The answers of one engine's sessions, one after another; in the process that sees the device."""
    import litert_lm

    litert_lm.set_min_log_severity(litert_lm.LogSeverity.ERROR)
    chosen = litert_lm.Backend.GPU() if backend == "gpu" else litert_lm.Backend.CPU()
    greedy = litert_lm.SamplerConfig(top_k=1, top_p=1.0, temperature=1.0, seed=1)
    found = []
    with tempfile.TemporaryDirectory() as folder, litert_lm.Engine(str(file), chosen, cache_dir=folder) as engine:
        for _ in range(sessions):
            with engine.create_session(max_output_tokens=tokens, sampler_config=greedy) as session:
                session.run_prefill([prompt])
                found.append(session.run_decode().texts[0])
    return found


def computed(bundle: Path, prompt: str, tokens: int, late_from: int | None) -> str:
    """What LiteRT computes on the CPU from the bundle's graphs."""
    from firsttoken.bundle.manifest import read_manifest
    from firsttoken.run.open import open_runner
    from firsttoken.tokenizer import open_tokenizer

    tokenizer, runner = open_tokenizer(bundle, read_manifest(bundle)), open_runner(bundle, 1)
    try:
        given = tokenizer.encode(prompt)
        logits, out = runner.prefill(given), []
        call = runner._call("decode", 1)
        for step in range(tokens):
            out.append(int(logits.argmax()))
            position = len(given) + step
            lag = int(late_from is not None and step >= late_from)
            call.inputs["tokens"][0, 0], call.inputs["input_pos"][0] = out[-1], position - lag
            call.inputs["mask"][...] = np.where(np.arange(call.inputs["mask"].shape[3]) <= position - 2 * lag, 0, -1e9)
            call.model.run("decode", call._inputs, call._outputs)
            logits = call.outputs["logits"].reshape(-1)
        return tokenizer.decode(out)
    finally:
        runner.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--sessions", type=int, default=14)
    parser.add_argument("--prompt", default=PROMPT)
    parser.add_argument("--tokens", type=int, default=6)
    parser.add_argument("--inside", choices=("cpu", "gpu"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    file = options.file / "model.litertlm" if options.file.is_dir() else options.file
    if options.inside:
        for answer, count in Counter(answers(file, options.inside, options.sessions, options.prompt, options.tokens)).most_common():
            print(f"{options.inside}: {count} of {options.sessions}: {answer!r}", flush=True)
        return
    for backend in ("cpu", "gpu"):
        done = subprocess.run(
            [sys.executable, __file__, *sys.argv[1:], "--inside", backend], env=device_environment(), stderr=subprocess.PIPE, text=True
        )
        if done.returncode:
            raise SystemExit(f"LiteRT-LM's {backend} backend failed ({done.returncode}): {done.stderr[-1000:]}")
    if options.file.is_dir():
        print(f"LiteRT: {computed(options.file, options.prompt, options.tokens, None)!r}")
        for step in range(1, 4):
            print(
                f"LiteRT, positions late from decode step {step + 1} on: {computed(options.file, options.prompt, options.tokens, step)!r}"
            )


if __name__ == "__main__":
    main()
