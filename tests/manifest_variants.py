"""Manifests with every field that there is, and what becomes of them when they are damaged in every place and way.

For readers to be compared with each other and with the JSON Schema: `variants` yields ``(name, values)``, valid or not.
"""

import copy
import json
from collections.abc import Iterator

from firsttoken.bundle.manifest import Manifest
from firsttoken.chat import chat_affixes
from firsttoken.demo import checkpoint_path
from firsttoken.quant.plan import load_plan
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
WITNESS = {
    "said": "agrees", "why": "a remark", "by": "transformers 5 Qwen2ForCausalLM", "positions": 80, "layers": 2, "of_layers": 2, "difference": 1e-6,
    "bound": 2e-4, "texts": 7, "chats": 4,
}  # fmt: skip
_REMOVED = object()
REPLACEMENTS = (None, "text", -1, 1.5, True, [], {}, ["text"], {"key": 1}, 7, _REMOVED)


def demo_manifest() -> Manifest:
    """A manifest with every field that there is, of the demo checkpoint on the CPU."""
    tokenizer = Tokenizer(checkpoint_path())
    tensor = {"name": "tokens", "shape": [1, "length"], "dtype": "int32"}
    arm = {
        "core": "cortex-a76", "runtime": "tflite", "runtime_version": "r 1", "text": "t", "text_sha256": SHA, "windows": 2,
        "arm": FIGURES, "host": FIGURES, "arm_against_host": FIGURES, "kernels": ["sdot"],
    }  # fmt: skip
    cpu = {
        "file": "model.tflite",
        "backend": "tflite-xnnpack",
        "needs": {"runtime": "tflite", "min_runtime": "2.3"},
        "methods": [{"name": "first", "inputs": [tensor], "outputs": [tensor]}],
        "states": [state(n, [1, 2, "length", 32], dtype, 16) for n, dtype in enumerate(("float16", "float32"))],
        "proof": {
            "text": "held out", "text_sha256": SHA, "witness": WITNESS, "prefill": FIGURES, "decode": FIGURES, "all": FIGURES, "passed": True, "misses": [],
            "prefix": {"equal_bits": True, "mean_kld": 0.0, "worst_kld": 1e-9, "positions": 4},
            "packed": {"isa": "dotprod", "equal_bits": True, "positions": 9},
            "draft": {"equal_bits": True, "mean_kld": 0.0, "worst_kld": 1e-9, "same_top": 1.0, "positions": 64},
        },
        "audit": [{"layer": "head", "asked": "int8", "stored": "int8", "computed": "int8", "delegated": True}],
    }  # fmt: skip
    return Manifest.model_validate(
        {
            "checkpoint": {
                "name": "demo", "fingerprint": "f" * 16, "family": "qwen2", "parameters": 8_000_000_000, "hidden_size": 64, "layers": 2,
                "vocab_size": tokenizer.vocab_size,
            },
            "lineage": {
                "recipe": "demo-cut", "recipe_sha256": SHA, "teachers": {"teacher 0": SHA}, "training_data": SHA, "held_out_data": SHA,
                "tokens_seen": 8_000_000_000, "reference": SHA,
            },
            "plan": load_plan("fp16-attention").model_dump(by_alias=True),
            "target": load_target("tflite-xnnpack", draft_tokens=7).model_dump(),
            "artifacts": [cpu],
            "rotations": [{"layers": [0, 1], "inverse_frequencies": [1.0, 0.01], "factor": 1.25}],
            "tokenizer": tokenizer.facts().model_dump() | {"end_asked": True},
            "chat": chat_affixes(checkpoint_path(), tokenizer).model_dump() | {"rendered_on": "2026-11-29"},
            "proven_on": [arm],
            "proven_on_gpu": {
                "device": "WebGPU on a software device", "driver": "chromium-common 1", "runtime_version": "2.3.0", "text": "t", "text_sha256": SHA,
                "windows": 2, "last_position": 1279, "methods": ["decode"], "compile_seconds": 2.5, "prefill": FIGURES, "decode": FIGURES, "all": FIGURES, "cpu": FIGURES,
                "gpu_against_cpu": FIGURES,
            },
            "prefix": {"file": "prefix.npz", "system": "Be brief.", "tokens": [1, 2], "stored": "fp32", "computed_with": "r 1"},
            "packed": {
                "only": False, "prompt": [1, 2],
                "files": [{
                    "file": "model.dotprod.packed", "isa": "dotprod", "package": "ai-edge-litert", "version": "2.3.0", "artifact_sha256": SHA,
                    "top": [7, 8], "largest": [9.5, 11.25],
                }],
            },
            "packages": {"numpy": "2.0"},
            "files": {"model.tflite": {"sha256": SHA, "bytes": 5_000_000_000}, "prefix.npz": {"sha256": SHA, "bytes": 9},
                "model.dotprod.packed": {"sha256": SHA, "bytes": 8}}
            | {name: {"sha256": "cd" * 32, "bytes": 7} for name in tokenizer.facts().files},
        }
    )  # fmt: skip


def npu_manifest() -> Manifest:
    """The same of a bundle that also has an artifact for a Snapdragon's NPU, with every field that there is of it."""
    tensor = {"name": "cos", "shape": [32, 1, 64], "dtype": "float32"}
    npu = {
        "file": "model.npu.tflite",
        "backend": "tflite-hexagon",
        "needs": {"runtime": "tflite", "min_runtime": "2.3", "soc": "SM8650", "hexagon": "V75", "qnn": "2.50.40"},
        "methods": [{"name": "first_32", "inputs": [tensor], "outputs": [tensor]}],
        "states": [state(n, [2, 1, 256, 64], "float32", 256) for n in range(2)],
        "npu": {
            "compiled": "ahead", "fp16": "documented", "source_sha256": SHA, "weights_shared": True, "prefill_lengths": [32, 128],
            "embedding": {"file": "model.tflite", "dtype": "int8", "rows": 4096, "columns": 64, "offset": 5_000_000_000, "scales_offset": 128},
            "masked": -30000.0,
            "graphs": [{"method": "first_32", "operators": 9, "offloaded": 8, "partitions": 1, "left": ["CAST layers.0: reason"]}],
            "compile_seconds": 2.5, "compile_memory": 9_000_000_000,
        },
        "proof": {
            "backend": "QNN 2", "text": "t", "text_sha256": SHA, "windows": 2, "last_position": 1279, "prefill": FIGURES, "decode": FIGURES,
            "all": FIGURES, "cpu": FIGURES, "npu_against_cpu": FIGURES, "passed": True, "misses": ["m"],
        },
        "audit": [{"layer": "head", "asked": "int8", "stored": "int8", "computed": "fp16", "delegated": True}],
    }  # fmt: skip
    values = values_of(demo_manifest())
    values["target"] = load_target("tflite-hexagon-sm8650").model_dump()
    values["artifacts"].append(npu)
    values["files"]["model.npu.tflite"] = {"sha256": "cd" * 32, "bytes": 6_000_000_000}
    return Manifest.model_validate(values)


def gpu_manifest() -> Manifest:
    """The same of a bundle that also has an artifact for a GPU, with every field that there is of it."""
    values = values_of(demo_manifest())
    tensor = {"name": "mask", "shape": [1, 1, 16, 320], "dtype": "float32"}
    gpu = {
        "file": "model.gpu.tflite",
        "backend": "tflite-gpu",
        "needs": {"runtime": "tflite", "min_runtime": "2.3", "accelerator": "gpu"},
        "methods": [{"name": name, "inputs": [tensor], "outputs": [tensor]} for name in ("prefill_16", "decode")],
        "states": [state(n, [2, 1, 320, 64], "float32", 1) | {"advances": "in_place"} for n in range(2)],
        "gpu": {"prefill_lengths": [16], "masked": -30000.0, "precision": "fp32", "weights": "model.tflite"},
        "proof": values["proven_on_gpu"] | {"passed": True, "misses": ["m"]},
        "audit": [{"layer": "head", "asked": "int8", "stored": "int8", "computed": "fp32", "delegated": True}],
    }  # fmt: skip
    values["target"] = load_target("tflite-gpu").model_dump()
    values["artifacts"].append(gpu)
    values["files"]["model.gpu.tflite"] = {"sha256": "cd" * 32, "bytes": 6_000_000_000}
    return Manifest.model_validate(values)


def state(layer: int, shape: list, dtype: str, step: int) -> dict:
    return {
        "layer": layer, "kind": "key_value", "held_by": "host", "shape": shape, "dtype": dtype, "advances": "append", "axis": 2,
        "length": 256, "step": step,
    }  # fmt: skip


def values_of(manifest: Manifest) -> dict:
    """The manifest as JSON has it."""
    return json.loads(manifest.model_dump_json(by_alias=True))


def variants() -> Iterator[tuple[str, dict]]:
    """Yields the manifests whole, then each with every value of it replaced, removed, and joined by an unknown one.

    A name is the value's place and what became of it: ``artifacts.0.states.1.length = -1``.
    """
    plain, with_npu, with_gpu = (values_of(make()) for make in (demo_manifest, npu_manifest, gpu_manifest))
    yield "whole", plain
    yield "whole, with an NPU's artifact", with_npu
    yield "whole, with a GPU's artifact", with_gpu
    yield from damaged(plain, _places(plain))
    yield from damaged(with_npu, [place for place in _places(with_npu) if "npu" in place or place[:2] == ("artifacts", 1)])
    yield from damaged(with_gpu, [place for place in _places(with_gpu) if "gpu" in place or place[:3] == ("artifacts", 1, "needs")])


def not_finite() -> Iterator[tuple[str, dict]]:
    """Yields a manifest with NaN or an infinity, which JSON does not have, in the place of every number."""
    good = values_of(npu_manifest())
    for place in _places(good):
        at, last = _container(good, place), place[-1]
        if isinstance(at[last], int | float) and not isinstance(at[last], bool):
            for number in (float("nan"), float("inf")):
                yield f"{_named(place)} = {number}", _changed(good, place, number)


def damaged(good: dict, places) -> Iterator[tuple[str, dict]]:
    """Yields ``good`` with every one of ``places`` changed, by `REPLACEMENTS` and by an unknown field."""
    places = list(places)
    for place in places:
        for replacement in REPLACEMENTS:
            if replacement is not _REMOVED:
                yield f"{_named(place)} = {json.dumps(replacement)}", _changed(good, place, replacement)
            elif isinstance(place[-1], str):
                yield f"without {_named(place)}", _changed(good, place, _REMOVED)
        if isinstance(_container(good, place)[place[-1]], dict):
            yield f"{_named(place)} with an unknown field", _changed(good, (*place, "unheard_of"), 1)
    yield "an unknown field", good | {"unheard_of": 1}


def _changed(good: dict, place: tuple, value) -> dict:
    case = copy.deepcopy(good)
    at = _container(case, place)
    if value is _REMOVED:
        del at[place[-1]]
    else:
        at[place[-1]] = value
    return case


def _container(values: dict, place: tuple):
    for step in place[:-1]:
        values = values[step]
    return values


def _named(place: tuple) -> str:
    return ".".join(map(str, place))


def _places(value, path=()):
    """Every place of a document; of a list the first element's, and the last artifact's and state's."""
    items = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list):
        items = list(enumerate(value)) if path[-1] in ("artifacts", "states") else list(enumerate(value))[:1]
    for key, item in items:
        yield (*path, key)
        yield from _places(item, (*path, key))
