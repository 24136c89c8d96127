"""Packed weights that came with a bundle are used where they fit, never written to, and otherwise told from those that fit before anything is computed."""

import os
from pathlib import Path

import numpy as np
import pytest
from packed_fixtures import change, copied, packed_file, record, say_of_packed

from firsttoken.backends.isa import host_isa
from firsttoken.backends.tflite import weight_cache
from firsttoken.bundle.manifest import read_manifest
from firsttoken.demo import checkpoint_path
from firsttoken.errors import FirstTokenError
from firsttoken.file_hash import hash_file
from firsttoken.pipeline import export
from firsttoken.prove.prove import prove
from firsttoken.run.open import open_runner

TOKENS = np.arange(1, 40) * 7


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """A bundle with packed weights beside its own (False), and one with nothing else (True)."""
    found = {}
    for only in (False, True):
        output = tmp_path_factory.mktemp("packed")
        [found[only]] = export(checkpoint_path(), output, "int8", prove=False, pack_for=["host", host_isa()], packed_only=only)
    return found


def logits(bundle, **how):
    """Logits of a prompt, of more after it and of a token, and the runner's notes."""
    runner = open_runner(bundle, 1, **how)
    try:
        rows = [runner.prefill(TOKENS[:30]).copy(), runner.prefill(TOKENS[30:]).copy(), runner.decode(5).copy()]
        return np.stack(rows), " ".join(runner.notes)
    finally:
        runner.close()


@pytest.fixture(scope="module")
def expected(bundles):
    """What the artifact computes by itself."""
    return logits(bundles[False], kept=False)[0]


def flip(path):
    with open(path, "r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 0x55]))


def other_kernels(bundle):
    """A file that is as the manifest says, of a format that the runtime does not take."""
    with open(packed_file(bundle), "r+b") as file:
        file.write(b"\x03")
    record(bundle, packed_file(bundle))


def other_length(bundle):
    os.truncate(packed_file(bundle), 1 << 20)
    record(bundle, packed_file(bundle))


FAULTS = {
    "another CPU's": (lambda bundle: say_of_packed(bundle, isa="sme"), f"they are for sme, and this CPU is {host_isa()}"),
    "another version's": (lambda bundle: say_of_packed(bundle, version="2.2.0"), "was packed by ai-edge-litert 2.2.0, and 2.3.0 is what runs"),
    "another artifact's": (lambda bundle: say_of_packed(bundle, artifact_sha256="ab" * 32), "was packed from another model.tflite"),
    "damaged": (lambda bundle: flip(packed_file(bundle)), "the file is damaged or was replaced"),
    "cut": (lambda bundle: os.truncate(packed_file(bundle), 1 << 20), "bytes, but the manifest says"),
    "missing": (lambda bundle: packed_file(bundle).unlink(), "is missing"),
    "of another format": (other_kernels, "is for other kernels than ai-edge-litert 2.3.0 takes on this CPU"),
    "cut, and known to be": (other_length, "is for other kernels"),
}  # fmt: skip


@pytest.mark.parametrize("only", [False, True])
def test_they_are_used_and_give_the_same_to_the_bit(bundles, expected, only):
    folder = weight_cache.writable_folder()
    before, file = set(folder.iterdir()), packed_file(bundles[only])
    facts = file.stat()
    found, notes = logits(bundles[only])
    assert np.array_equal(found, expected) and "the bundle's own, for " + host_isa() in notes
    assert set(folder.iterdir()) == before, "nothing was packed here"
    assert (file.stat().st_mtime_ns, file.stat().st_ctime_ns) == (facts.st_mtime_ns, facts.st_ctime_ns)


def test_without_what_earlier_loads_left_a_whole_artifact_is_loaded_by_itself(bundles, expected):
    found, notes = logits(bundles[False], kept=False)
    assert np.array_equal(found, expected) and "packed" not in notes


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("only", [False, True])
def test_one_that_does_not_fit_is_told(bundles, expected, tmp_path, only, fault):
    bundle, (plant, told) = copied(bundles[only], tmp_path / "bundle"), FAULTS[fault]
    plant(bundle)
    file = packed_file(bundle)
    before = hash_file(file) if file.exists() else None
    if only:
        with pytest.raises(FirstTokenError, match="has only packed weights, and none can be used here") as caught:
            open_runner(bundle, 1)
        assert told in str(caught.value) and f"--pack-for {host_isa()}" in str(caught.value)
    else:
        found, notes = logits(bundle)
        assert np.array_equal(found, expected) and told in notes and "the artifact's own are packed" in notes
    assert (hash_file(file) if file.exists() else None) == before, "the runtime never writes into a bundle"


@pytest.mark.parametrize("only", [False, True])
def test_a_bundle_that_cannot_be_written_to(bundles, expected, tmp_path, only):
    bundle = copied(bundles[only], tmp_path / "bundle")
    for path in bundle.iterdir():
        path.chmod(0o444)
    bundle.chmod(0o555)
    try:
        runner = open_runner(bundle, 1)
        opened = [
            (os.readlink(f"/proc/self/fd/{number}"), int(Path(f"/proc/self/fdinfo/{number}").read_text().split()[3], 8))
            for number in os.listdir("/proc/self/fd")
            if os.path.exists(f"/proc/self/fd/{number}")
        ]
        mine = [flags & os.O_ACCMODE for name, flags in opened if name == str(packed_file(bundle))]
        runner.close()
        assert mine and set(mine) == {os.O_RDONLY}
        assert np.array_equal(logits(bundle)[0], expected)
    finally:
        bundle.chmod(0o755)


def test_weights_of_another_model_are_told_by_the_test_prompt(bundles, tmp_path):
    """The file is of these kernels and as the manifest says; its numbers are not this model's."""
    bundle = copied(bundles[True], tmp_path / "bundle")
    with open(packed_file(bundle), "r+b") as file:
        file.seek(200_000)
        block = bytearray(file.read(400_000))
        block[::3] = bytes(len(block[::3]))
        file.seek(200_000)
        file.write(block)
    record(bundle, packed_file(bundle))
    with pytest.raises(
        FirstTokenError, match="the bundle's test prompt gives the tokens .* were recorded; it is not this artifact's, export again"
    ):
        open_runner(bundle, 1)
    change(bundle, lambda manifest: manifest["packed"].update(only=False))
    assert open_runner(bundle, 1).packed_for == host_isa(), "a whole artifact's is proven, not asked"


def test_the_proof_holds_both_against_each_other(bundles, tmp_path):
    bundle = copied(bundles[False], tmp_path / "bundle")
    proof, _ = prove(bundle, checkpoint_path())
    assert proof.packed.model_dump() == {"isa": host_isa(), "equal_bits": True, "positions": 9} and proof.misses == []
    flip(packed_file(bundle))
    record(bundle, packed_file(bundle))
    proof, _ = prove(bundle, checkpoint_path())
    assert not proof.packed.equal_bits and any("give other logits than the artifact's own" in miss for miss in proof.misses)


def test_a_bundle_whose_artifact_lacks_its_weights_is_proven_with_them(bundles):
    proof, rows = prove(bundles[True], checkpoint_path())
    assert proof.passed and proof.packed is None and proof.all.mean_kld < 0.01
    assert {row.computed for row in rows if row.layer.endswith("mlp.up")} == {"int8"}


def test_what_the_manifest_says(bundles):
    whole, only = (read_manifest(bundles[which]) for which in (False, True))
    assert [file.isa for file in whole.packed.files] == [host_isa()], "named twice, packed once"
    size = {which: sum(facts.bytes for facts in manifest.files.values()) for which, manifest in ((False, whole), (True, only))}
    assert size[True] < 0.7 * size[False]
    assert only.packed.files[0].artifact_sha256 == only.files["model.tflite"].sha256 != whole.files["model.tflite"].sha256
    assert only.packed.files[0].top == whole.packed.files[0].top
