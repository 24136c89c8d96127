#!/usr/bin/env python3
"""First token and decoding on .pte: firsttoken's bundles against the stock export_llm file, both in ExecuTorch's Python runtime.

Same checkpoint, same threads. Fresh processes of all sides are loaded and take turns, so that slow moments of the
machine fall on all; ratios are of neighbouring turns. Like for like is our plan int4-group128; our int8 plan is shown
with it. First token is wall time around the prompt's call and picking the best token, decode the same for one token.
The logits of one prompt are compared, too: the files hold the same weights. Run export_executorch.py first.
"""

import sys
from itertools import chain
from pathlib import Path

from measure_process import MIB, Side, arguments, disturbance, per_turn, publish, ratio, run_measured, spread, table, take_turns

HERE = Path(__file__).resolve().parent
INT4, INT8, STOCK = "firsttoken int4-group128", "firsttoken int8", "export_llm 8da4w"


def compare_logits(ours: Path, theirs: Path) -> str:
    """Says how near two vectors of logits are."""
    import numpy as np

    a, b = np.load(ours).astype(np.float64), np.load(theirs).astype(np.float64)
    relative = np.sqrt(((a - b) ** 2).mean()) / b.std()
    return f"Logits after one prompt of 128 tokens, {INT4} against {STOCK}: correlation {np.corrcoef(a, b)[0, 1]:.4f}, RMS difference {relative:.1%} of their deviation."


def main():
    parser = arguments(__doc__)
    parser.add_argument("--prompts", type=int, nargs="+", default=[128, 512], help="tokens (default: 128 512)")
    parser.add_argument("--processes", type=int, default=4, help="fresh processes per side and prompt length (default: 4)")
    parser.add_argument("--rounds", type=int, default=8, help="turns of each (default: 8)")
    parser.add_argument("--decode", type=int, default=32, help="tokens decoded after each prompt (default: 32)")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    work = options.work
    commands = {
        INT4: [HERE / "run_bundle.py", work / "exports" / "llama-0.5b-int4-group128" / "executorch-xnnpack"],
        STOCK: [HERE / "run_export_llm.py", work / "exports" / "llama-0.5b-export_llm" / "model.pte"],
        INT8: [HERE / "run_bundle.py", work / "exports" / "llama-0.5b-int8" / "executorch-xnnpack"],
    }
    for _, path in commands.values():
        if not path.exists():
            raise SystemExit(f"{path} is missing; run scripts/benchmarks/export_executorch.py first")
    environment = {"XDG_CACHE_HOME": str(work / "cache-firsttoken")}
    logits = {name: work / f"logits-{n}.npy" for n, name in enumerate((INT4, STOCK))}
    for name, path in logits.items():
        run_measured([sys.executable, *commands[name], "--logits", path], work / "logs" / "logits.log", environment)
    likeness = compare_logits(logits[INT4], logits[STOCK])

    def sides(prompt: int) -> dict:
        common = ["--prompt", prompt, "--decode", options.decode, "--threads", options.threads]
        return {
            name: lambda name=name: Side(
                [sys.executable, *commands[name], *common], work / "logs" / f"first-token-{name.replace(' ', '-')}.log", environment
            )
            for name in commands
        }

    samples = {prompt: take_turns(sides(prompt), options.processes, options.rounds, options.quiet) for prompt in options.prompts}
    rows = []

    def row(title: str, of: dict, key: str, scale: float = 1000, digits: int = 1):
        stock = per_turn(of[STOCK], key)
        ours = [per_turn(of[name], key) for name in (INT4, INT8)]
        rows.append([title, spread(stock, scale, digits), *chain.from_iterable((spread(v, scale, digits), ratio(v, stock)) for v in ours)])

    for prompt, of in samples.items():
        row(f"first token, {prompt} tokens, ms", of, "first")
    for prompt, of in samples.items():
        row(f"decode after {prompt} tokens, ms a token", of, "decode")
    smallest, largest = samples[min(samples)], samples[max(samples)]
    row("load, ms", smallest, "load", 1000, 0)
    row(f"load and first token, {min(samples)} tokens, ms", smallest, "start", 1000, 0)
    row("peak RSS, MiB", largest, "peak", 1 / MIB, 0)
    row("of it private, MiB", largest, "RssAnon", 1 / MIB, 0)
    facts = (
        f"Median (minimum) of {options.processes} processes × {options.rounds} turns on {options.threads} threads; ratio: median (middle half) over neighbouring turns. "
        + disturbance(list(samples.values()))
    )
    header = ["0.5B shape without biases", STOCK, INT4, "ratio", INT8, "ratio"]
    publish(work, "first_token_executorch", [table(header, rows), facts, likeness], {"samples": samples, "likeness": likeness})


if __name__ == "__main__":
    main()
