"""Runs one firsttoken bundle in this process and prints what it took, as one JSON line; the benchmarks start it fresh.

  load          from the call that opens the bundle to the loaded model (imports before it are not counted)
  cold_first    the very first prompt of the process: prefill and picking the best token
  first         the same, warm, once per run
  decode        seconds per token of each run: one decode call and picking the best token, averaged over the tokens
"""

import argparse
import json
import resource
import time
from pathlib import Path


def memory() -> dict[str, int]:
    """Resident bytes now: private (RssAnon) and file-backed (RssFile, RssShmem)."""
    facts = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {name: int(facts[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile", "RssShmem")}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--prompt", type=int, default=128, help="tokens of the prompt")
    parser.add_argument("--decode", type=int, default=32, help="tokens decoded after each")
    parser.add_argument("--runs", type=int, default=3, help="warm runs")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--logits", type=Path, help="only write the prompt's logits here (.npy)")
    options = parser.parse_args()
    import numpy as np

    from firsttoken.quiet import quiet_runtime
    from firsttoken.run.runner import open_runner

    with quiet_runtime():
        start = time.perf_counter()
        runner = open_runner(options.bundle, options.threads)
        load = time.perf_counter() - start
        prompt = np.random.default_rng(0).integers(0, runner.vocab_size, options.prompt)

        def first() -> tuple[float, int]:
            runner.reset()
            start = time.perf_counter()
            token = int(runner.prefill(prompt).argmax())
            return time.perf_counter() - start, token

        if options.logits:
            np.save(options.logits, runner.prefill(prompt))
            print(json.dumps({"written": str(options.logits)}))
            return

        def decode(token: int) -> float:
            start = time.perf_counter()
            for _ in range(options.decode):
                token = int(runner.decode(token).argmax())
            return (time.perf_counter() - start) / options.decode

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
