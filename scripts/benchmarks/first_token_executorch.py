"""First token and decoding on .pte: firsttoken's bundles against the stock export_llm file, both through ExecuTorch's Python runtime.

Same checkpoint, same threads; fresh processes, A B A B, each started on a quiet machine. Like for like is our plan
int4-group128; our int8 plan is shown with it. First token is wall time around the prompt's call and picking the best
token, decode the same for one token (see run_bundle.py and run_export_llm.py). The runtime loads a method when it is first
used, so load and first token are shown together. The logits of one prompt are compared
too: the two files hold the same weights in the same precisions. Run export_executorch.py first.
"""

import sys
from itertools import chain
from pathlib import Path

from measure_process import MIB, arguments, interleave, publish, ratio, run_json, spread, table

HERE = Path(__file__).resolve().parent
INT4, INT8, STOCK = "firsttoken int4-group128", "firsttoken int8", "export_llm 8da4w"


def compare_logits(ours: Path, theirs: Path) -> str:
    """Says how near two vectors of logits are."""
    import numpy as np

    a, b = np.load(ours).astype(np.float64), np.load(theirs).astype(np.float64)
    relative = np.sqrt(((a - b) ** 2).mean()) / b.std()
    return f"Logits of one prompt of 128 tokens, {INT4} against {STOCK}: correlation {np.corrcoef(a, b)[0, 1]:.5f}, RMS difference {relative:.1%} of their deviation, same best token: {'yes' if a.argmax() == b.argmax() else 'no'}."


def main():
    parser = arguments(__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="processes per side and prompt length (default: 5)")
    parser.add_argument("--runs", type=int, default=3, help="warm runs per process (default: 3)")
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

    def call(name: str, prompt: int, *more: object) -> dict:
        command = [sys.executable, *commands[name], "--prompt", prompt, "--decode", options.decode, "--runs", options.runs, "--threads", options.threads, *more]
        found = run_json(command, work / "logs" / f"first-token-{commands[name][0].stem}.log", environment)
        return found if more else found | {"start": found["load"] + found["cold_first"]}

    logits = {name: work / f"logits-{n}.npy" for n, name in enumerate((INT4, STOCK))}
    for name, path in logits.items():
        call(name, 128, "--logits", path)
    likeness = compare_logits(logits[INT4], logits[STOCK])
    samples = {
        str(prompt): interleave({name: lambda _, name=name, prompt=prompt: call(name, prompt) for name in commands}, options.repeats, options.quiet)
        for prompt in (128, 512)
    }

    def values(of: dict, name: str, key: str) -> list[float]:
        found = [sample[key] for sample in of[name]]
        return list(chain.from_iterable(found)) if isinstance(found[0], list) else found

    rows = []

    def row(title: str, of: dict, key: str, scale: float = 1000, digits: int = 1):
        stock = values(of, STOCK, key)
        ours = [values(of, name, key) for name in (INT4, INT8)]
        rows.append([title, spread(stock, scale, digits), *chain.from_iterable((spread(v, scale, digits), ratio(v, stock)) for v in ours)])

    for prompt, of in samples.items():
        row(f"first token, {prompt} tokens, ms", of, "first")
    for prompt, of in samples.items():
        row(f"decode after {prompt} tokens, ms a token", of, "decode")
    row("cold start: load and first token, 128 tokens, ms", samples["128"], "start", 1000, 0)
    row("peak RSS at 512 tokens, MiB", samples["512"], "peak", 1 / MIB, 0)
    worst = max(s["other_load"] for of in samples.values() for side in of.values() for s in side)
    facts = f"Median (minimum) of {options.repeats} processes × {options.runs} warm runs, {options.threads} threads; ratio of medians (of minima). Most cores kept busy by others during a run: {worst:.2f}."
    header = ["0.5B shape without biases", STOCK, INT4, "ratio", INT8, "ratio"]
    publish(work, "first_token_executorch", [table(header, rows), facts, likeness], {"samples": samples, "likeness": likeness})


if __name__ == "__main__":
    main()
