"""What Python's runners pass to the runtimes and get back, for the app's engines to be held against: they must make the same calls."""

import hashlib
import json
import shutil
from pathlib import Path
from unittest.mock import patch

import numpy as np
from families_on_disk import random_model, save

from firsttoken.backends.executorch import runner as executorch
from firsttoken.backends.runner import Runner
from firsttoken.backends.tflite import runner as tflite
from firsttoken.bundle.manifest import read_manifest
from firsttoken.demo import checkpoint_path, held_out_text
from firsttoken.measure.prompts import exact_prompt
from firsttoken.pipeline import export
from firsttoken.run.prefix import Prefix
from firsttoken.tokenizer import Tokenizer

# Prompts longer than a chunk, a cache that grows while decoding, a second prompt after a reset; next turns that keep a prefix of the cache.
STEPS = (
    [("prefill", 60), ("decode", 40), ("keep", 95), ("prefill", 3), ("decode", 2), ("keep", 10), ("prefill", 12), ("decode", 1)],
    [("prefill", 300), ("decode", 3)],
    [("prefill", 254), ("decode", 4)],
    [("prefill", 5), ("decode", 2)],
    [("prefill", 20), ("decode", 5), ("keep", 22), ("prefill", 6), ("decode", 2), ("keep", 28), ("prefill", 1), ("decode", 1)],
)
# A float16 cache is in the third; the last has one layer's in float16 and the others' in float32.
RUNNERS = {
    "tflite-compat": (tflite.TfliteRunner, "int8"),
    "executorch-xnnpack": (executorch.ExecutorchRunner, "int8"),
    "tflite-xnnpack": (tflite.TfliteRunner, "fp16-attention"),
    "mixed": (tflite.TfliteRunner, "mixed"),
    "ring": (tflite.TfliteRunner, "fp32"),
    "convolution": (tflite.TfliteRunner, "fp32"),
    "convolution-pte": (executorch.ExecutorchRunner, "fp32"),
    "kept": (tflite.TfliteRunner, "int8"),
    "kept-int8": (tflite.TfliteRunner, "fp16-attention"),
}
# System prompts kept in the bundle, in these; of the second the cache is float16.
KEPT = {"kept": "fp32", "kept-int8": "int8"}
SYSTEM = "Answer in one sentence, and never more than that."
# Layers with a window of 24 tokens (a ring of 88 rows) beside others that see all; layers with a convolution, which keep nothing or everything.
FAMILIES = {
    "ring": ("gemma3", "tflite-xnnpack"),
    "convolution": ("lfm2", "tflite-xnnpack"),
    "convolution-pte": ("lfm2", "executorch-xnnpack"),
}
MIXED = """summary = "A test's"
rule = [
  { match = "layers.1.attention.core", precision = "fp16" },
  { match = "layers.*.attention.core", precision = "fp32" },
  { match = "*", precision = "int8" },
]
gate = { mean_kld = 1, p99_kld = 9, same_top = 0.1, magnitude = 0.9 }
"""


class Recording:
    """Calls as lines of JSON, with the outputs' bytes in a file beside them."""

    def __init__(self, folder: Path):
        self.lines = (folder / "calls.jsonl").open("w", encoding="utf-8")
        self.bytes = (folder / "outputs.bin").open("wb")

    def add(self, method: str, inputs: dict[str, np.ndarray], outputs: dict[str, np.ndarray]):
        line = {"method": method, "inputs": {}, "outputs": {}}
        for name, array in inputs.items():
            array = np.ascontiguousarray(array)
            line["inputs"][name] = {
                "shape": list(array.shape),
                "dtype": str(array.dtype),
                "sha256": hashlib.sha256(array.tobytes()).hexdigest(),
            }
        for name, array in outputs.items():
            line["outputs"][name] = {"shape": list(array.shape), "offset": self.bytes.tell()}
            self.bytes.write(np.ascontiguousarray(array).tobytes())
        self.lines.write(json.dumps(line) + "\n")

    def close(self):
        self.lines.close()
        self.bytes.close()


def recorded(folder: Path, bundle: Path, target: str):
    """Runs `STEPS` on ``bundle`` and writes every call of its runtime into ``folder``."""
    recording, manifest = Recording(folder), read_manifest(bundle)
    call, execute = tflite.Call.run, executorch.ExecutorchRunner._call

    def run_signature(self):
        logits = call(self)
        recording.add(self.name, self.inputs, self.outputs)
        return logits

    def run_forward(self, tokens, cache_position):
        logits = execute(self, tokens, cache_position)
        recording.add("forward", {"tokens": tokens, "cache_position": cache_position}, {"logits": logits})
        return logits

    with patch.object(tflite.Call, "run", run_signature), patch.object(executorch.ExecutorchRunner, "_call", run_forward):
        runner = RUNNERS[target][0](bundle / manifest.cpu.file, manifest, threads=1)
        runner.prefix = None if manifest.prefix is None else Prefix(bundle, manifest.prefix)
        steps = [] if runner.prefix is None else kept_steps(runner, manifest.tokenizer.vocab_size)
        steps += steps_of(runner, STEPS, manifest.tokenizer.vocab_size)
        runner.close()
    recording.close()
    (folder / "steps.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps), encoding="utf-8")


def steps_of(runner: Runner, sequences, vocabulary: int) -> list[dict]:
    """Runs ``sequences`` of random tokens, each from an empty cache, and returns what was asked and the logits' hashes."""
    rng, steps = np.random.default_rng(1), []
    for sequence in sequences:
        runner.reset()
        tokens = [int(token) for token in rng.integers(0, vocabulary, sum(count for kind, count in sequence if kind != "keep"))]
        given, reset, fed = list(tokens), True, []
        for kind, count in sequence:
            if kind == "keep":
                other = [*fed[:count], (fed[count] + 1) % vocabulary if count < len(fed) else 0, 0]
                steps.append({"kind": kind, "tokens": other, "reset": False, "kept": runner.keep_prefix(other)})
                fed = fed[:count]
                continue
            fed += given[:count]
            piece, given = given[:count], given[count:]
            for part in [piece] if kind == "prefill" else [[token] for token in piece]:
                logits = runner.prefill(part) if kind == "prefill" else runner.decode(part[0])
                steps.append(
                    {
                        "kind": kind,
                        "tokens": part,
                        "reset": reset,
                        "logits": hashlib.sha256(np.ascontiguousarray(logits, np.float32).tobytes()).hexdigest(),
                    }
                )
                reset = False
    return steps


def kept_steps(runner: Runner, vocabulary: int) -> list[dict]:
    """Questions behind a kept system prompt: on an empty cache, as a next turn, after another conversation, and one that begins otherwise."""
    rng, steps, begin = np.random.default_rng(2), [], runner.prefix.tokens.tolist()
    first, second, third = (begin + rng.integers(0, vocabulary, count).tolist() for count in (20, 300, 7))
    for tokens in (first, [*first, 5, 6, 7, 8], second, [*begin[:3], 9, 9], third):
        kept = runner.keep_prefix(tokens)
        steps.append({"kind": "keep", "tokens": tokens, "reset": False, "kept": kept})
        for kind, part in (("prefill", tokens[kept:]), ("decode", [17])):
            logits = runner.prefill(part) if kind == "prefill" else runner.decode(part[0])
            found = hashlib.sha256(np.ascontiguousarray(logits, np.float32).tobytes()).hexdigest()
            steps.append({"kind": kind, "tokens": part, "reset": False, "logits": found})
    return steps


def prompt_cases(folder: Path, bundle: Path):
    """Writes the prompts of exact lengths that Python makes for ``bundle``."""
    tokenizer, manifest = Tokenizer(bundle), read_manifest(bundle)
    cases = [
        {"tokens": tokens, "chat": chat, "text": exact_prompt(tokenizer, manifest, tokens, chat)}
        for tokens in (11, 32, 128, 512)
        for chat in (True, False)
    ]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(case) + "\n" for case in cases), encoding="utf-8")


def exported(folder: Path, name: str, plan: str) -> Path:
    if name == "mixed":
        file = folder / "mixed.toml"
        file.write_text(MIXED, encoding="utf-8")
        [bundle] = export(checkpoint_path(), folder / "mixed", plan=file, targets=("tflite-xnnpack",), prove=False)
    elif name in FAMILIES:
        case, target = FAMILIES[name]
        [bundle] = export(random_checkpoint(folder / name, case), folder / name, plan=plan, targets=(target,), prove=False)
    elif name in KEPT:
        [bundle] = export(checkpoint_path(), folder / name, plan=plan, prove=False, system_prompt=SYSTEM, prefix_precision=KEPT[name])
    else:
        [bundle] = export(checkpoint_path(), folder / "bundles", plan=plan, targets=(name,), prove=False)
    return bundle


def random_checkpoint(folder: Path, case: str) -> Path:
    """A small checkpoint of random weights of another family, with the demo's words."""
    folder.mkdir()
    checkpoint = save(
        random_model(case, vocab_size=4096, max_position_embeddings=2048, bos_token_id=None, eos_token_id=0), folder / "checkpoint"
    )
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(checkpoint_path() / name, checkpoint)
    return checkpoint


def write(folder: Path):
    """Fills ``folder/engines``: one folder a runner with its bundle's manifest, calls and steps."""
    for name, (_, plan) in RUNNERS.items():
        place = folder / "engines" / name
        place.mkdir(parents=True)
        bundle = exported(folder, name, plan)
        shutil.copy(bundle / "manifest.json", place)
        if name in KEPT:
            shutil.copy(bundle / "prefix.npz", place)
        recorded(place, bundle, name)
    prompt_cases(folder, bundle)
    (folder / "held_out.txt").write_text(held_out_text(), encoding="utf-8")
