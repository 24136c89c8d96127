"""Runs one stock export_llm .pte in this process and prints what it took, as one JSON line.

The same runtime, loading call and custom operators as ExecuTorch's own Python Llama runner, and the same definitions
as run_bundle.py. The file has one method, forward(tokens, input_pos), which returns the last position's logits; the
whole prompt is one call.
"""

import argparse
import json
import resource
import time
from pathlib import Path

from run_bundle import memory


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--prompt", type=int, default=128, help="tokens of the prompt")
    parser.add_argument("--decode", type=int, default=32, help="tokens decoded after each")
    parser.add_argument("--runs", type=int, default=3, help="warm runs")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--vocabulary", type=int, default=151936)
    parser.add_argument("--logits", type=Path, help="only write the prompt's logits here (.npy)")
    options = parser.parse_args()
    import numpy as np
    import torch
    from executorch.extension.pybindings import portable_lib
    from executorch.extension.llm.custom_ops import custom_ops  # noqa: F401  registers llama::
    from executorch.kernels import quantized  # noqa: F401

    torch.set_num_threads(options.threads)
    portable_lib._unsafe_reset_threadpool(options.threads)
    start = time.perf_counter()
    model = portable_lib._load_for_executorch(str(options.artifact))
    load = time.perf_counter() - start
    prompt = torch.from_numpy(np.random.default_rng(0).integers(0, options.vocabulary, options.prompt)).reshape(1, -1)

    def step(tokens: torch.Tensor, position: int) -> tuple[int, torch.Tensor]:
        logits = model.forward((tokens, torch.tensor([position])))[0].reshape(-1)
        return int(logits.argmax()), logits

    def first() -> tuple[float, int]:
        start = time.perf_counter()
        token, _ = step(prompt, 0)
        return time.perf_counter() - start, token

    def decode(token: int) -> float:
        start = time.perf_counter()
        for n in range(options.decode):
            token, _ = step(torch.tensor([[token]]), options.prompt + n)
        return (time.perf_counter() - start) / options.decode

    if options.logits:
        np.save(options.logits, step(prompt, 0)[1].numpy())
        print(json.dumps({"written": str(options.logits)}))
        return
    cold, token = first()
    decode(token)
    warm, steps = [], []
    for _ in range(options.runs):
        seconds, token = first()
        warm.append(seconds)
        steps.append(decode(token))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"load": load, "cold_first": cold, "first": warm, "decode": steps, "peak": peak} | memory()))


if __name__ == "__main__":
    main()
