#!/usr/bin/env python3
"""One side of the benchmarks: a stock export_llm .pte in ExecuTorch's Python runtime (see turns.py).

The same runtime and custom operators as ExecuTorch's own Python Llama runner. The file has one method,
forward(tokens, input_pos), which returns the last position's logits; the whole prompt is one call. First token: that
call and picking the best token; decode: the same with one token.
"""

import time
from pathlib import Path

from turns import parse, serve

VOCABULARY = 151936


def main():
    options = parse(
        __doc__, "model.pte", lambda parser: parser.add_argument("--logits", type=Path, help="only write the prompt's logits here (.npy)")
    )
    import numpy as np
    import torch
    from executorch.extension.llm.custom_ops import custom_ops  # noqa: F401  registers llama::
    from executorch.extension.pybindings import portable_lib
    from executorch.kernels import quantized  # noqa: F401

    torch.set_num_threads(options.threads)
    portable_lib._unsafe_reset_threadpool(options.threads)
    start = time.perf_counter()
    program = portable_lib._load_program(str(options.model))
    method = program.load_method("forward")
    load = time.perf_counter() - start
    prompt = torch.from_numpy(np.random.default_rng(0).integers(0, VOCABULARY, options.prompt)).reshape(1, -1)

    def step(tokens: torch.Tensor, position: int) -> torch.Tensor:
        return method.call((tokens, torch.tensor([position])))[0].reshape(-1)

    if options.logits:
        np.save(options.logits, step(prompt, 0).numpy())
        return

    def turn() -> tuple[float, float]:
        start = time.perf_counter()
        token = int(step(prompt, 0).argmax())
        first = time.perf_counter()
        for n in range(options.decode):
            token = int(step(torch.tensor([[token]]), options.prompt + n).argmax())
        return first - start, (time.perf_counter() - first) / options.decode

    serve(load, turn)


if __name__ == "__main__":
    main()
