import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from firsttoken.backends.tflite.graph import Dynamic, Graph, Type, broadcast
from firsttoken.backends.tflite.model_file import ModelFile


def test_broadcast_keeps_run_time_dimensions():
    tokens = Dynamic("tokens", 8)
    shape = broadcast([2, 1, tokens, 64], [2, 7, 1, 64])
    assert shape == [2, 7, 8, 64] and shape[2].name == "tokens"
    with pytest.raises(AssertionError):
        broadcast([2, 3], [2, 4])


def test_run_time_dimensions_are_minus_one_in_the_file_and_resize(tmp_path):
    file = ModelFile("test")
    graph = Graph(file, "double")
    rows = Dynamic("rows", 5)
    x = graph.input("x", [rows, 4], Type.FLOAT32)
    first, second = graph.split_halves(graph.add(x, x))
    graph.output("y", graph.concatenate([second, first], 1))
    graph.finish()
    file.write(tmp_path / "m.tflite")
    interpreter = Interpreter(str(tmp_path / "m.tflite"))
    assert interpreter.get_input_details()[0]["shape_signature"].tolist() == [-1, 4]
    runner = interpreter.get_signature_runner("double")
    for count in (1, 3, 9):
        values = np.arange(count * 4, dtype=np.float32).reshape(count, 4)
        assert np.array_equal(runner(x=values)["y"], 2 * values[:, [2, 3, 0, 1]])


def test_streamed_buffers_of_a_wrong_size_are_noticed(tmp_path):
    file = ModelFile("test")
    file.stream("short", 64, lambda: iter([np.zeros(10, np.uint8)]))
    with pytest.raises(AssertionError, match="short"):
        file.write(tmp_path / "m.tflite")
