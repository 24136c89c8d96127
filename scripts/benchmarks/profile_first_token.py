#!/usr/bin/env python3
"""Where the time to the first token goes, on .tflite: both sides of first_token_tflite.py under Linux `perf`.

Only prompts are recorded, no loading. The runtimes' libraries have no symbols, so a sample is told by the instructions
around it: INT8 dot products (vpdpbusd), FP32 multiply-adds (vfmadd), or neither. Needs `perf` and `objdump` (Debian,
Ubuntu: apt install linux-perf binutils), an x86 processor with VNNI, and the exports of export_tflite.py.
"""

import re
import shutil
import signal
import statistics
import subprocess
import sys
from bisect import bisect_right
from collections import Counter
from pathlib import Path

from measure_process import Side, arguments, publish, table, wait_for_quiet

HERE = Path(__file__).resolve().parent
OURS, STOCK = "firsttoken", "LiteRT-LM"
AROUND = 192  # bytes: an inner loop of a matrix product is about that long
KINDS = (
    ("INT8 matrix products", r"\bvpdpbusd"),
    ("FP32 multiply-adds: attention scores and values, softmax", r"\bvfn?madd\d+ps"),
    ("the rest of the runtime: norms, quantizing inputs, copies", r""),
)
OUTSIDE = "outside the runtime: kernel, C library, Python"


def record(side: Side, turns: int, data: Path) -> list[dict]:
    """Runs ``turns`` prompts under perf after a warm one; returns their reports."""
    side.start()
    side.turn()
    perf = subprocess.Popen(
        ["perf", "record", "-q", "-F", "997", "-p", str(side.process.pid), "-o", str(data)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        return [side.turn() for _ in range(turns)]
    finally:
        perf.send_signal(signal.SIGINT)
        perf.wait()
        side.stop()


def samples(data: Path) -> Counter[tuple[str, int]]:
    """Returns how often each place was seen: file, and offset in it (the address where it lies in no file)."""
    text = subprocess.run(
        ["perf", "script", "-i", str(data), "--show-mmap-events", "-F", "ip"], capture_output=True, text=True, check=True
    ).stdout
    maps, addresses = [], []
    for line in text.splitlines():
        if found := re.search(r"MMAP2? .*\[0x([0-9a-f]+)\(0x([0-9a-f]+)\) @ (?:0x)?([0-9a-f]+).*\]: \S*x\S* (/\S+)", line):
            start, length, offset = (int(value, 16) for value in found.groups()[:3])
            maps.append((start, start + length, offset, found.group(4)))
        elif re.fullmatch(r"\s*[0-9a-f]+\s*", line):
            addresses.append(int(line, 16))
    maps.sort()
    starts = [one[0] for one in maps]
    places: Counter[tuple[str, int]] = Counter()
    for address in addresses:
        start, stop, offset, path = maps[max(0, bisect_right(starts, address) - 1)]
        places[(path, address - start + offset) if start <= address < stop else ("", address)] += 1
    return places


def instructions(path: str, offsets: list[int]) -> list[tuple[int, str]]:
    """Disassembles around file offsets; returns (file offset, instruction), sorted."""
    headers = subprocess.run(["readelf", "-lW", path], capture_output=True, text=True, check=True).stdout
    loads = [
        tuple(int(value, 16) for value in found)
        for found in re.findall(r"^\s*LOAD\s+0x(\w+)\s+0x(\w+)\s+\S+\s+0x(\w+)", headers, re.MULTILINE)
    ]
    found: dict[int, str] = {}
    pages = sorted({page for offset in offsets for page in range((offset - AROUND) >> 12, ((offset + AROUND) >> 12) + 1)})
    for page in pages:
        offset, address, _ = next(load for load in loads if load[0] <= (page << 12) + 4095 and (page << 12) < load[0] + load[2])
        shift = address - offset
        begin = (page << 12) + shift
        text = subprocess.run(
            ["objdump", "-d", "--no-show-raw-insn", f"--start-address={begin}", f"--stop-address={begin + 4096}", path],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        found |= {int(at, 16) - shift: what for at, what in re.findall(r"^\s*([0-9a-f]+):\s+(.*)$", text, re.MULTILINE)}
    return sorted(found.items())


def shares(data: Path) -> dict[str, float]:
    """Returns the share of the samples by kind."""
    places = samples(data)
    runtime = Counter({path: 0 for path, _ in places})
    for (path, _), count in places.items():
        runtime[path] += count if re.search(r"[Ll]ite", Path(path).name) else 0
    library, _ = runtime.most_common(1)[0]
    lines = instructions(library, [offset for path, offset in places if path == library])
    at = [offset for offset, _ in lines]
    found = Counter({name: 0 for name, _ in KINDS})
    for (path, offset), count in places.items():
        if path != library:
            found[OUTSIDE] += count
            continue
        around = " ".join(what for _, what in lines[bisect_right(at, offset - AROUND) : bisect_right(at, offset + AROUND)])
        found[next(name for name, pattern in KINDS if re.search(pattern, around))] += count
    return {name: count / found.total() for name, count in found.items()}


def main():
    parser = arguments(__doc__)
    parser.add_argument("--prompts", type=int, nargs="+", default=[128, 512], help="tokens (default: 128 512)")
    parser.add_argument("--turns", type=int, default=20, help="prompts recorded of each side (default: 20)")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    work = options.work
    for program in ("perf", "objdump", "readelf"):
        if not shutil.which(program):
            raise SystemExit(f"{program} not found; install it (Debian, Ubuntu: apt install linux-perf binutils)")
    bundle, stock = work / "exports" / "qwen-0.5b-int8" / "tflite-xnnpack", work / "exports" / "qwen-0.5b-litert-torch" / "model.litertlm"
    for path in (bundle / "manifest.json", stock):
        if not path.is_file():
            raise SystemExit(f"{path} is missing; run scripts/benchmarks/export_tflite.py first")
    columns = {}
    for prompt in options.prompts:
        common = ["--prompt", prompt, "--decode", 1, "--threads", options.threads]
        commands = {
            OURS: [sys.executable, HERE / "run_bundle.py", bundle, *common],
            STOCK: [sys.executable, HERE / "run_litert_lm.py", stock, *common, "--cache", work / "cache-litert-lm"],
        }
        for name, command in commands.items():
            wait_for_quiet(options.quiet)
            side = Side(command, work / "logs" / f"profile-{name}.log", {"XDG_CACHE_HOME": str(work / "cache-firsttoken")})
            data = work / "logs" / f"profile-{name}-{prompt}.perf"
            turns = record(side, options.turns, data)
            # LiteRT-LM's time to the first token has the one decode step in it
            milliseconds = 1000 * statistics.median(turn["first"] + (turn["decode"] if name == OURS else 0) for turn in turns)
            columns[f"{name}, {prompt} tokens"] = {"milliseconds": milliseconds, "shares": shares(data), "turns": turns}
    rows = [
        [kind, *(f"{of['shares'][kind] * of['milliseconds']:.1f} ({of['shares'][kind]:.0%})" for of in columns.values())]
        for kind in (*(name for name, _ in KINDS), OUTSIDE)
    ]
    rows.append(["prompt and one decoded token", *(f"{of['milliseconds']:.1f}" for of in columns.values())])
    publish(work, "profile_first_token", [table(["ms (share of the samples)", *columns], rows)], columns)


if __name__ == "__main__":
    main()
