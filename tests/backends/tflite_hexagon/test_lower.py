"""The demo checkpoint compiled ahead of time: everything offloaded for every generation, weights stored once, and what the bundle holds."""

import shutil

import numpy as np
import pytest

from firsttoken.backends.tflite_hexagon.compiled import read_compiled
from firsttoken.backends.tflite_hexagon.npu_inputs import EmbeddingTable
from firsttoken.bundle.files import check_files
from firsttoken.bundle.manifest import read_manifest
from firsttoken.checkpoint import Checkpoint
from firsttoken.demo import checkpoint_path
from firsttoken.errors import FirstTokenError
from firsttoken.pipeline import export
from firsttoken.run.open import open_runner


@pytest.mark.parametrize(
    ("soc", "hexagon", "fp16"), [("sm8450", "V69", "unverified"), ("sm8550", "V73", "documented"), ("sm8850", "V81", "documented")]
)
def test_three_generations_take_every_operator(hexagon_bundle, soc, hexagon, fp16):
    folder = hexagon_bundle(soc)
    manifest = read_manifest(folder)
    artifact, npu = manifest.npu_artifact, manifest.npu_artifact.npu
    assert (artifact.needs.soc, artifact.needs.hexagon, npu.fp16) == (soc.upper(), hexagon, fp16)
    assert (
        [graph.method for graph in npu.graphs]
        == [method.name for method in artifact.methods]
        == ["first_32", "first_128", "extend_128", "decode"]
    )
    for graph in npu.graphs:
        assert graph.offloaded == graph.operators > 200 and graph.partitions == 1 and graph.left == []
    assert sorted(path.name for path in folder.iterdir()) == [
        "manifest.json",
        "model.npu.tflite",
        "model.tflite",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    compiled = read_compiled(folder / artifact.file)
    assert len({(context.offset, context.size) for graph in compiled for context in graph.contexts}) == 1, "one context for all graphs"
    # of the compiled file about 1 MiB is the graphs' own; with weights in each of four graphs it would be more than three times the CPU's
    assert manifest.facts(artifact).bytes < manifest.facts(manifest.cpu).bytes + (9 << 17), "the weights are stored once"
    assert npu.compile_seconds > 0 and npu.compile_memory > 50 << 20


@pytest.mark.slow
def test_several_socs_in_one_call(hexagon_libraries, tmp_path):
    said = []
    targets = ("tflite-hexagon-sm8475", "tflite-hexagon-sm8650", "tflite-hexagon-sm8750")
    folders = export(checkpoint_path(), tmp_path, targets=targets, prove=False, cache_length=160, say=said.append)
    assert [folder.name for folder in folders] == list(targets)
    manifests = [read_manifest(folder) for folder in folders]
    assert len({manifest.npu_artifact.npu.source_sha256 for manifest in manifests}) == 1, "the same graphs for all"
    assert len({manifest.facts(manifest.cpu).sha256 for manifest in manifests}) == 1, "and the same CPU artifact"
    assert "compiling for the NPU about" in said[0]
    assert any("sm8475: Hexagon V69: Qualcomm documents FP16 from V73 on" in line for line in said)
    assert not any("sm8650: Hexagon V75: Qualcomm documents" in line for line in said)


@pytest.mark.parametrize("plan", ["fp16-attention", "fp16"])
def test_the_embedding_is_found_in_the_cpu_artifact(hexagon_bundle, plan):
    folder = hexagon_bundle(plan=plan)
    table = EmbeddingTable(folder, read_manifest(folder).npu_artifact.npu.embedding)
    tokens = np.array([0, 7, 4095])
    with Checkpoint(checkpoint_path()) as checkpoint:
        wanted = np.concatenate([checkpoint.rows("model.embed_tokens.weight", int(t), int(t) + 1) for t in tokens])
    step = np.abs(wanted).max(1, keepdims=True) / 127
    assert (np.abs(table.rows(tokens) - wanted) <= (0.51 * step if plan == "fp16-attention" else 1e-3)).all()


def test_the_cpu_artifact_is_the_cpu_targets_byte_for_byte(hexagon_bundle, tmp_path):
    from hexagon_fixtures import SMALL

    [cpu] = export(checkpoint_path(), tmp_path, targets=("tflite-xnnpack",), prove=False, **SMALL)
    wanted = (cpu / "model.tflite").read_bytes()
    for soc in ("sm8550", "sm8850"):
        assert (hexagon_bundle(soc) / "model.tflite").read_bytes() == wanted, soc


def test_every_other_verb_uses_the_cpu_artifact(hexagon_bundle, demo_bundle):
    prompt = np.arange(20) + 100
    logits = []
    for folder in (hexagon_bundle(), demo_bundle("tflite-xnnpack")):
        runner = open_runner(folder, threads=1)
        logits.append(runner.prefill(prompt).copy())
        runner.close()
    assert np.array_equal(*logits)


def test_a_damaged_npu_artifact_is_noticed(hexagon_bundle, tmp_path):
    folder = shutil.copytree(hexagon_bundle(), tmp_path / "bundle")
    manifest = read_manifest(folder)
    path = folder / manifest.npu_artifact.file
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(FirstTokenError, match="model.npu.tflite: SHA-256"):
        check_files(folder, manifest)
    path.write_bytes(raw[: len(raw) // 2])
    with pytest.raises(FirstTokenError, match="lies outside the file"):
        read_compiled(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(FirstTokenError, match="not a .tflite"):
        read_compiled(path)


def test_a_failed_compile_leaves_nothing(hexagon_libraries, tmp_path, monkeypatch):
    from firsttoken.backends.tflite_hexagon import compile as compiling

    monkeypatch.setattr(compiling, "_command", lambda *_: ["false"])
    with pytest.raises(FirstTokenError, match="compiling .* for SM8550 failed: the compiler took no operator"):
        export(checkpoint_path(), tmp_path / "out", targets=("tflite-hexagon-sm8550",), prove=False)
    assert not (tmp_path / "out").exists()


def test_an_interrupted_compile_ends_the_compiler(hexagon_libraries, tmp_path, monkeypatch):
    """Interrupted while it waits for a compiler that would take a minute."""
    import os

    from firsttoken.backends.tflite_hexagon import compile as compiling

    started, wait = [], os.waitpid

    def interrupted(process, options):
        if not started:
            started.append(process)
            raise KeyboardInterrupt
        return wait(process, options)

    monkeypatch.setattr(compiling, "_command", lambda *_: ["sleep", "60"])
    monkeypatch.setattr(compiling.os, "waitpid", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compiling._run(compiling._command(), tmp_path, 60, lambda *_: None)
    with pytest.raises(ProcessLookupError):
        os.kill(started[0], 0)
