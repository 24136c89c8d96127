"""``scripts/fuzz``: tries damaged files for as long as asked, and prints how they ended."""

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[1] / "decoder")]
_CACHE = tempfile.TemporaryDirectory(prefix="firsttoken-fuzz-cache-")
os.environ["XDG_CACHE_HOME"] = _CACHE.name  # before anything is imported that reads it

from fuzz.limits import Counts, run, show  # noqa: E402
from fuzz.readers import READERS  # noqa: E402

ROUND = 200  # inputs of one reader, then it is the next one's turn


def main() -> int:
    names = [reader.name for reader in READERS]
    asked = argparse.ArgumentParser(prog="scripts/fuzz", description="Tries damaged files on every reader and counts how each ended.")
    asked.add_argument("--minutes", type=float, default=2.0, help="how long, over all readers (2)")
    asked.add_argument("--inputs", type=int, default=10**9, help="most inputs of each reader")
    asked.add_argument("--seed", type=int, default=0, help="another seed, other inputs (0)")
    asked.add_argument("--reader", action="append", choices=names, help="only this one; may be given again")
    asked.add_argument("--keep", type=Path, default=Path("fuzz-faults"), help="folder for inputs that ended in a fault (fuzz-faults)")
    given = asked.parse_args()
    chosen = [reader for reader in READERS if given.reader is None or reader.name in given.reader]
    with tempfile.TemporaryDirectory(prefix="firsttoken-fuzz-good-") as place:
        ready = [(reader.prepared(Path(place, reader.name)), Path(place, reader.name)) for reader in chosen]
        for reader, good in ready:
            reader.warm(Path(shutil.copytree(good, Path(place, f"{reader.name}-warm"))))
        totals = {reader.name: Counts() for reader in chosen}
        until, at = time.monotonic() + 60 * given.minutes, 0
        while at < given.inputs and time.monotonic() < until:
            for reader, good in ready:
                run(reader, good, given.seed, range(at, min(at + ROUND, given.inputs)), totals[reader.name], until, given.keep)
            at += ROUND
    faults = 0
    for name, counts in totals.items():
        print(show(name, counts))
        faults += len(counts.faults)
    print(
        f"{sum(counts.inputs for counts in totals.values())} inputs of seed {given.seed}, {faults} faults{f', kept in {given.keep}' if faults else ''}"
    )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
