"""What Python feeds to a GPU's graphs and what they give, for the app's own feeding to be held against.

The file is the GPU's; it runs on the CPU here, as `firsttoken generate` runs it: what is fed is the same, and it takes seconds.
"""

import json
from pathlib import Path
from unittest.mock import patch

import numpy as np
from parity_engines import Recording, steps_of

from firsttoken.backends.litertlm import runner
from firsttoken.bundle.manifest import read_manifest
from firsttoken.demo import checkpoint_path
from firsttoken.pipeline import export

TARGET = "tflite-gpu"
CACHE = 320
FED = ("tokens", "input_pos", "mask")
# A prompt in several graphs and decoding; a kept prefix; one token alone; the cache's very end, where no graph fits with its padding.
STEPS = (
    [("prefill", 300), ("decode", 2)],
    [("prefill", 20), ("decode", 2), ("keep", 15), ("prefill", 9), ("decode", 1)],
    [("prefill", 1), ("decode", 1)],
    [("prefill", 81), ("prefill", 238), ("decode", 1)],
)


def write(folder: Path):
    """Exports the demo checkpoint with an artifact for a GPU, runs `STEPS` on that one and writes every call of a graph into ``folder/engines/gpu``."""
    [bundle] = export(checkpoint_path(), folder / "bundles", plan="int8", targets=(TARGET,), prove=False, cache_length=CACHE)
    manifest = read_manifest(bundle)
    artifact = manifest.gpu_artifact
    assert artifact is not None and artifact.gpu is not None, "the target has one"
    place = folder / "engines" / "gpu"
    place.mkdir(parents=True)
    recording, run = Recording(place), runner.Call.run

    def recorded(self, tokens, position):
        run(self, tokens, position)
        given = {name: array for name, array in self.outputs.items() if name not in self.inputs}
        recording.add(self.name, {name: self.inputs[name] for name in FED}, given)

    # what hides a position is the manifest's to say; the runner's own is LiteRT-LM's
    with patch.dict(runner.NEVER, float32=artifact.gpu.masked), patch.object(runner.Call, "run", recorded):
        engine = runner.LitertlmRunner(manifest, bundle / artifact.file, artifact.methods, threads=1)
        engine.prefill_chunk = CACHE  # the target's is for the CPU artifact; a whole prompt at once ends with one call of decode
        try:
            steps = steps_of(engine, STEPS, manifest.tokenizer.vocab_size)
        finally:
            engine.close()
            recording.close()
    assert all(np.isfinite(array).all() for array in engine.cache.values())
    (place / "steps.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps), encoding="utf-8")
    (place / "manifest.json").write_bytes((bundle / "manifest.json").read_bytes())
