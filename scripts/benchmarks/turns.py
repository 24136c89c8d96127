"""The inner end of `measure_process.Side`: what the benchmark processes share.

A process prints JSON lines: one after loading and the first prompt, one per turn it is asked for, one at the end.

  load          seconds to the loaded model (imports before it are not counted)
  cold_first    the very first prompt of the process
  first         a prompt, warm, up to its first token
  decode        seconds per decoded token, averaged over the turn
  peak, RssAnon, RssFile, RssShmem   bytes: peak resident, and at the end private, of files, shared
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path


def parse(description: str, what: str, more: Callable[[argparse.ArgumentParser], None] = lambda parser: None) -> argparse.Namespace:
    """Reads the options all of these processes take."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help=what)
    parser.add_argument("--prompt", type=int, default=128, help="tokens of the prompt")
    parser.add_argument("--decode", type=int, default=32, help="tokens decoded after it")
    parser.add_argument("--threads", type=int, default=2)
    more(parser)
    return parser.parse_args()


def serve(load: float, turn: Callable[[], tuple[float, float]]):
    """Runs one turn at once and one for each line that says so; ``turn`` returns seconds to first token and per token."""
    cold, _ = turn()
    say({"load": load, "cold_first": cold, "start": load + cold})
    for line in sys.stdin:
        if line.strip() != "turn":
            break
        first, decode = turn()
        say({"first": first, "decode": decode})
    facts = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    named = {"peak": "VmHWM", "RssAnon": "RssAnon", "RssFile": "RssFile", "RssShmem": "RssShmem"}
    say({name: int(facts[line].split()[0]) * 1024 for name, line in named.items()})


def say(report: dict):
    """Prints one report."""
    print(json.dumps(report), flush=True)
