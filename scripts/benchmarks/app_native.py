#!/usr/bin/env python3
"""The app's native runner beside its Java way: start, first token, and what a token costs outside the runtime.

    firsttoken export smollm2 -p int8 -t tflite-compat --no-prove -o out
    .venv/bin/python scripts/benchmarks/app_native.py out/tflite-compat

Both run the app's own compiled classes in a JVM of this machine, a process a start: the Java way on the TensorFlow Lite 2.16.1 library that scripts/build_apk carries
(the only one at hand here), the native one on LiteRT's of the Python wheel. So kernels are of two versions; what a start does, and what a token costs outside the runtime, is
the app's. The files are in the page cache. Rounds take turns; printed is the least of them. Needs what tests/android needs. It is not a phone.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from android.failure import BuildError
from android.jars import aars
from android.natives.checks import tokens_of
from android.natives.harness import PHONE_HEAP, harness
from android.natives.machines import this_machine
from android.natives.native_runner import native_harness

Way = Callable[[dict], object]


def start(way: Way, job: dict, folder: Path) -> dict:
    """Times one process, in milliseconds."""
    into = folder / "said.json"
    way({"mode": "timing", "into": str(into), **job})
    said = json.loads(into.read_text(encoding="utf-8"))
    first, rounds = said["rounds"][0]["first"], said["rounds"][1:]
    warm, decode, outside = (min(one[name] for one in rounds) for name in ("first", "decode", "outside"))
    return {
        name: value / 1e6
        for name, value in (
            ("load", said["load"]),
            ("whole", said["load"] + first),
            ("warm", warm),
            ("decode", decode),
            ("outside", outside),
        )
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", type=Path, nargs="+", help="tflite-compat bundles, which both run")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--decode", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    try:
        machine = this_machine()
        java, native = harness(machine, aars=aars("tensorflow-lite")), native_harness(machine)
    except BuildError as error:
        raise SystemExit(f"error: {error}") from None
    print("| bundle | runner | load, ms | load and first token, ms | first token, warm, ms | a token, ms | of it outside the runtime, ms |")
    print("|:--|:--|--:|--:|--:|--:|--:|")
    for bundle in asked.bundles:
        job = {
            "bundle": str(bundle.absolute()),
            "threads": asked.threads,
            "decode": asked.decode,
            "rounds": 4,
            "tokens": tokens_of(bundle, max(asked.tokens, asked.decode + 1))[: max(asked.tokens, asked.decode + 1)],
        }
        found: dict[str, list[dict]] = {}
        for number in range(asked.rounds):
            with tempfile.TemporaryDirectory() as scratch:
                folder = Path(scratch)
                cache = {"native": native.native(folder / "packed")}
                found.setdefault("Java, every start", []).append(start(java.run, job, folder))
                for name in ("native, first start", "native, later start"):
                    found.setdefault(name, []).append(start(lambda one: native.run(one, PHONE_HEAP), job | cache, folder))
            print(f"{bundle}: round {number + 1} of {asked.rounds}", file=sys.stderr)
        for name, rounds in found.items():
            least = {what: min(one[what] for one in rounds) for what in rounds[0]}
            print(
                f"| {bundle.parent.name} | {name} | {least['load']:.0f} | {least['whole']:.0f} | {least['warm']:.1f} | {least['decode']:.2f} | {least['outside']:.3f} |"
            )


if __name__ == "__main__":
    main()
