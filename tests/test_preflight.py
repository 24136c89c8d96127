"""The estimate made before an export."""

from dataclasses import replace

import pytest

from firsttoken import preflight
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.walk import open_decoder, plan_layers
from firsttoken.demo import checkpoint_path
from firsttoken.errors import FirstTokenError
from firsttoken.preflight import Estimate, check_room, estimate
from firsttoken.quant.plan import load_plan
from firsttoken.targets.target import load_target
from firsttoken.units import readable


@pytest.fixture(scope="module")
def config():
    return open_decoder(Checkpoint(checkpoint_path()))


def needed(config, plan, target, prove=False):
    target = load_target(target)
    return estimate(config, load_plan(plan).resolve(plan_layers(config), target), target, prove)


def test_disk_is_about_the_files_size(config, demo_bundle):
    folder = demo_bundle("tflite-xnnpack")
    size = sum(path.stat().st_size for path in folder.iterdir())
    assert size <= needed(config, "fp16-attention", "tflite-xnnpack").disk <= 1.3 * size + (4 << 20)


def test_writing_tflite_does_not_take_memory_for_the_weights_and_pte_does(config):
    large = replace(config, hidden_size=4096, mlp_size=14336, layer_count=32, head_count=32, kv_head_count=8, head_dim=128)
    assert needed(large, "int8", "tflite-xnnpack").memory < 1 << 30
    assert needed(large, "int8", "executorch-xnnpack").memory > 15 << 30
    assert needed(large, "int4", "executorch-xnnpack").memory < needed(large, "int8", "executorch-xnnpack").memory
    assert needed(large, "int8", "tflite-xnnpack", prove=True).memory > 7 << 30, "a proof loads the file"


def test_what_cannot_fit_is_refused_with_both_figures(config, monkeypatch, tmp_path):
    monkeypatch.setattr(preflight, "available_memory", lambda: 8 << 30)
    monkeypatch.setattr(preflight, "available_disk", lambda place: 1 << 30)
    line = check_room({"a": Estimate(1 << 30, 1 << 20)}, tmp_path, "demo", config)
    assert "1.0 GiB of 8.0 GiB memory" in line and "1.0 MiB of 1.0 GiB disk" in line
    with pytest.raises(FirstTokenError, match="'b' needs about 9.0 GiB of memory, 8.0 GiB are available"):
        check_room({"a": Estimate(1 << 30, 0), "b": Estimate(9 << 30, 0)}, tmp_path, "demo", config)
    with pytest.raises(FirstTokenError, match="1.2 GiB of disk, 1.0 GiB are free"):
        check_room({"a": Estimate(0, 600 << 20), "b": Estimate(0, 600 << 20)}, tmp_path, "demo", config)


def test_what_there_is():
    assert preflight.available_memory() > 100 << 20
    assert preflight.available_disk(preflight.Path("/nowhere/at/all")) > 0


def test_units():
    assert [readable(n) for n in (0, 1023, 2048, 3 << 20, 1.5 * (1 << 30), 1 << 41)] == [
        "0 B",
        "1023 B",
        "2 KiB",
        "3.0 MiB",
        "1.5 GiB",
        "2.0 TiB",
    ]
