import weakref

import numpy as np
import pytest

from firsttoken.backends.tflite import pieces
from firsttoken.backends.tflite.litert import Buffers, CompiledModel, aligned_zeros
from firsttoken.errors import FirstTokenError


def close(logits, expected):
    return np.abs(logits - expected).max() < 1e-4


def test_reset_leaves_nothing_behind(tied_checkpoint, lowered_runner, tokens, reference_logits):
    runner = lowered_runner(tied_checkpoint, cache_length=200)
    other = list(reversed(tokens))
    runner.prefill(other[:90])
    for token in other[90:130]:
        runner.decode(token)
    runner.reset()
    assert close(runner.prefill(tokens[:10]), reference_logits[9])
    for position in range(10, 40):  # over rows that the first conversation had written
        assert close(runner.decode(tokens[position]), reference_logits[position])


def test_cache_grows_in_steps_and_fills_to_the_last_row(tied_checkpoint, lowered_runner, tokens, reference_logits):
    runner = lowered_runner(tied_checkpoint, cache_length=200)
    runner.step = 64
    runner.prefill(tokens[:60])
    assert runner.rows == 64
    for position in range(60, 200):
        logits = runner.decode(tokens[position])
        assert close(logits, reference_logits[position]), position
    assert runner.rows == 200
    with pytest.raises(FirstTokenError, match="cache of 200"):
        runner.decode(1)


def test_a_refused_call_changes_nothing(tied_checkpoint, lowered_runner, tokens, reference_logits):
    runner = lowered_runner(tied_checkpoint, cache_length=64)
    runner.prefill(tokens[:20])
    for bad, message in (([], "empty"), ([320], "vocabulary"), ([-1], "vocabulary"), (tokens[:50], "do not fit")):
        with pytest.raises(FirstTokenError, match=message):
            runner.prefill(bad)
    assert close(runner.decode(tokens[20]), reference_logits[20])


def test_arrays_for_the_runtime_are_aligned():
    for shape in ((1,), (3, 5), (2, 1, 7, 64)):
        array = aligned_zeros(shape, np.float16)
        assert array.ctypes.data % 64 == 0 and array.shape == shape and not array.any()


def test_unaligned_arrays_are_refused():
    with pytest.raises(AssertionError):
        Buffers([aligned_zeros((65,), np.uint8)[1:]])


def test_a_file_that_is_not_a_model_is_refused(tmp_path):
    (tmp_path / "model.tflite").write_bytes(b"not a model" * 100)
    with pytest.raises(FirstTokenError, match="model.tflite"):
        CompiledModel(tmp_path / "model.tflite", threads=1, weight_cache=None)


def test_what_the_runtime_still_points_at_stays(tied_checkpoint, lowered_runner, tokens):
    """XNNPACK sets up again with a signature's last addresses when its workspace grows for another one: they must not be free."""
    runner = lowered_runner(tied_checkpoint, cache_length=200)
    before = weakref.ref(aligned_zeros((1,), np.int32))
    assert before() is None  # arrays that nothing holds are free at once here
    bound = []
    bind = runner.model.bind
    runner.model.bind = lambda arrays: bound.append([weakref.ref(array) for array in arrays]) or bind(arrays)
    for start, stop in ((0, 5), (5, 30), (30, 90)):
        runner.prefill(tokens[start:stop])
    (first, extended, last) = (inputs + outputs for inputs, outputs in zip(bound[::2], bound[1::2], strict=True))
    assert all(array() is not None for array in first + last)
    assert all(array() is None for array in extended)  # its signature has others now


def test_a_long_prompt_goes_in_smaller_pieces_over_one_cache(tied_checkpoint, lowered_runner, tokens, reference_logits, monkeypatch):
    monkeypatch.setattr(pieces, "WHOLE", 60)
    monkeypatch.setattr(pieces, "LEAST", 8)
    runner = lowered_runner(tied_checkpoint, cache_length=200, prefill_chunk=32)
    runner.step = 64
    addresses = {name: buffer.show(1, 0).ctypes.data for name, buffer in runner.buffers.items()}
    sizes, call = [], runner._prefill
    monkeypatch.setattr(runner, "_prefill", lambda piece: sizes.append(len(piece)) or call(piece))
    assert close(runner.prefill(tokens[:150]), reference_logits[149])
    assert sizes[0] == 32 and sizes[-1] < 16 and sorted(sizes[:-1], reverse=True) == sizes[:-1]
    for position in range(150, 170):
        assert close(runner.decode(tokens[position]), reference_logits[position])
    assert close(runner.prefill(tokens[170:190]), reference_logits[189])  # a later turn: all rows, then those filled alone, then all again
    assert close(runner.decode(tokens[190]), reference_logits[190])
    assert {name: array.ctypes.data for name, array in runner.cache.items()} == addresses
