"""Families on the HTP backend for x86, compiled for a Snapdragon 8 Gen 2: near what transformers computes in FP32, in a window and across its ring."""

import shutil

import numpy as np
import pytest
import torch
from families_on_disk import ON_HEXAGON, random_model, save

from firsttoken.backends.registry import resolve
from firsttoken.backends.tflite_hexagon.runner import HexagonRunner
from firsttoken.bundle.manifest import read_manifest
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.walk import open_decoder
from firsttoken.demo import checkpoint_path
from firsttoken.pipeline import export
from firsttoken.progress import silent
from firsttoken.prove.on_npu import proof_contexts, write_same_source

BOUND = 0.02  # relative error; everything is computed in FP16


@pytest.mark.slow
@pytest.mark.parametrize("case", ON_HEXAGON)
def test_family(case, hexagon_libraries, tmp_path):
    model = random_model(case, vocab_size=4096, num_hidden_layers=2, **ON_HEXAGON[case])
    folder = save(model, tmp_path / "checkpoint")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(checkpoint_path() / name, folder)
    [bundle] = export(folder, tmp_path / "out", "fp16", ("tflite-hexagon-sm8550",), prove=False, cache_length=160)
    manifest, source = read_manifest(bundle), tmp_path / "source.tflite"
    tokens = np.random.default_rng(3).integers(0, 4096, 142)
    with torch.no_grad():
        expected = model(torch.from_numpy(tokens)[None]).logits[0].numpy()
    with Checkpoint(folder) as checkpoint:
        decoder = open_decoder(checkpoint)
        precisions = resolve(manifest.plan, decoder, manifest.target)
        write_same_source(checkpoint, decoder, manifest, precisions, source, silent)
    contexts = proof_contexts(bundle, manifest, decoder, precisions, source, hexagon_libraries, silent)
    runner = HexagonRunner(bundle, manifest, contexts, hexagon_libraries)
    try:
        for begin, end in ((0, 100), (100, 140), (140, 141), (141, 142)):
            call = runner.prefill(tokens[begin:end]) if end - begin > 1 else runner.decode(int(tokens[begin]))
            assert np.sqrt(np.mean((call - expected[end - 1]) ** 2)) < BOUND * expected[end - 1].std(), (begin, end)
    finally:
        runner.close()
