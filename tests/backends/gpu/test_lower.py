"""The artifact for a GPU beside the CPU's: the same weights, once, and a file that says where they are."""

import hashlib
import shutil

import numpy as np
import pytest

from firsttoken.backends.gpu.runner import GpuRunner
from firsttoken.backends.registry import backend_of, find_backend
from firsttoken.backends.tflite.audit import read_header
from firsttoken.backends.tflite.verify import verify
from firsttoken.bundle.manifest import read_manifest
from firsttoken.declarations import declaration_folder
from firsttoken.errors import FirstTokenError
from firsttoken.pipeline import export
from firsttoken.targets.target import load_target

LENGTH = 120


@pytest.fixture(scope="session")
def beside(tmp_path_factory, tiny_model):
    """Returns a function from whether weights are shared, and a plan, to a bundle for CPU and GPU, not proven."""
    made = {}

    def make(shared=True, plan="int8"):
        if (shared, plan) not in made:
            folder = tmp_path_factory.mktemp("beside")
            text = (declaration_folder("export") / "tflite-gpu.toml").read_text()
            (folder / "own.toml").write_text(text.replace("share_weights = true", f"share_weights = {str(shared).lower()}"))
            [made[shared, plan]] = export(tiny_model, folder, plan, (folder / "own.toml",), prove=False, cache_length=LENGTH)
        return made[shared, plan]

    return make


def weights_of(path) -> dict[str, bytes]:
    """The bytes of every weight by its tensor's name, wherever they lie."""
    model, found = read_header(path)[0], {}
    external = {one.id: one for one in model.externalBuffers or []}
    for tensor in model.subgraphs[-1].tensors:
        one, buffer = external.get(tensor.externalBuffer), model.buffers[tensor.buffer]
        if one is not None:
            other = path.with_name(model.externalBufferGroups[one.group].name.decode())
            found[tensor.name.decode()] = other.read_bytes()[one.offset : one.offset + one.length]
        elif buffer.offset > 1:
            found[tensor.name.decode()] = path.read_bytes()[buffer.offset : buffer.offset + buffer.size]
    return found


@pytest.mark.parametrize("plan", ["int8", "fp16-attention", "int4-npu"])
def test_weights_are_stored_once_and_are_the_same(beside, plan):
    shared, own = (read_manifest(beside(each, plan)) for each in (True, False))
    ours, theirs = (weights_of(beside(each, plan) / "model.gpu.tflite") for each in (True, False))
    assert ours == theirs and len(ours) > 10
    assert shared.gpu_artifact.gpu.weights == "model.tflite" and own.gpu_artifact.gpu.weights is None
    stored = sum(map(len, {hashlib.sha256(each).digest(): each for each in ours.values()}.values()))
    with_weights, without = (each.facts(each.gpu_artifact).bytes for each in (own, shared))
    assert 0.98 * stored < with_weights - without < 1.02 * stored + 64 * len(ours)


def test_the_cpus_artifact_is_tflite_xnnpacks(beside, tiny_model, tmp_path):
    [plain] = export(tiny_model, tmp_path, "int8", prove=False, cache_length=LENGTH)
    assert read_manifest(plain).files["model.tflite"] == read_manifest(beside()).files["model.tflite"]


def test_the_manifest_says_how_it_is_driven(beside):
    manifest = read_manifest(beside())
    gpu = manifest.gpu_artifact
    assert gpu is manifest.artifacts[1] and gpu.needs.accelerator == "gpu" and manifest.cpu.needs.accelerator is None
    assert [method.name for method in gpu.methods] == [*(f"prefill_{n}" for n in gpu.gpu.prefill_lengths), "decode"]
    caches = {f"kv_cache_{kind}_{state.layer}": state.shape for state in gpu.states for kind in "kv"}
    for method in gpu.methods:
        tokens = int(method.name.partition("_")[2] or 1)
        fed = {tensor.name: tensor.shape for tensor in method.inputs}
        rows = gpu.states[0].shape[2]
        assert fed == {"tokens": [1, tokens], "input_pos": [tokens], "mask": [1, 1, tokens, rows], **caches}
        given = {tensor.name: tensor.shape for tensor in method.outputs}
        assert given == caches | ({"logits": [1, 1, 4096]} if method.name == "decode" else {})
    assert all(
        state.advances == "in_place" and state.held_by == "host" and state.length == LENGTH <= state.shape[2] for state in gpu.states
    )


def spoiled(bundle, change) -> None:
    """A file whose external buffers are not what is there."""
    from firsttoken.backends.tflite.row_scales import pack, share

    path = bundle / "model.gpu.tflite"
    model = read_header(path)[0]
    share(model)
    change(model)
    path.write_bytes(pack(model))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda model: setattr(model.externalBuffers[0], "offset", 1 << 40), "external buffer 1 ends at byte"),
        (lambda model: setattr(model.externalBuffers[0], "length", 7), "has 7 bytes"),
        (lambda model: setattr(model.externalBuffers[0], "id", 99), "not numbered from 1 on"),
        (lambda model: setattr(model.externalBufferGroups[0], "name", b"../model.tflite"), "which is not beside it"),
        (lambda model: setattr(model.externalBufferGroups[0], "name", b"other.tflite"), "'other.tflite', which is not beside it"),
    ],
)
def test_weights_that_are_not_there_are_refused_before_it_is_loaded(beside, tmp_path, change, said):
    bundle = shutil.copytree(beside(), tmp_path / "bundle")
    artifact = read_manifest(bundle).gpu_artifact
    verify(bundle / artifact.file, artifact.methods)
    spoiled(bundle, change)
    with pytest.raises(FirstTokenError, match=said):
        verify(bundle / artifact.file, artifact.methods)


def test_shared_weights_and_a_part_of_the_graphs_give_the_same_numbers(software_gpu, beside):
    found = []
    for bundle, names in (
        (beside(), None),
        (beside(False), None),
        (beside(), ("prefill_16", "decode")),
        (beside(False), ("prefill_16", "decode")),
    ):
        manifest = read_manifest(bundle)
        artifact = manifest.gpu_artifact
        methods = [method for method in artifact.methods if names is None or method.name in names]
        runner = GpuRunner(bundle, manifest, artifact.model_copy(update={"methods": methods}))
        found.append([runner.prefill(np.arange(50, 90)), runner.decode(7)])
        runner.close()
    for other in found[1:]:
        for ours, theirs in zip(found[0], other, strict=True):
            assert np.abs(ours - theirs).max() < 1e-4 * ours.std()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('delegate = "xnnpack"\ncache_length = 100\n[gpu]\nprefill_lengths = [16, 100]', r"gpu.prefill_lengths \[16, 100\] do not fit cache_length 100"),
        ('delegate = "none"\ncache_length = 100\n[gpu]\nprefill_lengths = [16]', "got delegate 'none'"),
        ('delegate = "gpu"\ncache_length = 100', r"got delegate 'gpu' and no \[gpu\]"),
        ('delegate = "xnnpack"\ncache_length = 100\nprefill_lengths = [16]\n[gpu]\nprefill_lengths = [16]', "tflite-gpu is delegate 'xnnpack'"),
        ('delegate = "xnnpack"\ncache_length = 100\n[gpu]\nprefill_lengths = [16, 8]', "ascending"),
        (
            'delegate = "xnnpack"\ncache_length = 100\n[npu]\nsoc = "SM8650"\nprefill_lengths = [32]\n[gpu]\nprefill_lengths = [100]',
            r"gpu.prefill_lengths \[100\] do not fit",
        ),
    ],
)  # fmt: skip
def test_targets_that_cannot_be(tmp_path, text, said):
    path = tmp_path / "mine.toml"
    path.write_text(f'summary = "s"\nruntime = "tflite"\nprefill_chunk = 16\nmin_runtime = "2.3"\n{text}\n')
    with pytest.raises(FirstTokenError, match=said):
        backend_of(load_target(path))


def test_other_backends_have_no_artifact_beside_them(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        'summary = "s"\nruntime = "litertlm"\ndelegate = "cpu"\ncache_length = 100\nprefill_chunk = 16\nmin_runtime = "0.18.1"\nprefill_lengths = [16]\n'
        "[gpu]\nprefill_lengths = [16]\n"
    )
    with pytest.raises(FirstTokenError, match=r"has no artifact for a GPU beside it; leave out \[gpu\]"):
        backend_of(load_target(path))


def test_cpu_npu_and_gpu_take_what_all_three_can():
    both = find_backend("tflite-hexagon-gpu")
    assert both.precisions["linear"] == ("fp16", "int8", "int4") and both.precisions["embedding"] == ("fp32", "int8")
    assert backend_of(load_target("tflite-hexagon-gpu-sm8650")) is both
