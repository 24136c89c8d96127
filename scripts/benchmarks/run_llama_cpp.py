#!/usr/bin/env python3
"""One side of the benchmarks: a GGUF run by llama.cpp through llama-cpp-python (see turns.py).

First token: evaluating the prompt (llama.cpp's own pieces of 512) and picking the best token; decode: one call and picking.
Flash attention is on, which is the faster of its two here; the cache's FP16 is its default.
"""

import time

from turns import parse, serve


def main():
    options = parse(__doc__, "GGUF", lambda parser: parser.add_argument("--cache-length", type=int, default=1280))
    import numpy as np
    from llama_cpp import Llama

    start = time.perf_counter()
    model = Llama(str(options.model), n_ctx=options.cache_length, n_threads=options.threads, n_threads_batch=options.threads, flash_attn=True, verbose=False)  # fmt: skip
    load = time.perf_counter() - start
    prompt = np.random.default_rng(0).integers(0, model.n_vocab(), options.prompt).tolist()

    def best() -> int:
        return int(np.ctypeslib.as_array(model._ctx.get_logits(), (model.n_vocab(),)).argmax())

    def turn() -> tuple[float, float]:
        model.reset()
        model._ctx.kv_cache_clear()
        start = time.perf_counter()
        model.eval(prompt)
        token = best()
        first = time.perf_counter()
        for _ in range(options.decode):
            model.eval([token])
            token = best()
        return first - start, (time.perf_counter() - first) / options.decode

    serve(load, turn)


if __name__ == "__main__":
    main()
