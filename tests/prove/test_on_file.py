"""Files that other exporters wrote, proven: whole ones pass, each planted fault is caught, and what was not compared is said."""

import json
import re
import shutil

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from stock_fixtures import CACHE, FAULTS, LENGTHS

from firsttoken.checkpoint import Checkpoint
from firsttoken.cli import run
from firsttoken.demo import checkpoint_path
from firsttoken.errors import FirstTokenError
from firsttoken.foreign.open import open_file, read_subject
from firsttoken.foreign.signature_file import graphs
from firsttoken.prove import on_file
from firsttoken.prove.on_file import prove_file

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def expected_once(monkeypatch, request):
    """Every proof of one plan and checkpoint expects the same: it is computed once."""
    cache = request.config.__dict__.setdefault("_expected_of_files", {})
    plain = on_file.expectations

    def expectations(checkpoint, decoder, held, windows, precisions, backend, report):
        key = (checkpoint.fingerprint(), held.plan.name, str(precisions), str([window.tokens.tobytes() for window in windows]))
        if key not in cache:
            cache[key] = plain(checkpoint, decoder, held, windows, precisions, backend, report)
        return cache[key]

    monkeypatch.setattr(on_file, "expectations", expectations)


@pytest.fixture
def proven(stock_litertlm, half_demo, request):
    kept = request.config.__dict__
    if "_proven_stock" not in kept:
        kept["_proven_stock"] = prove_file(stock_litertlm, half_demo, "int8")
    return kept["_proven_stock"]


def test_a_stock_litertlm_is_what_the_plan_int8_is(proven):
    proof = proven.proof
    assert proof.passed and not proof.misses and proof.last_position == CACHE - 1
    assert proof.twin is not None and proof.twin.mean_kld <= proof.twin.allowed_kld
    assert 1e-5 < proof.all.mean_kld < 5e-3 and proof.prefill.tokens and proof.decode.tokens
    assert "compared with the plan int8 computed on the host" in proven.compared
    assert f"cache of {CACHE} tokens (the shape of its mask)" in proven.read[0]


def test_what_it_is_made_of(proven):
    structure = proven.structure
    assert {(matrix.stored, matrix.scales) for matrix in structure.matrices} == {("int8", "row")} and structure.cache == "fp32"
    assert sum(matrix.bytes for matrix in structure.matrices) == 4096 * 256 + 2 * (256 * 256 * 2 + 2 * 128 * 256 + 3 * 640 * 256)
    assert {graph.name for graph in structure.graphs} == {"decode", *(f"prefill_{length}" for length in LENGTHS)}
    for graph in structure.graphs:
        assert not graph.unknown and graph.operators // 2 < graph.taken < graph.operators
        assert "FULLY_CONNECTED" not in graph.outside and graph.outside["DYNAMIC_UPDATE_SLICE"] == 4


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_in_its_weights_is_caught(fault, stock_litertlm, half_demo, tmp_path):
    found = prove_file(FAULTS[fault](stock_litertlm, tmp_path), half_demo, "int8")
    assert not found.proof.passed and "not built as the plan says" in found.proof.misses[0], found.proof


def test_without_a_plan_the_nearest_is_compared_with(stock_litertlm, half_demo):
    found = prove_file(stock_litertlm, half_demo)
    assert found.proof.passed and found.proof.twin is not None and found.bounds == "int8"
    assert "compared with the plan int8 computed on the host, for it stores what that plan asks" in found.compared
    assert not [line for line in found.compared if line.startswith("WARNING")]


def test_without_a_plan_a_fault_is_said(stock_litertlm, half_demo, tmp_path):
    """It may be weights that were chosen in another way."""
    found = prove_file(FAULTS[next(iter(FAULTS))](stock_litertlm, tmp_path), half_demo)
    assert found.proof.passed and found.compared[0].startswith(
        "WARNING, no miss without --plan int8: not built as the plan says: mean divergence"
    )


def test_its_tflite_alone_is_the_same(stock_litertlm, half_demo, proven, tmp_path):
    section = graphs(stock_litertlm)
    alone = tmp_path / "alone.tflite"
    alone.write_bytes(section.read(0, section.size))
    found = prove_file(alone, half_demo, "int8")
    assert found.proof.passed and found.proof.all == proven.proof.all and "it does not say" in found.read[0]


def test_another_plan_is_no_twin_but_its_bounds_count(stock_litertlm, half_demo):
    found = prove_file(stock_litertlm, half_demo, "fp32")
    assert found.proof.twin is None and not found.proof.passed, "INT8 misses the bounds of FP32"
    assert any("values the plan asks" in line for line in found.compared)


def test_padding_never_runs_over_the_caches_end(stock_litertlm, half_demo):
    """A prompt to the last row in static graphs is what single tokens are: a padded write past the end would move over earlier rows."""
    tokens = np.random.default_rng(3).integers(5, 4000, CACHE)
    with Checkpoint(half_demo) as source:
        runner = open_file(read_subject(stock_litertlm, source), kept=False)
    try:
        single = [runner.decode(token).copy() for token in tokens]
        for first in (1, 50, CACHE - LENGTHS[0] - 2):
            runner.reset()
            runner.prefill(tokens[:first])
            assert np.abs(runner.prefill(tokens[first:]) - single[-1]).max() < 0.02 * single[-1].std()
        with pytest.raises(FirstTokenError, match=f"{CACHE + 1} tokens do not fit the cache of {CACHE}"):
            runner.decode(1)
    finally:
        runner.close()


def test_firsttokens_own_litertlm_without_its_bundle(own_litertlm):
    found = prove_file(own_litertlm, checkpoint_path(), "fp16-attention", cache_length=200)
    assert found.proof.passed and found.proof.twin is not None and found.proof.last_position == 199
    assert "cache of 200 tokens (as asked)" in found.read[0] and found.structure.cache == "fp16"


def test_a_stock_pte(stock_pte, tiny_model):
    found = prove_file(stock_pte, tiny_model, "fp32")
    assert found.proof.passed and found.proof.all.mean_kld < 1e-8 and found.proof.twin is not None
    assert {matrix.stored for matrix in found.structure.matrices} == {"fp32"}
    [graph] = found.structure.graphs
    assert graph.outside == {"llama::custom_sdpa": 2} and graph.taken == 15
    assert "(get_max_context_len)" in found.read[0]


@pytest.mark.parametrize(("part", "factor"), [("layers.1.mlp.up_proj.weight", 1.05), ("layers.0.self_attn.v_proj.bias", 0)])
def test_a_fault_in_a_stock_pte_is_caught(part, factor, stock_pte, tiny_model, tmp_path):
    values = load_file(tiny_model / "model.safetensors")[f"model.{part}"].float().numpy()
    content = stock_pte.read_bytes()
    assert values.tobytes() in content
    faulty = tmp_path / "faulty.pte"
    faulty.write_bytes(content.replace(values.tobytes(), (values * np.float32(factor)).tobytes()))
    found = prove_file(faulty, tiny_model, "fp32")
    assert not found.proof.passed and found.proof.all.mean_kld > 1e-6


def test_another_vocabulary_and_another_form(stock_pte, stock_litertlm, tiny_model, tmp_path, demo_bundle):
    other = shutil.copytree(tiny_model, tmp_path / "other")
    tensors = load_file(other / "model.safetensors")
    name = "model.embed_tokens.weight"
    save_file(tensors | {name: tensors[name][:4095].contiguous()}, other / "model.safetensors")
    config = other / "config.json"
    config.write_text(config.read_text().replace("4096", "4095"))
    for path in (stock_pte, stock_litertlm):
        with pytest.raises(FirstTokenError, match="logits for a vocabulary of 4096, but checkpoint .* has 4095; .*--checkpoint"):
            prove_file(path, other)
    with pytest.raises(FirstTokenError, match="has a cache of 128 tokens, not 64; leave out --cache-length"):
        prove_file(stock_pte, tiny_model, cache_length=64)
    with pytest.raises(FirstTokenError, match=r"model.tflite of a bundle .* give the bundle's folder"):
        prove_file(demo_bundle("tflite-xnnpack") / "model.tflite", tiny_model)


def test_the_command_says_it_all_and_its_status_is_the_gates(stock_litertlm, half_demo, tmp_path, capfd):
    def status(path) -> int:
        return run(["prove", str(path), "-c", str(half_demo), "--plan", "int8"])

    assert status(stock_litertlm) == 0
    out = capfd.readouterr().out
    for line in (
        "passed: every bound of the plan int8 is kept", "built as the plan says?", "stored: 15 matrices in int8, 2.3 MiB, one scale a row",
        "decode: the delegate took", "NOT compared: its tokenizer",
    ):  # fmt: skip
        assert line in out
    assert status(FAULTS["a bias dropped"](stock_litertlm, tmp_path)) == 3
    said = capfd.readouterr().err
    assert "the proof failed: not built as the plan says" in said and len(said.strip().splitlines()) == 1


def test_one_document_of_it_all(own_litertlm, capfd):
    arguments = ["prove", str(own_litertlm), "-c", str(checkpoint_path()), "--plan", "fp16-attention", "--cache-length", "64", "--json"]
    assert run(arguments) == 0
    document = json.loads(capfd.readouterr().out)
    assert document["passed"] and document["bounds"] == "fp16-attention" and document["proof"]["twin"]["positions"] > 0
    assert {"int8", "fp16"} == {matrix["stored"] for matrix in document["structure"]["matrices"]}
    assert [graph["name"] for graph in document["structure"]["graphs"]] == ["decode", "prefill"] and len(document["compared"]) == 3
    assert run([*arguments[:-1], "--audit"]) == 0
    assert re.search(r"4096 × 256 +int8 +row +FULLY_CONNECTED, GATHER +1.0 MiB", capfd.readouterr().out)
