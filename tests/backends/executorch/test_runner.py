"""The .pte runner: chunks, reset, a cache that is filled to the last row, threads."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from executorch_fixtures import CACHE, CHUNK

from firsttoken.backends.executorch.runner import ExecutorchRunner
from firsttoken.bundle.manifest import Tensor, read_manifest
from firsttoken.errors import FirstTokenError
from firsttoken.run.open import open_runner


def close(logits, expected):
    return np.abs(logits - expected).max() < 1e-4


@pytest.fixture
def runner(lowerings):
    opened = lowerings.open("fp32")
    yield opened
    opened.close()


def test_chunks_equal_one_call(runner, lowerings):
    assert close(runner.prefill(lowerings.tokens[:CHUNK]), lowerings.expected[CHUNK - 1])
    for cuts in ((1, 2), (13, 30), (31,)):
        runner.reset()
        for start, stop in zip((0, *cuts), (*cuts, CHUNK), strict=True):
            logits = runner.prefill(lowerings.tokens[start:stop])
        assert close(logits, lowerings.expected[CHUNK - 1])
    runner.reset()
    assert close(runner.prefill(lowerings.tokens[: CHUNK + 5]), lowerings.expected[CHUNK + 4])  # cut by the runner
    assert runner.position == CHUNK + 5


def test_the_cache_is_used_to_its_last_row(runner, lowerings):
    runner.prefill(lowerings.tokens[:30])
    for position in range(30, CACHE):
        assert close(runner.decode(lowerings.tokens[position]), lowerings.expected[position]), position
    with pytest.raises(FirstTokenError, match=f"cache of {CACHE}"):
        runner.decode(1)
    runner.reset()
    runner.prefill(lowerings.tokens[:CHUNK])
    assert close(runner.prefill(lowerings.tokens[CHUNK:CACHE]), lowerings.expected[CACHE - 1])


def test_reset_leaves_nothing_behind(runner, lowerings):
    runner.prefill(list(reversed(lowerings.tokens[:CHUNK])))
    runner.decode(7)
    runner.reset()
    assert close(runner.prefill(lowerings.tokens[:3]), lowerings.expected[2])
    assert close(runner.decode(lowerings.tokens[3]), lowerings.expected[3])


def test_two_runners_do_not_share_a_cache(runner, lowerings):
    other = lowerings.open("fp32")
    runner.prefill(lowerings.tokens[:10])
    other.prefill(list(reversed(lowerings.tokens))[:20])
    assert close(runner.decode(lowerings.tokens[10]), lowerings.expected[10])
    other.close()


def test_logits_outlive_the_runner(lowerings):
    opened = lowerings.open("fp32")
    logits = opened.prefill(lowerings.tokens[:5])
    opened.close()
    assert close(logits, lowerings.expected[4])


def test_threads_are_those_asked_for(lowerings):
    from executorch.extension.pybindings import _C as portable_lib

    for threads in (1, 2):
        opened = lowerings.open("fp32", threads=threads)
        assert portable_lib._threadpool_get_thread_count() == threads
        assert close(opened.prefill(lowerings.tokens[:9]), lowerings.expected[8])
        other = 3 - threads
        with pytest.raises(FirstTokenError, match=f"another runner is open with {threads} threads"):
            lowerings.open("fp32", threads=other)
        assert close(opened.decode(lowerings.tokens[9]), lowerings.expected[9])
        opened.close()


@pytest.mark.parametrize("plan", ["fp32", "int8", "mixed"])
def test_both_ways_give_the_same_bits(lowerings, plan):
    path, manifest, _ = lowerings.lower(plan)
    found = []
    for native in (True, False):
        opened = ExecutorchRunner(path, manifest, 1, native=native)
        assert (opened.held_arrays() is not None) == native
        found.append(
            [opened.prefill(lowerings.tokens[:20]).copy(), opened.decode(7).copy(), opened.prefill(lowerings.tokens[20:40]).copy()]
        )
        opened.close()
    assert all(np.array_equal(one, other) for one, other in zip(*found, strict=True))


def test_no_torch_is_imported_to_run(demo_bundle):
    code = (
        "import sys; from firsttoken.run.open import open_runner; runner = open_runner(sys.argv[1], 1); runner.prefill([5, 6]); runner.close(); "
        "print(sorted({'torch', 'executorch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, demo_bundle("executorch-xnnpack")], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n" and done.stderr == ""


def test_a_damaged_file_is_refused(lowerings, tmp_path):
    path, manifest, _ = lowerings.lower("fp32")
    for name, content in (("text.pte", b"not a program" * 100), ("cut.pte", path.read_bytes()[: path.stat().st_size // 2])):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FirstTokenError, match=f"{name}.*cannot load"):
            ExecutorchRunner(tmp_path / name, manifest)


def test_a_bundle_of_an_older_form_is_refused(demo_bundle, tmp_path):
    bundle = Path(shutil.copytree(demo_bundle("executorch-xnnpack"), tmp_path / "bundle"))
    manifest = read_manifest(bundle)
    [forward] = manifest.cpu.methods
    position, mask = Tensor(name="position", shape=[1], dtype="int64"), Tensor(name="mask", shape=["sequence", "filled"], dtype="float32")
    forward.inputs[1:] = [position, mask]
    manifest.write(bundle)
    with pytest.raises(
        FirstTokenError, match=r"tokens, position, mask, expected tokens, cache_position.*older firsttoken, export it again"
    ):
        open_runner(bundle)
