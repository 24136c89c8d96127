#!/usr/bin/env python3
"""What a plan costs on a backend, computed on the host as the proof's twin computes it: no artifact is made, so this proves none.

    scripts/benchmarks/plan_on_host.py smollm2 --plan int4-npu --target tflite-hexagon-sm8550 --target tflite-xnnpack

For a plan whose artifact takes long to run, as an NPU's does on the HTP backend. One window of the held-out text, every position from the
eighth on, against the checkpoint in FP32.
"""

import argparse
import itertools

import numpy as np
from measure_process import table

from firsttoken.backends.registry import backend_of, resolve
from firsttoken.calibration.integers import facts_of, with_integers
from firsttoken.calibration.ranges import with_ranges
from firsttoken.calibration.text import read_text
from firsttoken.checkpoint_sources.open import open_checkpoint
from firsttoken.decoder.walk import open_decoder
from firsttoken.prove.arithmetic import Fp32
from firsttoken.prove.divergence import diverge, figures
from firsttoken.prove.prove import held_out_text
from firsttoken.prove.reference import logits_in
from firsttoken.prove.twin import planned
from firsttoken.quant.plan import load_plan
from firsttoken.targets.target import load_target
from firsttoken.tokenizer import Tokenizer

FIRST = 8  # position; before it a model has seen next to nothing


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--plan", action="append", required=True, help="may be repeated")
    parser.add_argument("--target", action="append", required=True, help="may be repeated")
    parser.add_argument("--tokens", type=int, default=320)
    options = parser.parse_args()
    source, text = open_checkpoint(options.checkpoint), read_text(None)
    decoder, tokenizer = open_decoder(source), Tokenizer(source.folder)
    tokens = np.array(tokenizer.encode(held_out_text(source.folder, None)[1], begin=False), np.int32)[: options.tokens + 1]
    run, positions, size = [tokens[:-1]], [np.arange(FIRST, len(tokens) - 1)], tokenizer.vocab_size
    [[reference]] = logits_in(source, decoder, [(Fp32(), [0])], run, positions, size)
    rows = []
    for plan, name in itertools.product(map(load_plan, options.plan), options.target):
        target = load_target(name)
        precisions = resolve(plan, decoder, target)
        facts = facts_of(plan, decoder, precisions, text)
        rounded = with_integers(source, decoder, plan, precisions, facts, text)
        facts = with_ranges(rounded, decoder, plan, precisions, facts, text)
        arithmetic = planned(decoder, plan, precisions, backend_of(target), calibration=facts)
        [[logits]] = logits_in(rounded, decoder, [(arithmetic, [0])], run, positions, size)
        found = figures(diverge(logits, reference, tokens[positions[0] + 1]), np.ones(len(logits), bool))
        rows.append([plan.name, name, f"{found.mean_kld:.3g}", f"{found.p99_kld:.3g}", f"{found.same_top:.2%}", f"{found.perplexity_change:+.2%}",
                     f"{found.magnitude_ratio:.4f}", found.tokens])  # fmt: skip
    print(table(["plan", "as on", "mean KLD", "p99", "same top", "perplexity", "magnitude", "positions"], rows))


if __name__ == "__main__":
    main()
