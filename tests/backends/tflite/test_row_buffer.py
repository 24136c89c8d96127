from itertools import pairwise

import numpy as np
import pytest

from firsttoken.backends.tflite.row_buffer import RowBuffer


@pytest.mark.parametrize("heads", [1, 2, 5])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8])
def test_rows_keep_their_heads_over_any_sizes(heads, dtype):
    buffer, random = RowBuffer([heads, 1, 64, 8], dtype), np.random.default_rng(heads)
    address = buffer.show(1, 0).ctypes.data
    expected = np.zeros((heads, 0, 8), dtype)
    for before, rows in pairwise((1, 16, 3, 64, 40, 41, 8, 64)):
        filled = min(before, rows, expected.shape[1])
        array = buffer.show(rows, filled)
        assert array.shape == (heads, 1, rows, 8) and array.ctypes.data == address and array.flags.c_contiguous
        np.testing.assert_array_equal(array[:, 0, :filled], expected[:, :filled])
        assert not array[:, :, filled:].any()
        array[...] = random.integers(1, 100, array.shape)
        expected = array[:, 0].copy()


def test_more_rows_than_there_are_is_a_fault_of_the_caller():
    buffer = RowBuffer([2, 1, 16, 4], np.float32)
    for rows, filled in ((17, 0), (4, 5), (8, 1)):
        with pytest.raises(AssertionError, match="shown as"):
            buffer.show(rows, filled)


def test_rows_that_are_not_shown_take_no_memory():
    def private() -> int:
        return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon")) >> 10

    before = private()
    buffers = [RowBuffer([4, 1, 1 << 16, 64], np.float32) for _ in range(8)]  # 512 MiB
    assert private() - before < 32
    for buffer in buffers:
        buffer.show(256, 0)
    assert private() - before < 32
