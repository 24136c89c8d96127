#!/usr/bin/env python3
"""What each plan costs as a GGUF file: llama.cpp's logits, all positions of a text in one call, against transformers' of the checkpoint in FP32.

python scripts/benchmarks/gguf_quality.py CHECKPOINT [--plans …] [--tokens 400] needs the extras gguf-run and distill. Nothing of our own runner or
reference takes part: llama-cpp-python runs the file, which `firsttoken export --no-prove` wrote; its KV cache is in FP16, llama.cpp's default.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

PLANS = ("fp32", "fp16", "fp16-attention", "int8", "int4-mlp", "int4")


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def main() -> None:
    import torch
    from llama_cpp import Llama
    from transformers import AutoModelForCausalLM

    from firsttoken.checkpoint_sources.open import open_checkpoint
    from firsttoken.demo import held_out_text
    from firsttoken.pipeline import export
    from firsttoken.tokenizer import Tokenizer

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--plans", nargs="+", default=PLANS)
    parser.add_argument("--tokens", type=int, default=400)
    options = parser.parse_args()
    with open_checkpoint(options.checkpoint) as checkpoint:
        folder = checkpoint.folder
    tokenizer = Tokenizer(folder)
    tokens = tokenizer.encode(held_out_text())[: options.tokens]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        expected = model(torch.tensor([tokens])).logits[0, :, : tokenizer.vocab_size].numpy()
    del model
    wanted = log_softmax(expected)
    print("plan | MiB | mean KLD | p99 | same top | magnitude")
    for plan in options.plans:
        with tempfile.TemporaryDirectory() as work:
            [bundle] = export(options.checkpoint, work, plan, ("gguf",), prove=False)
            file = Path(bundle) / "model.gguf"
            size = file.stat().st_size / 2**20
            llama = Llama(
                str(file), n_ctx=options.tokens + 16, n_batch=options.tokens, logits_all=True, n_threads=1, n_threads_batch=1, verbose=False
            )
            llama.eval(tokens)
            logits = np.array(llama.scores[: len(tokens), : tokenizer.vocab_size])
            llama.close()
        found = log_softmax(logits)
        divergence = (np.exp(wanted) * (wanted - found)).sum(-1)
        same = (logits.argmax(-1) == expected.argmax(-1)).mean()
        ratio = np.sqrt(np.square(logits).mean() / np.square(expected).mean())
        print(f"{plan} | {size:.1f} | {divergence.mean():.2g} | {np.quantile(divergence, 0.99):.2g} | {same:.2%} | {ratio:.4f}", flush=True)


if __name__ == "__main__":
    main()
