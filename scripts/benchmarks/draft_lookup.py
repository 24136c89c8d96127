#!/usr/bin/env python3
"""What drafts by lookup make of the time of answers, by the kind of the question, and whether the answers are the same.

    firsttoken export smollm2 -p int8 -t tflite-xnnpack -t executorch-xnnpack -o out --draft-tokens 7
    .venv/bin/python scripts/benchmarks/draft_lookup.py out/tflite-xnnpack out/executorch-xnnpack

Both sides take turns on one loaded bundle, and a ratio is of two neighbours: the time of all tokens after the first without drafts over that with
them, so above 1 is sooner. Printed for each kind are the median and the least ratio, tokens a call, and the share of drafted tokens that were right.
With --calls instead: what a call that checks a draft takes beside one that decodes a token, after so many tokens.
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np

from firsttoken.bundle.manifest import read_manifest
from firsttoken.run.generate import Statistics, generate
from firsttoken.run.open import open_runner
from firsttoken.tokenizer import open_tokenizer

ROOT = Path(__file__).resolve().parents[2]
CHARACTERS = 2000  # of a text that a question is about


def questions():
    """Prompts by kind; the texts are this repository's."""
    texts = [(ROOT / "docs" / name).read_text()[:CHARACTERS] for name in ("measuring.md", "chat.md")]
    codes = [(ROOT / "python/firsttoken" / name).read_text()[:CHARACTERS] for name in ("measure/page_cache.py", "run/sampling.py")]
    return {
        "summarise": [f"Summarize this text:\n{text}" for text in texts],
        "list": [f"List the commands in this text:\n{text}" for text in texts],
        "edit": [f"Add type hints to this code and print it again:\n```python\n{code}\n```" for code in codes],
        "chat": ["Why is the sky blue?", "Write a short story about a robot."],
    }


def answered(runner, tokenizer, prompt, tokens, draft):
    facts = Statistics()
    text = "".join(generate(runner, tokenizer, prompt, tokens, statistics=facts, draft=draft))
    return text, facts


def calls(runner, before):
    """Milliseconds of calls that check a draft, and of calls that decode a token, in turns after ``before`` random tokens."""
    tokens = np.random.default_rng(3).integers(0, runner.vocab_size, before + runner.draft_tokens + 1)
    runner.reset()
    runner.prefill(tokens[:before])
    checking, decoding = [], []
    for turn in range(12):
        begun = time.perf_counter()
        runner.check(tokens[before:])
        runner.accept()
        between = time.perf_counter()
        runner.decode(int(tokens[turn]))
        if turn > 1:  # the first prepare
            checking.append((between - begun) * 1e3)
            decoding.append((time.perf_counter() - between) * 1e3)
    return checking, decoding


def show_calls(bundle, threads):
    runner = open_runner(bundle, threads)
    for before in (100, 600, 1100):
        checking, decoding = calls(runner, before)
        ratio = statistics.median(a / b for a, b in zip(checking, decoding, strict=True))
        shown = ", ".join(f"{statistics.median(times):.1f} ms (least {min(times):.1f})" for times in (checking, decoding))
        print(f"{bundle.name}, after {before} tokens: check and decode {shown}; ratio {ratio:.2f}", flush=True)
    runner.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--tokens", type=int, default=128, help="of each answer at most")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--calls", action="store_true", help="what single calls take")
    asked = parser.parse_args()
    if asked.calls:
        for bundle in asked.bundles:
            show_calls(bundle, asked.threads)
        return
    print("| bundle | kind | ratio: median, least | tokens a call | drafted tokens right | same answers |")
    print("|:--|:--|--:|--:|--:|--:|")
    for bundle in asked.bundles:
        manifest = read_manifest(bundle)
        runner, tokenizer = open_runner(bundle, asked.threads), open_tokenizer(bundle, manifest)
        answered(runner, tokenizer, "Hello", 8, None)  # the first prepares
        for kind, prompts in questions().items():
            ratios, same, calls, drafted, accepted = [], 0, 0, 0, 0
            for prompt in prompts:
                for _ in range(asked.rounds):
                    (one, without), (other, having) = (
                        answered(runner, tokenizer, prompt, asked.tokens, draft) for draft in (None, "lookup")
                    )
                    ratios.append(without.decode / having.decode)
                    same += one == other
                    calls, drafted, accepted = calls + having.calls, drafted + having.drafted_tokens, accepted + having.accepted_tokens
            print(
                f"| {bundle.name} of {manifest.checkpoint.name} | {kind} | {statistics.median(ratios):.2f}, {min(ratios):.2f} | "
                f"{1 + accepted / calls:.2f} | {accepted / max(drafted, 1):.0%} | {same} of {len(ratios)} |",
                flush=True,
            )
        runner.close()


if __name__ == "__main__":
    main()
