"""A real model through every step: its answer is one that anyone can check."""

import pytest

from firsttoken.bundle.manifest import read_manifest
from firsttoken.pipeline import export
from firsttoken.run.generate import generate
from firsttoken.run.open import open_runner
from firsttoken.tokenizer import open_tokenizer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bundle(real_model, tmp_path_factory):
    """Exported with the default plan and target and proven; a missed bound is a `GateError` here. Also what was said on the way.

    About four minutes of computing. A shorter cache is no cheaper, and of fewer positions: at 256 tokens it misses the gate (0.0206, 91.1 %).
    """
    said: list[str] = []
    [folder] = export("smollm2", tmp_path_factory.mktemp("real"), say=said.append)
    return folder, said


def test_it_says_paris(bundle):
    folder, _ = bundle
    runner = open_runner(folder)
    try:
        answer = "".join(generate(runner, open_tokenizer(folder, read_manifest(folder)), "What is the capital of France?", 32))
    finally:
        runner.close()
    assert "Paris" in answer, answer


def test_its_proof_is_within_the_gate(bundle):
    folder, said = bundle
    manifest = read_manifest(folder)
    proof = manifest.need_proof()
    assert proof.passed and proof.all.tokens > 500
    assert 0.001 < proof.all.mean_kld <= manifest.plan.gate.mean_kld  # a real model's: three powers of ten above what FP32 would show
    assert manifest.checkpoint.name == "SmolLM2-135M-Instruct-Q4_1" and manifest.checkpoint.layers == 30
    assert any("Q4_1" in line and "not against the original model" in line for line in said)
