#!/usr/bin/env python3
"""Chats encoded a second, as distillation does it: template, tokenizer and what is learned, on the demo checkpoint's tokenizer.

    scripts/benchmarks/encode_chats.py [--chats 5000] [--rounds 3]
    scripts/benchmarks/encode_chats.py --memory 10000 200000

Chats of one question (300 characters) and one answer (900), cut from the held-out text. ``--memory`` instead encodes files of so many chats
as a run does, a process each, and prints the highest resident memory of each: it is to stay the same.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

from firsttoken.demo import checkpoint_path, held_out_text
from firsttoken.distill.documents import encode_documents
from firsttoken.distill.records import Document
from firsttoken.progress import silent
from firsttoken.tokenizer import Tokenizer


def chat(text, number):
    """The turns of the ``number``-th chat."""
    asked, answered = (number * 41) % (len(text) - 300), (number * 67) % (len(text) - 900)
    return [{"role": "user", "content": text[asked : asked + 300]}, {"role": "assistant", "content": text[answered : answered + 900]}]


def encode_file(path):
    """In a process of its own: encodes and packs a file of chats into files, maps them, reads them once through."""
    from firsttoken.distill.documents import training_windows
    from firsttoken.distill.recipe import check_recipe

    recipe = check_recipe({
        "summary": "chats", "student": {"config": "none"}, "data": {"train": [{"files": [path]}], "held_out": [path]},
        "loss": [{"kind": "cross_entropy"}], "training": {"steps": 1},
    })  # fmt: skip
    begin = time.perf_counter()
    windows = training_windows(recipe, Tokenizer(checkpoint_path()), folder=Path(path).parent / "work")
    status = Path("/proc/self/status").read_text()
    peak = int(re.search(r"VmHWM:\s+(\d+)", status).group(1)) / 1024
    print(json.dumps({"peak": peak, "windows": len(windows), "seconds": time.perf_counter() - begin}))


def memory(counts):
    text = held_out_text()
    print("| chats | windows | chats/s | highest resident memory, MiB |\n|--:|--:|--:|--:|")
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "chats.jsonl"
            with open(path, "w", encoding="utf-8") as stream:
                stream.writelines(json.dumps({"messages": chat(text, number)}) + "\n" for number in range(count))
            done = subprocess.run([sys.executable, __file__, "--file", str(path)], capture_output=True, text=True)
            if done.returncode:
                sys.exit(done.stderr)
        found = json.loads(done.stdout.splitlines()[-1])
        print(f"| {count:,} | {found['windows']:,} | {count / found['seconds']:,.0f} | {found['peak']:,.0f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chats", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", type=int, nargs="+", metavar="CHATS")
    parser.add_argument("--file", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.file or options.memory:
        return encode_file(options.file) if options.file else memory(options.memory)
    text, tokenizer, data = held_out_text(), Tokenizer(checkpoint_path()), SimpleNamespace(answers_only=True)
    documents = []
    for number in range(options.chats):
        documents.append(Document(str(number), "chat", messages=chat(text, number)))
    rates = []
    for _ in range(options.rounds):
        begin = time.perf_counter()
        pieces = [piece for found in encode_documents(documents, data, tokenizer, silent, "encoding") for piece in found]
        rates.append(options.chats / (time.perf_counter() - begin))
    tokens = sum(len(piece.tokens) for piece in pieces)
    print(f"{statistics.median(rates):,.0f} chats/s (most {max(rates):,.0f}), {tokens / options.chats:.0f} tokens a chat")


if __name__ == "__main__":
    main()
