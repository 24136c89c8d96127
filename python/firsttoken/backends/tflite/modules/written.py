"""What one weighted operator of a written .tflite holds: in which precision, with which weights, scales and bias, and which operators belong to it."""

import hashlib
from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from firsttoken.backends.tflite.modules.graph_file import DTYPES, GraphFile, Operator, ints
from firsttoken.backends.tflite.modules.matching import BIASED, PRODUCTS, TABLES, weight_positions
from firsttoken.bundle.integer_facts import IntegerScale
from firsttoken.errors import FirstTokenError
from firsttoken.precisions import with_group

Type = schema.TensorType
FLOATS = {Type.FLOAT32: "fp32", Type.FLOAT16: "fp16"}
INTEGERS = {Type.INT8: "int8", Type.INT4: "int4"}


@dataclass(frozen=True)
class Written:
    """``values`` are the weights as floats in the file's layout, ``steps`` their scales, broadcast to them, None for floats. ``stored`` names the numbers ("fp32", "fp16",
    "int8", "int4/32"), ``computed`` what they are multiplied as; ``operators`` are the operator and those that multiply its weights out."""

    operator: Operator
    stored: str
    computed: str
    dequantized: bool
    values: np.ndarray
    steps: np.ndarray | None
    bias: np.ndarray | None
    bias_steps: np.ndarray | None
    operators: tuple[int, ...]
    scales: tuple[IntegerScale, ...]

    @property
    def half(self) -> bool:
        return self.stored == "fp16"

    def precision(self, asked: str) -> str:
        """The precision by the plan's names. A table of integers is looked up in alike, whether int8 or int8-weight was asked."""
        if self.scales:
            return "int8-static"
        if self.stored == "int8" and self.operator.kind in TABLES:
            return asked if asked in ("int8", "int8-weight") else "int8"
        if self.stored.startswith("int4"):
            return "int4" if not self.dequantized else "int4-weight"
        return "int8-weight" if self.stored == "int8" and self.dequantized else self.stored

    def digest(self) -> dict[str, str]:
        """SHA-256 of the weights, the scales and the bias, 16 digits each."""
        parts = {"weights": self.values, "scales": self.steps, "bias": self.bias}
        return {
            name: hashlib.sha256(np.ascontiguousarray(part).data).hexdigest()[:16] if part is not None else ""
            for name, part in parts.items()
        }


class WrittenOperators:
    """The weighted operators of a file by subgraph and by the name of their output; read once, so the file is not to change meanwhile."""

    def __init__(self, file: GraphFile) -> None:
        self.file = file
        self._found: dict[tuple[int, str], Operator] = {}
        self._makers: dict[tuple[int, int], Operator] = {}
        for graph in range(len(file.model.subgraphs)):
            for operator in file.operators(graph):
                if operator.kind in (*TABLES, *PRODUCTS):
                    self._found[graph, file.name(graph, operator.outputs[0])] = operator
                elif operator.kind == "DEQUANTIZE":
                    self._makers[graph, operator.outputs[0]] = operator

    def read(self, graph: int, name: str) -> Written:
        """What the operator with this output holds. Raises `FirstTokenError` where the file has none, or one that cannot be read."""
        operator = self._found.get((graph, name))
        if operator is None:
            raise FirstTokenError(f"the file has no operator {name!r} with a weight; it is not what the plan says")
        for position in weight_positions(operator):
            tensor, before = operator.inputs[position], []
            maker = self._makers.get((graph, tensor))
            if maker is not None and self.file.raw(graph, maker.inputs[0]) is not None:
                tensor, before = maker.inputs[0], [maker.index]
            if self.file.raw(graph, tensor) is not None:
                return self._written(operator, tensor, before)
        raise FirstTokenError(f"operator {name!r} has no constant weight; the file is not what the plan says")

    def _written(self, operator: Operator, tensor: int, before: list[int]) -> Written:
        values, steps, stored = floats_of(self.file, operator, tensor)
        floats = bool(before) or operator.kind in TABLES or stored in FLOATS.values()
        bias, bias_steps = bias_of(self.file, operator)
        ends = activation_scales(self.file, operator)
        computed = "fp32" if floats else stored.partition("/")[0]
        return Written(operator, stored, computed, bool(before), values, steps, bias, bias_steps, (operator.index, *before), ends)


def floats_of(file: GraphFile, operator: Operator, tensor: int) -> tuple[np.ndarray, np.ndarray | None, str]:
    """A constant's values as floats, what one step of its integers is, and how it is stored."""
    held, shape = file.tensor(operator.graph, tensor), file.shape(operator.graph, tensor)
    if held.type in FLOATS:
        value = file.constant(operator.graph, tensor)
        assert value is not None
        return value.astype(np.float64), None, FLOATS[held.type]
    if held.type not in INTEGERS:
        raise FirstTokenError(
            f"a weight of {operator.kind} is of a type that no plan gives (number {held.type}); the file is not what the plan says"
        )
    raw = file.raw(operator.graph, tensor)
    assert raw is not None
    integers = raw.view(np.int8) if held.type == Type.INT8 else nibbles(raw)[: int(np.prod(shape))]
    steps = steps_of(file, operator.graph, held, shape)
    stored = INTEGERS[held.type]
    if stored == "int4":
        columns = shape[-1]
        grouped = held.quantization.details is not None
        stored = with_group("int4", held.quantization.details.blockSize if grouped else columns, columns)
    return integers.reshape(shape).astype(np.float64) * steps, steps, stored


def nibbles(raw: np.ndarray) -> np.ndarray:
    """int4 values, two a byte, the lower half first."""
    pairs = np.stack([raw & 15, raw >> 4], 1).reshape(-1).astype(np.int8)
    return np.where(pairs > 7, pairs - 16, pairs).astype(np.int8)


def steps_of(file: GraphFile, graph: int, held: schema.TensorT, shape: tuple[int, ...]) -> np.ndarray:
    """What one step of each of a tensor's integers is, of its shape. Raises `FirstTokenError` for integers with a zero point, or without scales."""
    found = held.quantization
    if found is None:
        raise FirstTokenError("a weight of integers has no scales; the file is not what the plan says")
    if found.details is not None:
        scales = file.constant(graph, found.details.scales)
        if scales is None:
            raise FirstTokenError("a weight's scales of groups cannot be read; the file is not what the plan says")
        return np.repeat(scales.astype(np.float64).reshape(*shape[:-1], -1), found.details.blockSize, -1)
    scales = np.asarray(found.scale if found.scale is not None else [], np.float64)
    if len(scales) not in (1, shape[found.quantizedDimension]) or any(ints(found.zeroPoint)):
        raise FirstTokenError(
            f"a weight {list(shape)} of integers has {len(scales)} scales, or a zero point; the file is not what the plan says"
        )
    if len(scales) == 1:
        return np.full(shape, scales[0])
    sizes = [1] * len(shape)
    sizes[found.quantizedDimension] = len(scales)
    return np.broadcast_to(scales.reshape(sizes), shape)


def bias_of(file: GraphFile, operator: Operator) -> tuple[np.ndarray | None, np.ndarray | None]:
    """An operator's bias as floats, and what a step of it is where it is integers."""
    position = BIASED.get(operator.kind)
    if position is None or position >= len(operator.inputs) or operator.inputs[position] < 0:
        return None, None
    tensor = operator.inputs[position]
    value = file.constant(operator.graph, tensor)
    if value is None:
        return None, None
    if DTYPES[file.tensor(operator.graph, tensor).type] in (np.dtype(np.float32), np.dtype(np.float16)):
        return value.astype(np.float64), None
    steps = steps_of(file, operator.graph, file.tensor(operator.graph, tensor), value.shape)
    return value.astype(np.float64) * steps, steps


def activation_scales(file: GraphFile, operator: Operator) -> tuple[IntegerScale, ...]:
    """The scales of an operator's input and result, where both are integers."""
    if operator.kind in TABLES:
        return ()
    ends = [file.tensor(operator.graph, index) for index in (activation_input(file, operator), operator.outputs[0])]
    if any(end.type != Type.INT8 for end in ends):
        return ()
    found = []
    for end in ends:
        if end.quantization is None or len(ints(end.quantization.zeroPoint)) != 1:
            raise FirstTokenError(f"an activation of {operator.kind} has no scale; the file is not what the plan says")
        found.append(IntegerScale(scale=float(end.quantization.scale[0]), zero_point=ints(end.quantization.zeroPoint)[0]))
    return tuple(found)


def activation_input(file: GraphFile, operator: Operator) -> int:
    """Which tensor an operator multiplies its weight with."""
    if operator.kind == "TRANSPOSE_CONV":
        return operator.inputs[2]
    if operator.kind == "BATCH_MATMUL" and file.raw(operator.graph, operator.inputs[0]) is not None:
        return operator.inputs[1]
    return operator.inputs[0]
