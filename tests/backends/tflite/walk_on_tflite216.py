"""Runs in the TensorFlow Lite 2.16.1 environment: first -> decode -> extend over a cache, saving the logits of each."""

import sys

import numpy as np
from tflite_runtime.interpreter import Interpreter

MASKED = -30000.0


def main(model: str, tokens_file: str, output: str):
    tokens = np.load(tokens_file).astype(np.int32)
    interpreter = Interpreter(model, num_threads=2)
    call = {name: interpreter.get_signature_runner(name) for name in ("first", "decode", "extend")}
    count, more, rows = 50, 40, 64

    def positions(start, stop):
        return np.arange(start, stop, dtype=np.float32)

    first = call["first"](tokens=tokens[:count], positions=positions(0, count), last=np.array([count - 1], np.int32))
    new = {name: value for name, value in first.items() if name != "logits"}
    cache = {name: np.zeros((*value.shape[:2], rows, value.shape[3]), value.dtype) for name, value in new.items()}
    for name, value in new.items():
        cache[name][:, :, :count] = value
    mask, slot = np.full((1, rows), MASKED, np.float32), np.zeros((1, rows), np.float32)
    mask[0, : count + 1], slot[0, count] = 0, 1
    decode = call["decode"](tokens=tokens[count : count + 1], positions=positions(count, count + 1), cache_mask=mask, slot=slot, **cache)
    for name in cache:
        cache[name][:, :, count : count + 1] = decode[name]
    start = count + 1
    extend = call["extend"](
        tokens=tokens[start : start + more],
        positions=positions(start, start + more),
        last=np.array([more - 1], np.int32),
        cache_mask=np.zeros((1, start), np.float32),
        **{name: np.ascontiguousarray(value[:, :, :start]) for name, value in cache.items()},
    )
    np.savez(output, **{str(count - 1): first["logits"], str(count): decode["logits"], str(start + more - 1): extend["logits"]})


if __name__ == "__main__":
    main(*sys.argv[1:])
