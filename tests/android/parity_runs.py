"""What Python's clock, statistics and manifest reader give, for the Kotlin ones to be compared with."""

import copy
import json
import random
from pathlib import Path
from unittest.mock import patch

import jsonschema
import numpy as np
from measurement_fixtures import values

from firsttoken.backends.runner import Runner
from firsttoken.bundle.manifest import Manifest
from firsttoken.chat import chat_affixes
from firsttoken.demo import checkpoint_path
from firsttoken.measure.measurement import Measurement
from firsttoken.measure.summary import groups, middle_stages, summarize_runs
from firsttoken.quant.plan import load_plan
from firsttoken.run.generate import Statistics, encode_prompt, generate
from firsttoken.targets.target import load_target
from firsttoken.tokenizer import Tokenizer

FIGURES = {
    "tokens": 512,
    "mean_kld": 1e-4,
    "p99_kld": 0.002,
    "p999_kld": 0.01,
    "same_top": 0.99,
    "perplexity": 12.5,
    "reference_perplexity": 12.4,
    "perplexity_change": 0.008,
    "magnitude_ratio": 1.001,
    "first_diverging": None,
}
SHA = "ab" * 32


class Scripted(Runner):
    """Predicts a fixed list of tokens, one a call, then the last one for ever."""

    def __init__(self, manifest: Manifest, script: list[int], cache_length: int):
        super().__init__(manifest)
        self.script, self.calls, self.cache_length = script, 0, cache_length

    def _prefill(self, tokens):
        return self._decode(tokens)

    def _decode(self, token):
        logits = np.zeros(self.vocab_size, np.float32)
        logits[self.script[min(self.calls, len(self.script) - 1)]] = 9
        self.calls += 1
        return logits


def demo_manifest() -> Manifest:
    """A manifest with every field that there is, of the demo checkpoint."""
    tokenizer = Tokenizer(checkpoint_path())
    tensor = {"name": "tokens", "shape": [1, "length"], "dtype": "int32"}
    arm = {
        "core": "cortex-a76",
        "runtime": "tflite",
        "runtime_version": "r 1",
        "text": "t",
        "text_sha256": SHA,
        "windows": 2,
        "arm": FIGURES,
        "host": FIGURES,
        "arm_against_host": FIGURES,
        "kernels": ["sdot"],
    }
    return Manifest.model_validate(
        {
            "artifact": {"file": "model.tflite", "sha256": SHA, "bytes": 5_000_000_000},
            "checkpoint": {
                "name": "demo",
                "fingerprint": "f" * 16,
                "family": "qwen2",
                "parameters": 8_000_000_000,
                "hidden_size": 64,
                "layers": 2,
                "vocab_size": tokenizer.vocab_size,
            },
            "lineage": {
                "recipe": "demo-cut",
                "recipe_sha256": SHA,
                "teachers": {"teacher 0": SHA},
                "training_data": SHA,
                "held_out_data": SHA,
                "tokens_seen": 8_000_000_000,
                "reference": SHA,
            },
            "plan": load_plan("fp16-attention").model_dump(by_alias=True),
            "target": load_target("tflite-xnnpack").model_dump(),
            "methods": [{"name": "first", "inputs": [tensor], "outputs": [tensor]}],
            "cache": {
                "held_by": "host",
                "layers": 2,
                "shape": [1, 2, "length", 32],
                "axis": 2,
                "dtype": "float16",
                "length": 256,
                "step": 16,
            },
            "tokenizer": tokenizer.facts().model_dump(),
            "chat": chat_affixes(checkpoint_path(), tokenizer).model_dump(),
            "proof": {
                "text": "held out",
                "text_sha256": SHA,
                "prefill": FIGURES,
                "decode": FIGURES,
                "all": FIGURES,
                "passed": True,
                "misses": [],
            },
            "audit": [{"layer": "head", "asked": "int8", "stored": "int8", "computed": "int8", "delegated": True}],
            "proven_on": [arm],
            "packages": {"numpy": "2.0"},
        }
    )


def npu_manifest() -> Manifest:
    """The same of a bundle that also has an artifact for a Snapdragon's NPU, with every field that there is of it."""
    tensor = {"name": "cos", "shape": [32, 1, 64], "dtype": "float32"}
    proof = {
        "backend": "QNN 2",
        "text": "t",
        "text_sha256": SHA,
        "windows": 2,
        "last_position": 1279,
        "prefill": FIGURES,
        "decode": FIGURES,
        "all": FIGURES,
        "cpu": FIGURES,
        "npu_against_cpu": FIGURES,
        "passed": True,
        "misses": ["m"],
    }
    npu = {
        "artifact": {"file": "model.npu.tflite", "sha256": "cd" * 32, "bytes": 6_000_000_000}, "compiled": "ahead", "soc": "SM8650", "hexagon": "V75",
        "fp16": "documented", "qnn": "2.50.40", "source_sha256": SHA, "weights_shared": True, "prefill_lengths": [32, 128],
        "methods": [{"name": "first_32", "inputs": [tensor], "outputs": [tensor]}],
        "cache": {"held_by": "host", "layers": 2, "shape": [2, 1, 256, 64], "axis": 2, "dtype": "float32", "length": 256, "step": 256},
        "embedding": {"file": "model.tflite", "dtype": "int8", "rows": 4096, "columns": 64, "offset": 5_000_000_000, "scales_offset": 128},
        "inverse_frequencies": [1.0, 0.01], "masked": -30000.0, "graphs": [{"method": "first_32", "operators": 9, "offloaded": 8, "partitions": 1, "left": ["CAST layers.0: reason"]}],
        "compile_seconds": 2.5, "compile_memory": 9_000_000_000, "audit": [{"layer": "head", "asked": "int8", "stored": "int8", "computed": "fp16", "delegated": True}], "proof": proof,
    }  # fmt: skip
    values = json.loads(demo_manifest().model_dump_json(by_alias=True))
    return Manifest.model_validate(values | {"target": load_target("tflite-hexagon-sm8650").model_dump(), "npu": npu})


def manifest_cases() -> list[dict]:
    """Manifests damaged in every place and way, and whether the JSON Schema takes them."""
    plain, with_npu = (json.loads(made.model_dump_json(by_alias=True)) for made in (demo_manifest(), npu_manifest()))
    return damaged(plain, _places(plain)) + damaged(with_npu, [place for place in _places(with_npu) if "npu" in place])


def damaged(good: dict, places) -> list[dict]:
    """``good`` with every one of ``places`` replaced, removed and added to."""
    schema, places = jsonschema.Draft202012Validator(Manifest.model_json_schema(by_alias=True)), list(places)
    cases = [good]
    for place in places:
        *path, last = place
        for replacement in (None, "text", -1, 1.5, True, [], {}, ["text"], {"key": 1}, 7, _REMOVED):
            case = copy.deepcopy(good)
            at = case
            for step in path:
                at = at[step]
            if replacement is not _REMOVED:
                at[last] = replacement
            elif isinstance(at, dict):
                del at[last]
            cases.append(case)
    for place in places:
        case = copy.deepcopy(good)
        at = case
        for step in place:
            at = at[step]
        if isinstance(at, dict):
            at["unheard_of"] = 1
            cases.append(case)
    return [{"manifest": case, "valid": case.get("schema_version") == 1 and schema.is_valid(case)} for case in cases]


_REMOVED = object()


def _places(value, path=()):
    items = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from _places(item, (*path, key))


def generation_cases(seed: int = 7) -> list[dict]:
    """Completions of a scripted runner under a scripted clock, with what Python's loop made of them."""
    rng, manifest, tokenizer = random.Random(seed), demo_manifest(), Tokenizer(checkpoint_path())
    cases = []
    for _ in range(60):
        script = tokenizer.encode(rng.choice(("Close the file", "é日👩‍👩‍👧", "def f():\n    return 1", "")))
        script += [rng.randrange(manifest.tokenizer.vocab_size) for _ in range(rng.randrange(6))] + [
            rng.choice((*manifest.tokenizer.end, 65))
        ]
        options = {"max_tokens": rng.choice((1, 2, 5, 40)), "chat": rng.choice((None, True, False)), "stop_at_end": rng.random() < 0.7}
        prompt, cache_length = rng.choice(("hi", "Wie geht's? 日本", "x" * 50)), 256
        if rng.random() < 0.4:
            cache_length = len(encode_prompt(tokenizer, prompt, None if options["chat"] is False else manifest.chat)) + rng.randrange(4)
        clock = [0]
        while len(clock) < 200:
            clock.append(clock[-1] + rng.randrange(1, 10**9))
        facts, seen = Statistics(), []
        with patch("time.perf_counter_ns", iter(clock).__next__):
            runner = Scripted(manifest, script, cache_length)
            pieces = list(
                generate(runner, tokenizer, prompt, statistics=facts, observe=lambda now, spent, seen=seen: seen.append(spent), **options)
            )
        expected = {
            "pieces": pieces,
            "spent": seen,
            "position": runner.position,
            "first_token": round(facts.first_token * 1e9),
            "tokens_per_second": facts.tokens_per_second,
        }
        expected |= {
            name: getattr(facts, name)
            for name in ("prompt_tokens", "new_tokens", "tokenize", "prefill", "sample", "detokenize", "decode", "stopped")
        }
        cases.append({"prompt": prompt, "script": script, "cache_length": cache_length, "clock": clock, "expected": expected} | options)
    return cases


def measurement_cases(seed: int = 9) -> list[dict]:
    """Measurements of random runs, with the figures that Python derives from them."""
    rng = random.Random(seed)
    return [_measurement_case(rng, count) for count in (1, 2, 3, 5, 10, 11, 12, 40)]


def _measurement_case(rng: random.Random, count: int) -> dict:
    document = values()
    document["results"][0]["runs"] = [_run(rng) for _ in range(count)]
    result = Measurement.model_validate(document).results[0]
    figures = []
    for (tokens, state), runs in groups(result).items():
        summary = summarize_runs(runs)
        flat = {
            "first_token": summary.first_token,
            "decode_speed": summary.decode_speed,
            "peak_memory": summary.peak_memory,
        } | summary.stages
        figures.append(
            {
                "tokens": tokens,
                "state": state,
                "middle": middle_stages(runs),
                "figures": {name: vars(value) for name, value in flat.items() if value},
            }
        )
    return {"measurement": document, "groups": figures}


def _run(rng: random.Random) -> dict:
    stages = {name: rng.randrange(10**9) for name in ("tokenize", "prefill", "sample", "detokenize")}
    stages |= {name: rng.randrange(10**9) for name in ("load", "render") if rng.random() < 0.5}
    run = {
        "prompt_tokens": rng.choice((8, 32)),
        "state": rng.choice(("cold", "warm", "warm", "warm-up")),
        "page_cache": "unknown",
        "at_seconds": rng.random(),
        "stages": stages,
    }
    if rng.random() < 0.7:
        run["decode"] = {"tokens": rng.randint(1, 40), "nanoseconds": rng.randint(1, 10**10)}
    if rng.random() < 0.5:
        run["peak_memory_bytes"] = rng.randint(1, 10**10)
    return run


def write(folder: Path):
    """Writes all cases into ``folder``."""
    for name, cases in (("manifests", manifest_cases()), ("generations", generation_cases()), ("measurements", measurement_cases())):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(case) + "\n" for case in cases), encoding="utf-8")
    (folder / "npu_manifest.json").write_text(npu_manifest().model_dump_json(by_alias=True), encoding="utf-8")
    (folder / "demo_manifest.json").write_text(demo_manifest().model_dump_json(by_alias=True), encoding="utf-8")
