"""The NPU's own contexts on Qualcomm's HTP backend for x86: prefill, later pieces and decode over one cache, to its end."""

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import planted_faults as planted
import pytest
from safetensors.torch import load_file, save_file

from firsttoken import cli
from firsttoken.backends.tflite_hexagon.compiled import read_compiled
from firsttoken.backends.tflite_hexagon.qnn_context import QnnSession
from firsttoken.backends.tflite_hexagon.runner import HexagonRunner
from firsttoken.bundle.manifest import read_manifest
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.walk import open_decoder, plan_layers
from firsttoken.demo import checkpoint_path
from firsttoken.errors import FirstTokenError, GateError
from firsttoken.pipeline import export
from firsttoken.prove import on_npu
from firsttoken.prove.on_npu import prove_on_npu
from firsttoken.run.open import open_runner


@pytest.fixture
def sampled(monkeypatch):
    """Proofs as of a large model: five positions, one of every kind of call at least."""
    monkeypatch.setattr(on_npu, "LARGE", 0)


@pytest.fixture(scope="module")
def unshared_bundle(hexagon_libraries, tmp_path_factory):
    """A target whose artifact itself can be loaded on x86: every graph has its own weights."""
    from firsttoken.declarations import declaration_folder

    folder = tmp_path_factory.mktemp("unshared")
    text = (
        (declaration_folder("export") / "tflite-hexagon-sm8550.toml").read_text().replace("share_weights = true", "share_weights = false")
    )
    (folder / "own.toml").write_text(text)
    [bundle] = export(checkpoint_path(), folder, targets=(folder / "own.toml",), prove=False, cache_length=160)
    return bundle


@pytest.fixture
def runner(unshared_bundle, hexagon_libraries):
    manifest = read_manifest(unshared_bundle)
    contexts = {graph.name: graph.contexts[0] for graph in read_compiled(unshared_bundle / manifest.npu_artifact.file)}
    opened = HexagonRunner(unshared_bundle, manifest, contexts, hexagon_libraries)
    yield opened
    opened.close()


@pytest.mark.slow
def test_prefill_pieces_and_decode_agree_with_the_cpu(runner, unshared_bundle):
    """150 tokens: a padded first piece, one over the cache, and single steps; the same top token and nearly the same logits."""
    tokens = np.array(read_tokens()[:152], np.int32)
    cpu = open_runner(unshared_bundle, threads=1)
    for step in (
        lambda r: r.prefill(tokens[:20]),
        lambda r: r.prefill(tokens[20:30]),
        lambda r: r.decode(int(tokens[30])),
        lambda r: r.prefill(tokens[31:150]),
        lambda r: r.decode(int(tokens[150])),
    ):
        ours, theirs = step(runner).copy(), step(cpu).copy()
        assert runner.position == cpu.position
        assert np.sqrt(np.mean((ours - theirs) ** 2)) < 0.05 * theirs.std() and ours.argmax() == theirs.argmax()
    assert runner.position == 151
    cpu.close()


def read_tokens() -> list[int]:
    from firsttoken.demo import held_out_text
    from firsttoken.tokenizer import Tokenizer

    return Tokenizer(checkpoint_path()).encode(held_out_text()[:4000], begin=False)


def test_padding_changes_nothing(runner):
    """The 32-token graph with 20 tokens, and the 128-token graph with the same: the padding is behind the mask."""
    tokens = np.array(read_tokens()[:20], np.int32)
    short = runner.prefill(tokens).copy()
    runner.reset()
    runner.lengths = [128]
    assert np.abs(runner.prefill(tokens) - short).max() < 0.02 * short.std()


def test_one_graph_at_a_time(runner, hexagon_libraries):
    runner.prefill([1, 2, 3])
    with pytest.raises(FirstTokenError, match="takes one at a time"):
        QnnSession(runner.contexts["decode"], hexagon_libraries)


NPU_FAULTS = ("decoding is a position late", "decoded logits 2 % too large", "the end token's logit lost", "uniform at the last two rows")


@pytest.mark.slow
@pytest.mark.parametrize("fault", NPU_FAULTS)
def test_a_faulty_npu(fault, unshared_bundle, monkeypatch):
    plain = on_npu.HexagonRunner

    def faulty(*arguments):
        runner = plain(*arguments)
        for name, method in planted.RUNNING[fault].items():
            own = getattr(runner, name)
            setattr(runner, name, lambda tokens, own=own, method=method: method(runner, own, tokens))
        return runner

    monkeypatch.setattr(on_npu, "HexagonRunner", faulty)
    result = prove_on_npu(unshared_bundle, checkpoint_path(), most=(240, 64))
    # the few positions' same top alone is chance, so it does not count as found
    assert any(miss.startswith(("not built as the plan says", "mean KL divergence")) for miss in result.summary.misses), (
        result.summary.misses
    )


@pytest.mark.slow
def test_an_npu_artifact_of_other_weights(tmp_path, unshared_bundle):
    """The graphs are made again from the checkpoint and held against the hash of those that were compiled."""
    copy = Path(shutil.copytree(checkpoint_path(), tmp_path / "faulty"))
    tensors = load_file(copy / "model.safetensors")
    planted.WEIGHTS["one layer's v bias lost"](tensors)
    save_file(tensors, copy / "model.safetensors")
    bundle = Path(shutil.copytree(unshared_bundle, tmp_path / "bundle"))
    manifest = read_manifest(bundle)
    with Checkpoint(copy) as other:
        manifest.checkpoint.fingerprint = other.fingerprint()
    manifest.write(bundle)
    with pytest.raises(FirstTokenError, match="not those that the bundle was compiled from"):
        prove_on_npu(bundle, copy, most=(64, 16))


@pytest.mark.slow
def test_the_artifacts_own_contexts_are_run(unshared_bundle, monkeypatch, sampled):
    monkeypatch.setattr(on_npu, "compile_for", None)  # nothing is compiled again
    said = []
    result = prove_on_npu(unshared_bundle, checkpoint_path(), say=said.append)
    assert result.summary.passed and not result.summary.misses
    assert (result.summary.prefill.tokens, result.summary.decode.tokens, result.summary.last_position) == (2, 3, 27)
    assert result.summary.npu_against_cpu.mean_kld < 0.005
    assert "positions" in said[0] and "of memory" in said[0]


def test_a_small_model_can_be_proven_at_every_position_of_the_cpus_proof(unshared_bundle, monkeypatch):
    """What `firsttoken prove` asks for; looked at where the time it takes is said, before it starts."""
    from firsttoken.prove.prove import held_out_text, proof_windows
    from firsttoken.tokenizer import open_tokenizer

    chosen = {}

    def looked_at(config, precisions, manifest, windows):
        chosen[fully] = windows
        raise FirstTokenError("seen")

    monkeypatch.setattr(on_npu, "check_cost", looked_at)
    for fully in (False, True):
        with pytest.raises(FirstTokenError, match="seen"):
            prove_on_npu(unshared_bundle, checkpoint_path(), fully=fully)
    manifest = read_manifest(unshared_bundle)
    with Checkpoint(checkpoint_path()) as checkpoint:
        wanted = proof_windows(
            held_out_text(checkpoint.folder, None)[1], open_tokenizer(unshared_bundle, manifest), open_decoder(checkpoint), manifest
        )
    assert len(chosen[True]) == len(wanted) and all(
        np.array_equal(a.tokens, b.tokens) and list(a.steps()) == list(b.steps()) for a, b in zip(chosen[True], wanted, strict=True)
    )
    assert sum(len(w.positions) for w in chosen[False]) < 200 < 500 < sum(len(w.positions) for w in chosen[True])


@pytest.mark.slow
def test_more_accurate_than_the_cpu_past_position_1000(hexagon_libraries, tmp_path):
    """The shipped target with its cache of 1280, to the cache's end: INT8 weights meet FP16 activations, not INT8 ones."""
    [bundle] = export(checkpoint_path(), tmp_path, targets=("tflite-hexagon-sm8550",), prove=False)
    summary = prove_on_npu(bundle, checkpoint_path(), most=(1900, 24)).summary
    assert summary.passed and summary.last_position == 1279
    assert summary.decode.tokens >= 12 and summary.all.mean_kld < 0.5 * summary.cpu.mean_kld
    assert abs(summary.all.magnitude_ratio - 1) < 0.01


@pytest.mark.parametrize("soc", ["sm8450", "sm8850"])
@pytest.mark.slow
def test_the_oldest_and_the_newest_generation(hexagon_bundle, soc, sampled):
    result = prove_on_npu(hexagon_bundle(soc), checkpoint_path())
    assert result.summary.passed and result.summary.all.mean_kld < 0.002
    with Checkpoint(checkpoint_path()) as checkpoint:
        layers = [layer.name for layer in plan_layers(open_decoder(checkpoint))]
    assert [row.layer for row in result.audit] == layers
    assert {(row.asked, row.stored, row.computed, row.delegated) for row in result.audit if row.layer != "embedding"} == {
        ("fp16", "fp16", "fp16", True), ("int8", "int8", "fp16", True),
    }  # fmt: skip


@pytest.mark.slow
def test_a_wrong_feed_is_noticed(unshared_bundle, monkeypatch, sampled):
    """Planted: cos and sin two positions off, which is what an in-graph angle in FP16 does from some position on."""
    from firsttoken.backends.tflite_hexagon import npu_inputs

    right = npu_inputs.turned
    monkeypatch.setattr(npu_inputs, "turned", lambda positions, frequencies: right(positions + 2 * (positions > 10), frequencies))
    result = prove_on_npu(unshared_bundle, checkpoint_path())
    assert not result.summary.passed and result.summary.misses


@pytest.mark.slow
def test_export_rejects_what_fails_on_the_npu(hexagon_libraries, tmp_path, monkeypatch, sampled):
    from firsttoken.backends.tflite_hexagon.npu_inputs import HostFeed

    right = HostFeed.call
    monkeypatch.setattr(
        HostFeed,
        "call",
        lambda self, tokens, position, length: {**right(self, tokens, position, length), "cache_mask": np.zeros((1, 160), np.float32)},
    )
    with pytest.raises(GateError, match="on the NPU: "):
        export(checkpoint_path(), tmp_path, targets=("tflite-hexagon-sm8550",), cache_length=160)
    assert [path.name for path in tmp_path.iterdir()] == ["tflite-hexagon-sm8550.rejected"]
    rejected = read_manifest(tmp_path / "tflite-hexagon-sm8550.rejected")
    assert rejected.cpu.proof.passed and not rejected.npu_artifact.proof.passed


@pytest.mark.slow
def test_export_and_prove_from_the_command_line(hexagon_libraries, tmp_path, capsys, sampled):
    assert cli.run(["export", str(checkpoint_path()), "-o", str(tmp_path), "-t", "tflite-hexagon-sm8750", "--cache-length", "160"]) == 0
    out = capsys.readouterr().out
    assert "1302 of 1302 operators of 4 graphs on the NPU" in out and "NPU against CPU" in out and "LIBNATIVE" not in out
    bundle = tmp_path / "tflite-hexagon-sm8750"
    proven = read_manifest(bundle).npu_artifact
    assert proven.proof.passed and proven.audit
    assert cli.run(["prove", str(bundle), "-c", str(checkpoint_path()), "--on", "npu", "--audit"]) == 0
    out = capsys.readouterr().out
    assert "proof of the NPU artifact" in out and "proven on the HTP backend for x86" in out and "differs" not in out


@pytest.mark.slow
def test_graphs_that_a_phone_compiles(hexagon_libraries, tmp_path, sampled):
    """Shipped as they are; the proof compiles the same bytes ahead of time and says so."""
    said = []
    [bundle] = export(checkpoint_path(), tmp_path, targets=("tflite-hexagon-jit",), prove=False, cache_length=160, say=said.append)
    manifest = read_manifest(bundle)
    artifact, npu = manifest.npu_artifact, manifest.npu_artifact.npu
    assert (npu.compiled, artifact.needs.soc, npu.graphs) == ("device", None, [])
    assert npu.source_sha256 == manifest.facts(artifact).sha256
    assert any("compiled by the phone's QNN delegate" in line for line in said)
    summary = prove_on_npu(bundle, checkpoint_path()).summary
    assert summary.passed and "the phone's own compiler was not run" in summary.backend


def test_bundles_and_checkpoints_that_do_not_fit(hexagon_bundle, demo_bundle, tmp_path):
    with pytest.raises(FirstTokenError, match="has no NPU artifact; export with a target like tflite-hexagon-sm8550"):
        prove_on_npu(demo_bundle("tflite-xnnpack"), checkpoint_path())
    folder = shutil.copytree(hexagon_bundle(), tmp_path / "bundle")
    values = json.loads((folder / "manifest.json").read_text())
    for part, key, value, said in (
        ("npu", "source_sha256", "0" * 64, "are not those that the bundle was compiled from"),
        ("needs", "qnn", "2.49.0", "was compiled with QNN 2.49.0, but package"),
    ):
        changed = copy.deepcopy(values)
        changed["artifacts"][1][part][key] = value
        (folder / "manifest.json").write_text(json.dumps(changed))
        with pytest.raises(FirstTokenError, match=said):
            prove_on_npu(folder, checkpoint_path())
