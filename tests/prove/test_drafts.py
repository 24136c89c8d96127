"""The proof of checking drafts finds what is planted: wrong rows, and traces of a draft that was not taken."""

import numpy as np
import pytest
from manifest_variants import demo_manifest
from tflite_fixtures import open_lowered, random_qwen2

from firsttoken.bundle.draft_facts import DraftProof
from firsttoken.prove.drafts import prove_drafts
from firsttoken.prove.prove import missed_drafts
from firsttoken.report.tables import proof_lines


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drafts")
    opened = open_lowered(
        random_qwen2(folder / "checkpoint", tied=True),
        folder / "m.tflite",
        "fp32",
        "tflite-xnnpack",
        cache_length=150,
        prefill_chunk=64,
        draft_tokens=3,
    )
    yield opened
    opened.close()


TOKENS = np.random.default_rng(0).integers(0, 320, 200)


def test_it_passes_as_it_was_made(runner):
    proof = prove_drafts(runner, TOKENS, 320)
    assert proof.equal_bits and proof.same_top == 1 and proof.mean_kld == 0 and proof.positions == 4 * 8


def test_a_row_in_the_wrong_place(runner, monkeypatch):
    check = runner._check_draft
    monkeypatch.setattr(runner, "_check_draft", lambda tokens: check(tokens)[::-1])
    proof = prove_drafts(runner, TOKENS, 320)
    assert not proof.equal_bits and proof.mean_kld > 0.01


def test_a_trace_of_what_was_not_taken(runner, monkeypatch):
    """The row behind those that were taken is written too, as if a rejected token had stayed."""
    accept = runner._accept

    def one_too_many(count):
        place = runner.position + count
        accept(count)
        for name, array in runner.cache.items():
            array[:, :, place : place + 1] = runner._check_call.outputs[name][:, :, -1:]
        runner.used = max(runner.used, place + 1)

    monkeypatch.setattr(runner, "_accept", one_too_many)
    proof = prove_drafts(runner, TOKENS, 320)
    assert not proof.equal_bits and proof.worst_kld > 1e-6


def test_what_is_missed_and_what_is_said():
    manifest = demo_manifest()
    far = DraftProof(equal_bits=False, mean_kld=0.5, worst_kld=2.0, same_top=0.75, positions=8)
    near = far.model_copy(update={"mean_kld": 1e-9})
    [miss] = missed_drafts(manifest, far)
    assert "checking drafts is 0.5 nats from decoding, 2 at most; the plan asks" in miss
    assert missed_drafts(manifest, near) == []
    assert missed_drafts(manifest, None) == ["the artifact has no method that checks drafts; export again"]
    proof = manifest.need_proof()
    assert "checking drafts is equal to the bit to decoding (64 positions)" in proof_lines(proof)
    proof.draft = near
    assert "checking drafts is 1.00e-09 nats (at most 2.00e+00) from decoding, the same top token at 75.00% (8 positions)" in proof_lines(
        proof
    )
