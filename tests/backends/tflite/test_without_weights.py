"""A .tflite without the weights that packed files hold is short, hangs together, and computes nothing that could be taken for an answer."""

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from firsttoken.backends.tflite.audit import read_header
from firsttoken.backends.tflite.runner import TfliteRunner
from firsttoken.backends.tflite.verify import check_model
from firsttoken.backends.tflite.without_weights import weights_of_linear_layers, write_without_weights
from firsttoken.bundle.manifest import read_manifest


@pytest.fixture(scope="module")
def written(demo_bundle, tmp_path_factory):
    bundle, path = demo_bundle("tflite-xnnpack"), tmp_path_factory.mktemp("short") / "model.tflite"
    saved = write_without_weights(bundle / "model.tflite", path)
    return bundle, path, saved


def test_it_is_shorter_by_all_but_the_largest_weight(written):
    bundle, path, saved = written
    model, _ = read_header(bundle / "model.tflite")
    sizes = [model.buffers[number].size for number in weights_of_linear_layers(model)]
    assert len(sizes) == 28 and path.stat().st_blocks * 512 >= path.stat().st_size, "no holes"
    assert sum(sizes) - max(sizes) - 64 * len(sizes) <= saved


def test_it_hangs_together_and_no_two_weights_begin_at_one_place(written):
    bundle, path, _ = written
    model, _ = read_header(path)
    check_model(path, model, read_manifest(bundle).cpu.methods)
    places = [buffer.offset for buffer in model.buffers if buffer.offset > 1]
    assert len(set(places)) == len(places), "XNNPACK tells weights by their addresses"


@pytest.mark.parametrize("delegate", [True, False])
def test_who_runs_it_without_the_packed_file_gets_no_number(written, delegate):
    bundle, path, _ = written
    if delegate:
        runner = TfliteRunner(path, read_manifest(bundle), 1, False)
        rows = runner.prefill(np.arange(8)).copy()
        runner.close()
    else:
        interpreter = Interpreter(str(path), num_threads=1)
        values = {"tokens": np.arange(8, dtype=np.int32), "positions": np.arange(8, dtype=np.float32), "last": np.array([7], np.int32)}
        rows = interpreter.get_signature_runner("first")(**values)["logits"]
    assert not np.isfinite(rows).any()
