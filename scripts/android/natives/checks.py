"""What a phone's library makes of bundles, held against what Python's own runners make of them."""

import json
import shutil
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from android.natives.harness import PHONE_HEAP, Harness
from firsttoken.bundle.manifest import Manifest, read_manifest
from firsttoken.demo import held_out_text
from firsttoken.device.request import ProfileSettings, Request, new_id, prompts_for
from firsttoken.device.staging import local_bundle
from firsttoken.run.open import open_runner
from firsttoken.tokenizer import open_tokenizer

LENGTHS = (1, 20, 255, 256, 257, 300, 512, 1000)
DECODED = 3  # after each length; after the last all that the cache has room for
THREADS = 2


@dataclass
class LogitsResult:
    """``furthest`` is the largest root-mean-square difference of a position's logits, relative to their spread; failures are lines."""

    positions: int
    furthest: float
    same_top: float
    failures: list[str]


def tokens_of(bundle: Path, count: int) -> list[int]:
    """Returns the first tokens of the held-out text."""
    text, tokenizer = held_out_text(), open_tokenizer(bundle, read_manifest(bundle))
    found = tokenizer.encode(text)
    return (found * (-(-count // len(found))))[:count]


def compare_logits(
    harness: Harness,
    bundle: Path,
    lengths: tuple[int, ...] = LENGTHS,
    decoded: int = DECODED,
    to_the_end: bool = True,
    heap: tuple[str, ...] = PHONE_HEAP,
) -> LogitsResult:
    """Runs prompts of ``lengths`` with the phone's library and with the host's runner, one after another on one loaded bundle each."""
    into = harness.folder / "logits"
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir()
    with closing(open_runner(bundle, threads=THREADS)) as runner:
        room = runner.cache_length
        fitting = [length for length in lengths if length + decoded <= room]
        tokens = tokens_of(bundle, room if to_the_end else max(fitting) + decoded)
        case = {
            "bundle": str(bundle.absolute()),
            "threads": THREADS,
            "tokens": tokens,
            "lengths": fitting,
            "decode": decoded,
            "to_the_end": to_the_end,
            "into": str(into),
        }
        harness.run({"mode": "logits", "cases": [case]}, heap)
        rows = [json.loads(line) for line in (into / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
        failures = [f"{row['length']} tokens and {row['decoded']} decoded: {row['error']}" for row in rows if row.get("error")]
        good = [row for row in rows if not row.get("error")]
        logits = np.fromfile(into / "logits.bin", "<f4").reshape(len(good), -1) if good else np.zeros((0, 1))
        expected = (1 + decoded) * len(fitting) + (len(tokens) - fitting[-1] - decoded if to_the_end else 0)
        if not failures and len(good) != expected:
            failures.append(f"{len(good)} positions came back, expected {expected}")
        furthest, same = 0.0, 0
        for row, found in zip(good, logits, strict=True):
            if row["decoded"] == 0:
                runner.reset()
                wanted = runner.prefill(tokens[: row["length"]])
            else:
                wanted = runner.decode(tokens[row["length"] + row["decoded"] - 1])
            wanted = np.asarray(wanted, np.float32).reshape(-1)
            furthest = max(furthest, float(np.sqrt(np.mean((found - wanted) ** 2)) / wanted.std()))
            same += int(found.argmax() == wanted.argmax())
    return LogitsResult(len(good), furthest, same / max(1, len(good)), failures)


@dataclass
class BenchmarkResult:
    """``runs`` are the measured ones, by prompt length, in milliseconds to the first token."""

    runs: dict[int, list[float]]
    failures: list[str]


def profile(harness: Harness, bundle: Path, settings: ProfileSettings | None = None, heap: tuple[str, ...] = PHONE_HEAP) -> BenchmarkResult:
    """Stages what `firsttoken device profile` stages (its defaults) and lets the app's own `Benchmark` carry it out: the warm runs, then each cold one."""
    settings = settings or ProfileSettings(threads=THREADS, cold=True)
    staging, measurements = harness.folder / "staging", harness.folder / "measurements"
    for folder in (staging, measurements):
        shutil.rmtree(folder, ignore_errors=True)
    local = local_bundle(bundle)
    shutil.copytree(bundle, staging / "bundles" / local.key)
    (staging / "requests").mkdir()
    chat, prompts = prompts_for(local, settings)
    asked = [("warm", settings.repeat, prompts)] + [("cold", 1, [prompt]) for prompt in prompts if settings.cold]
    requests = [
        Request(
            id=new_id(),
            bundle=local.key,
            state=state,
            threads=settings.threads,
            repeat=repeat,
            decode_tokens=settings.decode_tokens,
            chat=chat,
            prompts=which,
        )
        for state, repeat, which in asked
    ]
    failures, runs = [], {}
    for request in requests:
        (staging / "requests" / f"{request.id}.json").write_text(request.text(), encoding="utf-8")
        harness.run({"mode": "benchmark", "staging": str(staging), "measurements": str(measurements), "requests": [request.id]}, heap)
        for line in (measurements / f"{request.id}.progress").read_text(encoding="utf-8").splitlines():
            said = json.loads(line)
            if said.get("event") in ("failed", "refused") or "message" in said:
                failures.append(said.get("message", line))
        failures += _read(measurements / f"{request.id}.json", runs)
    return BenchmarkResult(runs, failures)


def _read(file: Path, runs: dict[int, list[float]]) -> list[str]:
    from firsttoken.measure.measurement import read_measurement

    if not file.is_file():
        return [f"{file.name}: the app wrote no measurement"]
    [result] = read_measurement(file).results
    for run in result.runs:
        runs.setdefault(run.prompt_tokens, []).append(run.stages.first_token / 1e6)
    return [failure.message for failure in result.failures]


def answers(
    harness: Harness, bundle: Path, prompts: list[str], most: int = 40, heap: tuple[str, ...] = PHONE_HEAP, chat: bool = False
) -> list[dict]:
    """Answers ``prompts`` as the app's "Try it" does; returns how each ended."""
    into = harness.folder / "answers.jsonl"
    harness.run(
        {"mode": "answer", "bundle": str(bundle.absolute()), "prompts": prompts, "most": most, "chat": chat, "into": str(into)}, heap
    )
    return [json.loads(line) for line in into.read_text(encoding="utf-8").splitlines()]


def bound(manifest: Manifest) -> float:
    """How far logits may be from the host's: INT8 layers are computed by other kernels, of other versions, that round activations otherwise."""
    precisions = {rule.precision for rule in manifest.plan.rules}
    return 0.1 if precisions & {"int8", "int4"} else 1e-3 if "fp16" in precisions else 1e-4
