#!/usr/bin/env python3
"""First token and decoding inside LiteRT-LM: firsttoken's model.litertlm against the stock `litert-torch export_hf` bundle.

Same checkpoint, same precision (INT8), same runtime, same threads: LiteRT-LM's own benchmark mode on both (run_litert_lm.py). Fresh
processes of both sides take turns, A B A B, so that slow moments of the machine fall on both; ratios are of neighbouring turns.
A third process only reads our file's bytes from memory (run_reading.py): a decode step near its time waits for memory.

    python scripts/benchmarks/first_token_litertlm.py --ours OUT/litertlm-cpu/model.litertlm --stock STOCK/model.litertlm
"""

import sys
from pathlib import Path

from measure_process import MIB, Side, arguments, disturbance, per_turn, publish, ratio, spread, table, take_turns

HERE = Path(__file__).resolve().parent
OURS, STOCK, READING = "firsttoken", "export_hf", "reading the bytes"


def main():
    parser = arguments(__doc__)
    parser.add_argument("--ours", type=Path, required=True, help="model.litertlm of `firsttoken export -t litertlm-cpu`")
    parser.add_argument("--stock", type=Path, required=True, help="model.litertlm of `litert-torch export_hf`")
    parser.add_argument("--prompts", type=int, nargs="+", default=[16, 128, 300, 512], help="tokens (default: 16 128 300 512)")
    parser.add_argument("--processes", type=int, default=2, help="fresh processes per side and prompt length (default: 2)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (default: 5)")
    parser.add_argument("--decode", type=int, nargs="+", default=[12, 64], help="tokens decoded after each prompt (default: 12 64)")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    files = {OURS: options.ours, STOCK: options.stock}
    for path in files.values():
        if not path.is_file():
            raise SystemExit(f"{path} is missing; give the files with --ours and --stock")

    def sides(prompt: int, decode: int) -> dict:
        def make(name: str) -> Side:
            cache = options.work / f"cache-{name}"
            common = ["--prompt", prompt, "--decode", decode, "--threads", options.threads, "--cache", cache]
            return Side(
                [sys.executable, HERE / "run_litert_lm.py", files[name], *common], options.work / "logs" / f"litertlm-{name}.log", {}
            )

        reading = [sys.executable, HERE / "run_reading.py", options.ours, "--decode", decode, "--threads", options.threads]
        made = {name: lambda name=name: make(name) for name in files}
        return {**made, READING: lambda: Side(reading, options.work / "logs" / "litertlm-reading.log", {})}

    samples = {
        (prompt, decode): take_turns(sides(prompt, decode), options.processes, options.rounds, options.quiet)
        for prompt in options.prompts
        for decode in options.decode
    }
    rows = []
    for (prompt, decode), of in samples.items():
        for title, key in (
            (f"first token, {prompt} tokens, ms", "first"),
            (f"decode of {decode} after {prompt} tokens, ms a token", "decode"),
        ):
            if key == "first" and decode != options.decode[-1]:
                continue
            ours, theirs = per_turn(of[OURS], key), per_turn(of[STOCK], key)
            floor = spread(per_turn(of[READING], key), 1000, 1) if key == "decode" else ""
            rows.append(
                [title, spread(ours, 1000, 1), spread(theirs, 1000, 1), ratio(ours, theirs), f"{min(ours) / min(theirs):.2f}", floor]
            )
    largest = samples[max(samples)]
    ours, theirs = per_turn(largest[OURS], "peak"), per_turn(largest[STOCK], "peak")
    peaks = [spread(ours, 1 / MIB, 0), spread(theirs, 1 / MIB, 0), ratio(ours, theirs), f"{min(ours) / min(theirs):.2f}"]
    rows.append(["peak RSS, MiB", *peaks, ""])
    facts = (
        f"Median (minimum) of {options.processes} processes × {options.rounds} turns on {options.threads} threads; ratio: median (middle half) over "
        f"neighbouring turns, then of the minima. {disturbance(list(samples.values()))}"
    )
    header = ["in LiteRT-LM, INT8", OURS, STOCK, "ratio", "of minima", READING]
    publish(options.work, "first_token_litertlm", [table(header, rows), facts], {f"{p}+{d}": of for (p, d), of in samples.items()})


if __name__ == "__main__":
    main()
