"""What Python's clock, statistics and manifest reader give, for the Kotlin ones to be compared with."""

import json
import random
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from unittest.mock import patch

import jsonschema
import numpy as np
from conversation_templates import SPECIAL, TEMPLATES
from manifest_variants import demo_manifest, not_finite, npu_manifest, values_of, variants
from measurement_fixtures import values
from pydantic import ValidationError

from firsttoken.backends.runner import Runner
from firsttoken.bundle.manifest import SCHEMA_FILE, SCHEMA_VERSION, Manifest, check_names, parse_manifest
from firsttoken.chat import render
from firsttoken.conversation import ANSWERED, ASKED, chat, find_conversation
from firsttoken.demo import checkpoint_path
from firsttoken.errors import FirstTokenError
from firsttoken.measure.measurement import Measurement
from firsttoken.measure.summary import groups, middle_stages, summarize_runs
from firsttoken.run.generate import Statistics, encode_prompt, generate
from firsttoken.run.sampling import Sampler
from firsttoken.run.thinking import Thinking
from firsttoken.tokenizer import Tokenizer

NAMES = (
    "",
    ".",
    "..",
    "...",
    "a/b",
    "/a",
    "a/",
    "../a",
    "a\\b",
    "a b",
    "a\nb",
    "a\tb",
    "a\0b",
    "\x7f",
    "\xa0",
    "\u200b",
    "\u2028",
    "\ue000",
    "é日",
    "😀",
    "manifest.json",
)
HASHES = ("0" * 64, "0" * 63, "0" * 65, "A" * 64, "g" * 64)


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


def manifest_cases() -> list[dict]:
    """Manifests damaged in every place and way, and whether they are to be taken."""
    schema = jsonschema.Draft202012Validator(json.loads(SCHEMA_FILE.read_text(encoding="utf-8")))
    cases = [{"name": name, "text": json.dumps(case), "valid": is_valid(schema, case)} for name, case in (*variants(), *odd_names())]
    return cases + [{"name": name, "text": json.dumps(case), "valid": False} for name, case in not_finite()]


def is_valid(schema: jsonschema.Draft202012Validator, case: dict) -> bool:
    """As Python's reader says, but for what only that knows of targets (tests/bundle/test_manifest.py): there, as the schema says."""
    if case.get("schema_version") != SCHEMA_VERSION or not schema.is_valid(case):
        return False
    try:
        check_names(Path("bundle"), parse_manifest(json.dumps(case)))
    except ValidationError:
        return True
    except FirstTokenError:
        return False
    return True


def odd_names() -> Iterator[tuple[str, dict]]:
    """Yields a manifest with a file of every odd name, and one that says a file's hash in an odd way."""
    good = values_of(demo_manifest())
    for name in NAMES:
        yield f"file {name!r}", good | {"files": good["files"] | {name: {"sha256": "0" * 64, "bytes": 0}}}
    for sha256 in HASHES:
        yield f"hash {sha256!r}", good | {"files": good["files"] | {"model.tflite": {"sha256": sha256, "bytes": 0}}}


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
        thinking = None
        if rng.random() < 0.5:  # a token that scripts have stands for the end of thinking
            end = rng.choice(("\n\n", " ="))
            script[rng.randrange(len(script) + 1) :] = [tokenizer.encode(end, begin=False)[0], *script[-3:]]
            thinking = Thinking(rng.choice((None, 0, 1, 3, 8)), 0, rng.choice((0, 0, 1, 3)), end)
            if thinking.most is None or thinking.most > 2:
                thinking = replace(thinking, least=rng.choice((0, 1, 2)))
            options["max_tokens"] = rng.choice((5, 12, 40))
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
                generate(
                    runner,
                    tokenizer,
                    prompt,
                    statistics=facts,
                    observe=lambda now, spent, seen=seen: seen.append(spent),
                    thinking=thinking,
                    **options,
                )
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
        bounds = None if thinking is None else asdict(thinking)
        given = {"prompt": prompt, "script": script, "cache_length": cache_length, "clock": clock, "thinking": bounds}
        cases.append(given | {"expected": expected} | options)
    return cases


def sampling_cases(seed: int = 11) -> list[dict]:
    """Random logits, some of them equal, and what Python's sampler leaves of them to draw from."""
    rng, cases = np.random.default_rng(seed), []
    for number in range(120):
        size = int(rng.choice((1, 2, 7, 50, 1000)))
        logits = (rng.standard_normal(size) * rng.choice((0.1, 2, 8))).astype(np.float32)
        if number % 3 == 0:
            logits = np.round(logits)  # many alike
        filters = {
            "top_k": int(rng.choice((0, 1, 5, 40, 2000))),
            "top_p": float(rng.choice((1.0, 0.95, 0.5, 0.01))),
            "min_p": float(rng.choice((0.0, 0.05, 0.5, 1.0))),
        }
        temperature = float(rng.choice((0.1, 0.8, 1.0, 3.0)))
        weights = Sampler(size, temperature, 0, **filters).weights(logits)
        cases.append({"logits": logits.tolist(), "temperature": temperature, "weights": weights.tolist()} | filters)
    return cases


def conversation_cases(seed: int = 13) -> list[dict]:
    """Conversations as Jinja renders them by the families' templates, with the pieces that the phone writes them by."""
    rng, cases = random.Random(seed), []
    for name, template in TEMPLATES.items():
        pieces, _ = find_conversation(lambda messages, template=template: render(template, messages, SPECIAL))
        spaces = ["", " ", "\n", " \n\t", "\u00a0", "\u2003\x1c", "\x85"]
        for number in range(24):
            asked, answered = (
                [rng.choice(spaces) + rng.choice(texts) + rng.choice(spaces) for _ in range(count)]
                for texts, count in ((ASKED, 1 + number % 5), (ANSWERED, number % 5))
            )
            system = rng.choice(spaces) + "Be brief." + rng.choice(spaces) if pieces.open_system is not None and number % 2 else None
            text = render(template, chat(system, asked, answered), SPECIAL)
            case = {"template": name, "pieces": pieces.model_dump(), "system": system, "asked": asked, "answered": answered, "text": text}
            cases.append(case)
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
    made = {
        "manifests": manifest_cases(),
        "generations": generation_cases(),
        "measurements": measurement_cases(),
        "sampling": sampling_cases(),
        "conversations": conversation_cases(),
    }
    for name, cases in made.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(case) + "\n" for case in cases), encoding="utf-8")
    (folder / "npu_manifest.json").write_text(npu_manifest().model_dump_json(by_alias=True), encoding="utf-8")
    (folder / "demo_manifest.json").write_text(demo_manifest().model_dump_json(by_alias=True), encoding="utf-8")
