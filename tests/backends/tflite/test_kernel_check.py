"""The runtime says whether it takes a file's kernels, and changes no file by being asked."""

import numpy as np
import pytest

from firsttoken.arm.cores import CORES
from firsttoken.arm.emulator import RUNTIMES
from firsttoken.arm.runner import ArmRunner
from firsttoken.backends.tflite.kernel_check import ask, graph_without_weights, taken_here
from firsttoken.backends.tflite.runner import TfliteRunner
from firsttoken.bundle.manifest import read_manifest
from firsttoken.file_hash import hash_file


@pytest.fixture(scope="module")
def packed(demo_bundle, tmp_path_factory):
    bundle, path = demo_bundle("tflite-xnnpack"), tmp_path_factory.mktemp("packed") / "here.packed"
    TfliteRunner(bundle / "model.tflite", read_manifest(bundle), 1, path).close()
    return path


def test_its_own_are_taken_and_the_file_stays(packed):
    before = hash_file(packed)
    assert ask(packed) and taken_here(packed, "ai-edge-litert") and hash_file(packed) == before


@pytest.mark.parametrize("place", [0, 8, 16])
def test_damage_of_the_header_is_told(packed, tmp_path, place):
    path = tmp_path / "damaged.packed"
    raw = bytearray(packed.read_bytes())
    raw[place] ^= 7
    path.write_bytes(raw)
    assert not ask(path) and path.read_bytes() == raw


def test_files_that_are_none(tmp_path):
    path = tmp_path / "no.packed"
    for content in (b"", b"x" * 40, b"x" * 5000, bytes(5000)):
        path.write_bytes(content)
        assert not ask(path)


def test_the_graph_has_no_weights():
    assert len(graph_without_weights()) < 1000


@pytest.mark.slow
def test_an_arm_cpus_file_is_not_taken_here(emulated_arm, demo_bundle, tmp_path):
    path = tmp_path / "arm.packed"
    runner = ArmRunner(demo_bundle("tflite-xnnpack"), CORES["cortex-a76"], RUNTIMES["litert"], weight_cache=path)
    runner.prefill(np.arange(3))
    runner.close()
    before = hash_file(path)
    assert not ask(path) and hash_file(path) == before
