"""Single operators for the GPU: what tests write into a .tflite of its own, and numpy's word for what should come out."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from firsttoken.backends.tflite.graph import Graph, Op, Type
from firsttoken.backends.tflite.model_file import ModelFile

F32, I32 = Type.FLOAT32, Type.INT32


@dataclass
class Case:
    """A file of one operator (or a form that takes its place), inputs by name, and the result that is right."""

    path: Path
    inputs: dict[str, np.ndarray]
    right: np.ndarray


class Bench:
    """One graph ``main`` with output ``y``; the methods of `Graph` are its ``graph``'s."""

    def __init__(self, folder: Path, graph: type[Graph] = Graph) -> None:
        self.path, self.file = folder / "one.tflite", ModelFile("one operator")
        self.graph = graph(self.file, "main")
        self.graph.scope = "one"
        self.random = np.random.default_rng(5)
        self.inputs: dict[str, np.ndarray] = {}

    def floats(self, name: str, *shape: int) -> int:
        self.inputs[name] = self.random.standard_normal(shape, np.float32)
        return self.graph.input(name, shape, F32)

    def numbers(self, name: str, values) -> int:
        self.inputs[name] = np.array(values, np.int32)
        return self.graph.input(name, self.inputs[name].shape, I32)

    def integers(self, rows: int, columns: int, kind: int = Type.INT8, scales: np.ndarray | None = None, group: int | None = None):
        """A constant of random integers with a scale for each row (or group); its tensor, and the floats that it stands for."""
        most = 127 if kind == Type.INT8 else 7
        values = self.random.integers(-most, most + 1, (rows, columns)).astype(np.int8)
        buffer = schema.BufferT()
        flat = values.reshape(-1)
        nibbles = (flat & 15).astype(np.uint8)
        buffer.data = flat.view(np.uint8) if kind == Type.INT8 else nibbles[0::2] | (nibbles[1::2] << 4)
        self.file.model.buffers.append(buffer)
        tensor = self.graph.tensor((rows, columns), kind, "weight", len(self.file.model.buffers) - 1)
        parameters = schema.QuantizationParametersT()
        parameters.quantizedDimension = 0
        if group is None:
            scales = self.random.uniform(0.002, 0.01, rows).astype(np.float32)
            parameters.scale, parameters.zeroPoint = scales, np.zeros(rows, np.int64)
            stands_for = values * scales[:, None]
        else:
            each = self.random.uniform(0.002, 0.01, (rows, columns // group)).astype(np.float16)
            details = schema.BlockwiseQuantizationT()
            details.scales, details.zeroPoints, details.blockSize = self.graph.constant(each, np.float16), -1, group
            parameters.detailsType, parameters.details = schema.QuantizationDetails.BlockwiseQuantization, details
            stands_for = values * np.repeat(each.astype(np.float32), group, 1)
        self.graph.subgraph.tensors[tensor].quantization = parameters
        return tensor, stands_for

    def done(self, output: int, right: np.ndarray) -> Case:
        self.graph.output("y", output)
        self.graph.finish()
        self.file.write(self.path)
        return Case(self.path, self.inputs, np.asarray(right, np.float32))


# --- what the accelerator gets wrong, dies of or refuses


def split(bench: Bench) -> Case:
    x = bench.floats("x", 8, 2, 32)
    first, second = Graph.split(bench.graph, x, 2)
    given = bench.inputs["x"]
    return bench.done(bench.graph.concatenate([second, first], 2), np.concatenate([given[..., 16:], given[..., :16]], 2))


def split_and_add(bench: Bench) -> Case:
    x = bench.floats("x", 8, 2, 32)
    first, second = Graph.split(bench.graph, x, 2)
    given = bench.inputs["x"]
    return bench.done(bench.graph.subtract(first, second), given[..., :16] - given[..., 16:])


def broadcast_product(bench: Bench) -> Case:
    a, b = bench.floats("a", 2, 3, 8, 32), bench.floats("b", 2, 1, 16, 32)
    return bench.done(bench.graph.matmul(a, b, transpose_b=True), bench.inputs["a"] @ bench.inputs["b"].swapaxes(2, 3))


def gather_integers(bench: Bench) -> Case:
    tokens = bench.numbers("tokens", [3, 0, 63, 7])
    table, _ = bench.integers(64, 32)
    stored = bench.graph.tensor((64, 32), Type.INT8, "raw", bench.graph.subgraph.tensors[table].buffer)
    rows = bench.file.model.buffers[bench.graph.subgraph.tensors[table].buffer].data.view(np.int8).reshape(64, 32)
    return bench.done(bench.graph.cast(bench.graph.gather_rows(stored, tokens, 2), F32), rows[bench.inputs["tokens"]])


def groups_of_int4(bench: Bench) -> Case:
    x = bench.floats("x", 8, 64)
    weight, floats = bench.integers(24, 64, Type.INT4, group=32)
    return bench.done(bench.graph.fully_connected(x, weight, -1), bench.inputs["x"] @ floats.T)


def half_product(bench: Bench) -> Case:
    for name, shape in (("a", (2, 1, 8, 64)), ("b", (2, 1, 16, 64))):
        bench.inputs[name] = bench.random.standard_normal(shape).astype(np.float16)
    a, b = (bench.graph.input(name, array.shape, Type.FLOAT16) for name, array in bench.inputs.items())
    first, second = (array.astype(np.float32) for array in bench.inputs.values())
    return bench.done(bench.graph.cast(bench.graph.matmul(a, b, transpose_b=True), F32), first @ second.swapaxes(2, 3))


def half_table(bench: Bench) -> Case:
    tokens = bench.numbers("tokens", [3, 0, 63, 7])
    table = bench.random.standard_normal((64, 32)).astype(np.float16)
    floats = bench.graph.dequantize(bench.graph.constant(table, np.float16), "table")
    return bench.done(bench.graph.gather_rows(floats, tokens), table[bench.inputs["tokens"]])


FREQUENCIES = (1e4 ** (-np.arange(16) / 16)).astype(np.float32)
FAR = [1, 2, 100, 1023, 1024, 1100, 2000, 4000]


def sines(bench: Bench) -> Case:
    positions = bench.graph.reshape(bench.graph.cast(bench.numbers("at", FAR), F32), [8, 1])
    angles = bench.graph.multiply(positions, bench.graph.constant(FREQUENCIES.reshape(1, -1)))
    right = np.sin((np.float32(FAR)[:, None] * FREQUENCIES).astype(np.float64))
    return bench.done(bench.graph.unary(Op.SIN, angles), right)


# --- what graphs for the GPU have instead


def slices(bench: Bench) -> Case:
    x = bench.floats("x", 8, 2, 32)
    given = bench.inputs["x"]
    parts = [bench.graph.slice(x, [0, 0, start], [8, 2, 16]) for start in (16, 0)]
    return bench.done(bench.graph.concatenate(parts, 2), np.concatenate([given[..., 16:], given[..., :16]], 2))


def folded_product(bench: Bench) -> Case:
    a, b = bench.floats("a", 2, 3, 8, 32), bench.floats("b", 2, 1, 16, 32)
    folded = bench.graph.matmul(bench.graph.reshape(a, [2, 1, 24, 32]), b, transpose_b=True)
    right = bench.inputs["a"] @ bench.inputs["b"].swapaxes(2, 3)
    return bench.done(bench.graph.reshape(folded, [2, 3, 8, 16]), right)


def looked_up_integers(bench: Bench) -> Case:
    tokens = bench.numbers("tokens", [3, 0, 63, 7])
    table, floats = bench.integers(64, 32)
    return bench.done(bench.graph.operator(Op.EMBEDDING_LOOKUP, [tokens, table], [4, 32], F32, 3), floats[bench.inputs["tokens"]])


def rows_of_int4(bench: Bench) -> Case:
    x = bench.floats("x", 8, 64)
    weight, floats = bench.integers(24, 64, Type.INT4)
    return bench.done(bench.graph.fully_connected(x, weight, -1), bench.inputs["x"] @ floats.T)


def rows_of_int8(bench: Bench) -> Case:
    x = bench.floats("x", 8, 64)
    weight, floats = bench.integers(24, 64)
    bias = bench.random.standard_normal(24, np.float32)
    return bench.done(bench.graph.fully_connected(x, weight, bench.graph.constant(bias)), bench.inputs["x"] @ floats.T + bias)


def half_weight(bench: Bench) -> Case:
    x = bench.floats("x", 8, 32)
    weight = bench.random.standard_normal((24, 32)).astype(np.float16)
    floats = bench.graph.dequantize(bench.graph.constant(weight, np.float16), "weight")
    return bench.done(bench.graph.fully_connected(x, floats, -1), bench.inputs["x"] @ weight.astype(np.float32).T)


def rows_of_a_table(bench: Bench) -> Case:
    """cos and sin as the graphs have them, up to the positions at which the operators are off."""
    table = np.sin((np.arange(4001, dtype=np.float32)[:, None] * FREQUENCIES).astype(np.float64)).astype(np.float32)
    return bench.done(bench.graph.gather_rows(bench.graph.constant(table), bench.numbers("at", FAR)), table[FAR])


def written_rows(bench: Bench) -> Case:
    cache, rows, at = bench.floats("cache", 2, 1, 40, 16), bench.floats("rows", 2, 1, 8, 16), bench.numbers("at", [5])
    zero = bench.graph.constant(np.zeros(1), np.int32)
    start = bench.graph.concatenate([zero, zero, at, zero], 0)
    right = bench.inputs["cache"].copy()
    right[:, :, 5:13] = bench.inputs["rows"]
    return bench.done(bench.graph.operator(Op.DYNAMIC_UPDATE_SLICE, [cache, rows, start], (2, 1, 40, 16), F32), right)


def unit_size(bench: Bench) -> Case:
    x = bench.floats("x", 8, 64)
    squares = bench.graph.mean_last(bench.graph.multiply(x, x))
    root = bench.graph.unary(Op.RSQRT, bench.graph.add(squares, bench.graph.constant(np.full((1, 1), 1e-6))))
    given = bench.inputs["x"]
    return bench.done(bench.graph.multiply(x, root), given / np.sqrt((given**2).mean(1, keepdims=True) + 1e-6))


def masked_shares(bench: Bench) -> Case:
    scores, mask = bench.floats("scores", 2, 3, 8, 16), bench.floats("mask", 1, 1, 8, 16)
    bench.inputs["mask"] = np.where(bench.inputs["mask"] > 1, np.float32(-2.4e38), np.float32(0))
    floor = bench.graph.constant(np.full((1, 1, 1, 1), -30000.0))
    shares = bench.graph.softmax(bench.graph.add(scores, bench.graph.maximum(mask, floor)))
    powers = np.exp(bench.inputs["scores"]) * (bench.inputs["mask"] == 0)
    return bench.done(shares, powers / powers.sum(-1, keepdims=True))


def window_of_rows(bench: Bench) -> Case:
    """How far each token is from each row, as masks of sliding windows need it."""
    places, whole = bench.numbers("places", [3, 4, 5, 6, 7, 8, 9, 10]), bench.floats("whole", 1, 1, 8, 16)
    own = bench.graph.reshape(bench.graph.cast(places, F32), [1, 1, 8, 1])
    distance = bench.graph.subtract(own, bench.graph.constant(np.arange(16, dtype=np.float32).reshape(1, 1, 1, -1)))
    right = np.minimum(bench.inputs["whole"], bench.inputs["places"].reshape(1, 1, 8, 1) - np.arange(16))
    return bench.done(bench.graph.minimum(whole, distance), right)


def turned_heads(bench: Bench) -> Case:
    x = bench.floats("x", 8, 192)
    turned = bench.graph.transpose(bench.graph.reshape(x, [8, 2, 3, 32]), [1, 2, 0, 3])
    return bench.done(turned, bench.inputs["x"].reshape(8, 2, 3, 32).transpose(1, 2, 0, 3))


def activations(bench: Bench) -> Case:
    """Every curve that an MLP, a gate or a cap bends by."""
    x = bench.floats("x", 8, 32)
    curves = [bench.graph.unary(op, x) for op in (Op.LOGISTIC, Op.TANH, Op.RELU)]
    given = bench.inputs["x"].astype(np.float64)
    right = np.concatenate([1 / (1 + np.exp(-given)), np.tanh(given), np.maximum(given, 0)], 1)
    return bench.done(bench.graph.concatenate(curves, 1), right)


def mean_taken_off(bench: Bench) -> Case:
    x = bench.floats("x", 8, 32)
    given = bench.inputs["x"]
    halved = bench.graph.divide(bench.graph.subtract(x, bench.graph.mean_last(x)), bench.graph.constant(np.full((1, 1), 2.0)))
    return bench.done(halved, (given - given.mean(1, keepdims=True)) / 2)


WRONG = (split, split_and_add, broadcast_product, gather_integers, groups_of_int4, half_product, half_table, sines)
RIGHT = (
    slices, folded_product, looked_up_integers, rows_of_int4, rows_of_int8, half_weight, rows_of_a_table, written_rows, unit_size, masked_shares,
    window_of_rows, turned_heads, activations, mean_taken_off,
)  # fmt: skip
