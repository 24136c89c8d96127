"""Families on LiteRT's GPU accelerator: near what transformers computes in FP32, over calls of several lengths, in a window and past it."""

import shutil

import numpy as np
import pytest
import torch
from families_on_disk import ON_GPU, random_model, save

from firsttoken.backends.registry import find_backend
from firsttoken.bundle.manifest import read_manifest
from firsttoken.demo import checkpoint_path
from firsttoken.pipeline import export

BOUND = 2e-5  # relative error; everything is computed in FP32


@pytest.mark.slow
@pytest.mark.parametrize("case", ON_GPU)
def test_family(case, software_gpu, tmp_path):
    model = random_model(case, vocab_size=4096, num_hidden_layers=2, **ON_GPU[case])
    folder = save(model, tmp_path / "checkpoint")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(checkpoint_path() / name, folder)
    [bundle] = export(folder, tmp_path / "out", "fp32", ("litertlm-gpu",), prove=False, cache_length=120)
    manifest = read_manifest(bundle)
    tokens = np.random.default_rng(3).integers(0, 4096, 102)
    with torch.no_grad():
        expected = model(torch.from_numpy(tokens)[None]).logits[0].numpy()
    runner = find_backend("litertlm-gpu").on_gpu().open_runner(bundle, manifest, manifest.cpu)
    try:
        for begin, end in ((0, 70), (70, 100), (100, 101), (101, 102)):
            call = runner.prefill(tokens[begin:end]) if end - begin > 1 else runner.decode(int(tokens[begin]))
            assert np.sqrt(np.mean((call - expected[end - 1]) ** 2)) < BOUND * expected[end - 1].std(), (begin, end)
    finally:
        runner.close()
