"""What Python feeds to NPU graphs and what they give, for the app's own feeding to be held against."""

import json
from pathlib import Path
from unittest.mock import patch

import numpy as np
from manifest_variants import npu_manifest
from parity_engines import Recording, steps_of

from firsttoken.backends.tflite_hexagon.compiled import read_compiled
from firsttoken.backends.tflite_hexagon.libraries import find_libraries
from firsttoken.backends.tflite_hexagon.npu_inputs import HostFeed, turned
from firsttoken.backends.tflite_hexagon.runner import HexagonRunner
from firsttoken.bundle.manifest import HostTable, read_manifest
from firsttoken.declarations import declaration_folder
from firsttoken.demo import checkpoint_path
from firsttoken.errors import FirstTokenError
from firsttoken.pipeline import export

COLUMNS, ROWS, DIMENSION, CACHE = 24, 50, 32, 40
# Tokens, position and length of the graph: padded, full, over the cache, at its end, and far out.
CALLS = (([7], 0, 8), ([0, 49, 3, 3, 12], 0, 8), (list(range(8)), 0, 8), ([5, 6], 11, 8), ([1], 39, 1), ([2], 40, 1))
POSITIONS = (0, 1, 77, 1279, 3001, 32_767, 131_071, 1_048_575)
# A prompt in three pieces and decoding; a padded one in the smallest graph; pieces after decoding; the cache's very end.
STEPS = ([("prefill", 300), ("decode", 2)], [("prefill", 20), ("decode", 2), ("prefill", 9)], [("prefill", 319), ("decode", 1)])


def table_file(folder: Path, dtype: str, rng: np.random.Generator) -> HostTable:
    """Writes a table of ``dtype`` somewhere in a file, with what makes reading it go wrong: negative, tiny, infinite and odd offsets."""
    values = rng.standard_normal((ROWS, COLUMNS)).astype(np.float32)
    if dtype == "float16":
        values[0, :8] = [0.0, -0.0, 6e-8, -6e-8, 6.1e-5, 65504, np.inf, -np.inf]
    stored = rng.integers(-128, 128, (ROWS, COLUMNS)).astype(np.int8) if dtype == "int8" else values.astype(dtype)
    scales = rng.random(ROWS).astype(np.float32) / 100
    name, head = f"{dtype}.tflite", b"header, 13 by"
    (folder / name).write_bytes(head + stored.tobytes() + b"..." + scales.tobytes())
    scaled = len(head) + stored.nbytes + 3 if dtype == "int8" else None
    return HostTable(file=name, dtype=dtype, rows=ROWS, columns=COLUMNS, offset=len(head), scales_offset=scaled)


def fed(folder: Path, seed: int = 5):
    """Writes ``feeds.jsonl``: for each kind of table what `HostFeed` gives for every call, the arrays in ``feeds.bin``."""
    rng = np.random.default_rng(seed)
    frequencies = (1.0 / 10000.0 ** (np.arange(0, DIMENSION, 2, dtype=np.float32) / DIMENSION)).astype(np.float32)
    manifest = npu_manifest()
    manifest.target = manifest.target.model_copy(update={"cache_length": CACHE})
    manifest.rotations[0].inverse_frequencies = [float(f) for f in frequencies]
    lines, out = [], (folder / "feeds.bin").open("wb")

    def written(array: np.ndarray) -> dict:
        place = out.tell()
        out.write(np.ascontiguousarray(array).tobytes())
        return {"offset": place, "count": int(array.size)}

    for dtype in ("float32", "float16", "int8"):
        manifest.npu_artifact.npu.embedding = table_file(folder, dtype, rng)
        feed = HostFeed(folder, manifest)
        for tokens, position, length in CALLS:
            arrays = {name: written(array) for name, array in feed.call(np.array(tokens, np.int32), position, length).items()}
            lines.append(
                {"table": feed.npu.embedding.model_dump(), "tokens": tokens, "position": position, "length": length, "arrays": arrays}
            )
    rotations = []
    for position in POSITIONS:
        cos, sin = turned(np.arange(position, position + 3), frequencies)
        rotations.append({"position": position, "cos": written(cos), "sin": written(sin)})
    out.close()
    facts = {
        "cache": CACHE,
        "masked": -30000.0,
        "inverse_frequencies": [float(f) for f in frequencies],
        "calls": lines,
        "rotations": rotations,
    }
    (folder / "feeds.json").write_text(json.dumps(facts), encoding="utf-8")


def recorded(folder: Path, bundles: Path):
    """Compiles the demo checkpoint, runs `STEPS` on the HTP backend for x86 and writes every call of a graph into ``folder``."""
    libraries = find_libraries()
    target = bundles / "npu.toml"
    text = (declaration_folder("export") / "tflite-hexagon-sm8550.toml").read_text(encoding="utf-8")
    target.write_text(text.replace("share_weights = true", "share_weights = false"), encoding="utf-8")  # which x86 can load
    [bundle] = export(checkpoint_path(), bundles, targets=(target,), prove=False, cache_length=320)
    manifest = read_manifest(bundle)
    contexts = {graph.name: graph.contexts[0] for graph in read_compiled(bundle / manifest.npu_artifact.file)}
    runner, recording = HexagonRunner(bundle, manifest, contexts, libraries), Recording(folder)
    loaded = HexagonRunner._loaded

    class Session:
        def __init__(self, method: str):
            self.method, self.session = method, loaded(runner, method)
            self.names = [tensor.name for tensor in next(m for m in manifest.npu_artifact.methods if m.name == method).inputs]

        def run(self, inputs):
            outputs = self.session.run(inputs)
            recording.add(self.method, {name: inputs[name] for name in self.names}, outputs)
            return outputs

    try:
        with patch.object(HexagonRunner, "_loaded", lambda _, method: Session(method)):
            steps = steps_of(runner, STEPS, manifest.tokenizer.vocab_size)
    finally:
        runner.close()
        recording.close()
    (folder / "steps.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps), encoding="utf-8")


def is_compiler_there() -> bool:
    try:
        find_libraries()
    except FirstTokenError:
        return False
    return True


def write(folder: Path):
    """Fills ``folder/npu``; the recorded run only where the extra "hexagon" is installed."""
    place = folder / "npu"
    place.mkdir()
    fed(place)
    if is_compiler_there():
        (folder / "engines" / "npu").mkdir()
        recorded(folder / "engines" / "npu", folder / "bundles")
        (folder / "bundles" / "npu").rename(folder / "bundles" / "tflite-hexagon-sm8550")
        (folder / "engines" / "npu" / "manifest.json").write_bytes(
            (folder / "bundles" / "tflite-hexagon-sm8550" / "manifest.json").read_bytes()
        )
