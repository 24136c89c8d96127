#!/usr/bin/env python3
"""Chats encoded a second, as distillation does it: template, tokenizer and what is learned, on the demo checkpoint's tokenizer.

    scripts/benchmarks/encode_chats.py [--chats 5000] [--rounds 3]

Chats of one question (300 characters) and one answer (900), cut from the held-out text.
"""

import argparse
import statistics
import time
from types import SimpleNamespace

from firsttoken.demo import checkpoint_path, held_out_text
from firsttoken.distill.documents import encode_documents
from firsttoken.distill.records import Document
from firsttoken.progress import silent
from firsttoken.tokenizer import Tokenizer


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chats", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    text, tokenizer, data = held_out_text(), Tokenizer(checkpoint_path()), SimpleNamespace(answers_only=True)
    documents = []
    for number in range(options.chats):
        asked, answered = (number * 41) % (len(text) - 300), (number * 67) % (len(text) - 900)
        turns = [{"role": "user", "content": text[asked : asked + 300]}, {"role": "assistant", "content": text[answered : answered + 900]}]
        documents.append(Document(str(number), "chat", messages=turns))
    rates = []
    for _ in range(options.rounds):
        begin = time.perf_counter()
        pieces = [piece for found in encode_documents(documents, data, tokenizer, silent, "encoding") for piece in found]
        rates.append(options.chats / (time.perf_counter() - begin))
    tokens = sum(len(piece.tokens) for piece in pieces)
    print(f"{statistics.median(rates):,.0f} chats/s (most {max(rates):,.0f}), {tokens / options.chats:.0f} tokens a chat")


if __name__ == "__main__":
    main()
