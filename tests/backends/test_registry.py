"""Backends of other packages: found by name through their entry point, and held to what the built-in ones are held to."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from families_on_disk import CASES, random_model, save
from lowering_jobs import lowering_job

from firsttoken.backends.registry import BUILT_IN, backend_names, find_backend, open_target
from firsttoken.bundle.manifest import read_manifest
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.walk import open_decoder
from firsttoken.demo import checkpoint_path
from firsttoken.errors import FirstTokenError
from firsttoken.measure.bench import Bench, BenchSettings
from firsttoken.pipeline import export
from firsttoken.run.generate import generate
from firsttoken.run.open import open_runner
from firsttoken.tokenizer import open_tokenizer

PACKAGES = Path(__file__).parent / "third_party"
TARGET = """
summary = "numpy on the CPU"
runtime = "numpy"
delegate = "blas"
cache_length = 128
prefill_chunk = 48
min_runtime = "2.0"
"""


@pytest.fixture
def installed(monkeypatch):
    """The package of `third_party`, as pip would have it: its folder of metadata on the path, here and in processes started from here."""
    monkeypatch.syspath_prepend(str(PACKAGES))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(PACKAGES), *filter(None, [os.environ.get("PYTHONPATH")])]))
    find_backend.cache_clear()
    yield
    find_backend.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] == "firsttoken_numpy"]:
        del sys.modules[name]


@pytest.fixture
def target(tmp_path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(TARGET)
    return path


def test_found_by_name_only_where_it_is_installed(installed):
    assert "numpy-blas" in backend_names() and set(BUILT_IN) < set(backend_names())
    assert find_backend("numpy-blas").artifact_file == "model.npz"


def test_not_there_without_its_package():
    assert "numpy-blas" not in backend_names()
    with pytest.raises(FirstTokenError, match="no backend 'numpy-blas'.*expected one of executorch-hexagon, .*tflite-xnnpack"):
        find_backend("numpy-blas")


def test_from_export_to_the_bench(installed, target, tmp_path):
    """The demo checkpoint, proven by the export itself, generates the checkpoint's words and is measured in a process of its own."""
    [bundle] = export(checkpoint_path(), tmp_path / "out", "fp32", (target,))
    manifest = read_manifest(bundle)
    assert manifest.cpu.needs.runtime == "numpy" and manifest.need_proof().all.mean_kld < 1e-9
    [other] = export(checkpoint_path(), tmp_path / "out", "fp32", prove=False, cache_length=128)
    said = []
    for folder in (bundle, other):
        runner = open_runner(folder)
        said.append(list(generate(runner, open_tokenizer(folder, manifest), "def first_token(", 24)))
        runner.close()
    assert said[0] == said[1] and len(said[0]) > 10
    [result] = Bench([bundle], BenchSettings(prompts=(16,), repeat=2, processes=1)).run().results
    assert result.runtime_version.startswith("numpy ") and not result.failures
    assert [run.state for run in result.runs] == ["warm-up", "warm", "warm"]


def test_the_command_line_takes_its_target(installed, target, tmp_path):
    command = [sys.executable, "-m", "firsttoken", "export", checkpoint_path(), "-t", target, "-p", "fp32", "-o", tmp_path, "--no-prove"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "mine" / "model.npz").exists()


@pytest.mark.parametrize(
    "case", [case for case, (family, _) in CASES.items() if family in ("Llama", "Mistral", "Qwen2") and "window" not in case]
)
def test_families(installed, case, target, tmp_path):
    import numpy as np
    import torch

    model = random_model(case)
    folder = save(model, tmp_path / case)
    with Checkpoint(folder) as checkpoint:
        job = lowering_job(checkpoint, "fp32", open_target(target))
        backend = find_backend("numpy-blas")
        [artifact] = backend.lower(job, tmp_path / backend.artifact_file).artifacts
        manifest = manifest_of(job, artifact)
        runner = backend.open_runner(tmp_path, manifest, artifact)
    tokens = np.random.default_rng(1).integers(0, job.decoder.vocab_size, 100)
    with torch.no_grad():
        expected = model(torch.from_numpy(tokens)[None]).logits[0].numpy()
    assert np.abs(runner.prefill(tokens[:99]) - expected[98]).max() < 1e-4  # in chunks
    assert np.abs(runner.decode(int(tokens[99])) - expected[99]).max() < 1e-4


def manifest_of(job, artifact):
    """What a runner reads of a manifest."""
    from firsttoken.bundle.manifest import CheckpointIdentity, Manifest

    identity = CheckpointIdentity.model_construct(vocab_size=job.decoder.vocab_size)
    return Manifest.model_construct(plan=job.plan, target=job.target, checkpoint=identity, artifacts=[artifact])


def test_what_it_lacks_is_refused_by_name(installed, target, tmp_path):
    with Checkpoint(save(random_model("qwen3"), tmp_path / "qwen3")) as checkpoint:
        decoder = open_decoder(checkpoint)
    with pytest.raises(
        FirstTokenError, match=r"numpy-blas cannot give norms of query and key heads, which qwen3 needs \(layers.0.attention\)"
    ):
        find_backend("numpy-blas").check_model(decoder, open_target(target))
    with pytest.raises(FirstTokenError, match="int8 is not possible for 'embedding' on target 'mine'.*expected one of fp32, fp16"):
        export(checkpoint_path(), tmp_path / "out", "int8", (target,))
    assert not (tmp_path / "out").exists()


def test_a_name_that_is_nearly_right(installed, target):
    target.write_text(TARGET.replace('"blas"', '"bals"'))
    with pytest.raises(FirstTokenError, match="target 'mine': no backend 'numpy-bals'.*did you mean 'numpy-blas'"):
        open_target(target)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("firsttoken_numpy.absent:NumpyBlas", r"cannot be loaded \(ModuleNotFoundError: .*install its package again"),
        ("firsttoken_numpy.backend:Absent", r"cannot be loaded \(AttributeError: "),
        ("firsttoken_numpy.broken:NumpyBlas", r"cannot be loaded \(ZeroDivisionError: "),
        ("firsttoken_numpy.ops:NumpyOps", "is no subclass of firsttoken.backends.interface.Backend"),
        ("firsttoken_numpy.backend:CONFIG", "is no subclass of"),
    ],
)
def test_an_entry_point_that_is_wrong_is_one_line(value, said, tmp_path, monkeypatch):
    shutil.copytree(PACKAGES / "firsttoken_numpy", tmp_path / "firsttoken_numpy")
    (tmp_path / "firsttoken_numpy" / "broken.py").write_text("1 / 0\n")
    metadata = tmp_path / "firsttoken_numpy-1.0.dist-info"
    shutil.copytree(PACKAGES / metadata.name, metadata)
    (metadata / "entry_points.txt").write_text(f"[firsttoken.backends]\nnumpy-wrong = {value}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(FirstTokenError, match=said) as caught:
        find_backend("numpy-wrong")
    assert "\n" not in str(caught.value) and "numpy-wrong" in str(caught.value)
    for name in [name for name in sys.modules if name.split(".")[0] == "firsttoken_numpy"]:
        monkeypatch.delitem(sys.modules, name)


def test_an_artifact_that_is_damaged_is_one_line(installed, tmp_path):
    (tmp_path / "model.npz").write_bytes(b"PK\x03\x04 cut short")
    from firsttoken_numpy.backend import read_arrays

    with pytest.raises(FirstTokenError, match="not an .npz that can be read"):
        read_arrays(tmp_path / "model.npz")
