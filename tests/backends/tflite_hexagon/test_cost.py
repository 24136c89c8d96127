"""The estimates of minutes and memory before compiling and emulating."""

import pytest
from lowering_jobs import with_config

from firsttoken import preflight
from firsttoken.backends.registry import resolve
from firsttoken.backends.tflite_hexagon.cost import compile_cost, emulation_cost
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.walk import open_decoder
from firsttoken.demo import checkpoint_path
from firsttoken.errors import FirstTokenError
from firsttoken.preflight import check_room, estimate
from firsttoken.quant.plan import load_plan
from firsttoken.targets.target import load_target
from firsttoken.units import lasting

TARGET = load_target("tflite-hexagon-sm8550")


@pytest.fixture(scope="module")
def demo():
    return open_decoder(Checkpoint(checkpoint_path()))


@pytest.fixture(scope="module")
def half_billion():
    """The shape of Qwen2.5-0.5B."""
    shape = {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2}
    return with_config(Checkpoint(checkpoint_path()), **shape, head_dim=64, vocab_size=151936)


def precisions(config, plan="fp16-attention"):
    return resolve(load_plan(plan), config, TARGET)


def test_compiling_the_measured_shape(half_billion):
    """Measured for its four graphs: 9.7 GB at most and 250 s of processor time, about one core's (docs/hexagon.md)."""
    cost = compile_cost(half_billion, precisions(half_billion), TARGET)
    assert 9.7e9 < cost.memory < 13e9 and 250 < cost.seconds < 400
    assert compile_cost(half_billion, precisions(half_billion), TARGET, graphs=1).memory < cost.memory / 3


def test_compiling_int4_rows(demo, half_billion):
    """An INT4 weight takes the compiler longer than an INT8 one, and less memory (docs/hexagon.md)."""
    int4, int8 = (compile_cost(half_billion, precisions(half_billion, plan), TARGET) for plan in ("int4-npu", "fp16-attention-core"))
    assert int4.seconds > int8.seconds and int4.memory < 0.85 * int8.memory
    assert compile_cost(demo, precisions(demo, "int4-npu"), TARGET).seconds < 10


def test_the_demo_takes_seconds(demo):
    assert compile_cost(demo, precisions(demo), TARGET).seconds < 10
    assert emulation_cost(demo, precisions(demo), TARGET, [("first", 0, 32), ("decode", 32, 33)]).seconds < 5


def test_emulation_grows_with_pieces_and_weights(demo, half_billion):
    def seconds(config, *steps):
        return emulation_cost(config, precisions(config), TARGET, list(steps)).seconds

    assert seconds(demo, ("first", 0, 300)) > seconds(demo, ("first", 0, 128)) > seconds(demo, ("first", 0, 20))
    assert seconds(half_billion, ("decode", 20, 21)) > 10 * seconds(demo, ("decode", 20, 21))


def test_what_cannot_fit_is_refused_before_it_starts(half_billion, monkeypatch, tmp_path):
    needed = {"tflite-hexagon-sm8550": estimate(half_billion, precisions(half_billion), TARGET, prove=False)}
    monkeypatch.setattr(preflight, "available_memory", lambda: 8 << 30)
    monkeypatch.setattr(preflight, "available_disk", lambda place: 100 << 30)
    with pytest.raises(FirstTokenError, match=r"'tflite-hexagon-sm8550' needs about 1\d\.\d GiB of memory, 8.0 GiB are available"):
        check_room(needed, tmp_path, "half", half_billion)
    monkeypatch.setattr(preflight, "available_memory", lambda: 32 << 30)
    assert "compiling for the NPU about 5 min" in check_room(needed, tmp_path, "half", half_billion)


def test_durations():
    assert [lasting(seconds) for seconds in (0.2, 59, 170)] == ["1 s", "59 s", "3 min"]
