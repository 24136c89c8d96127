"""One subgraph under construction: tensors and the operators our decoder needs, with shapes worked out as they are added.

A dimension that the host chooses at run time is written as a `Dynamic`: a name and a stand-in number. The file stores
the stand-in in ``shape`` and -1 in ``shape_signature``.
"""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import ArrayLike, DTypeLike

from firsttoken.backends.tflite.model_file import ModelFile

Op, Kind, Type = schema.BuiltinOperator, schema.BuiltinOptions, schema.TensorType
NUMPY_TYPES = {Type.FLOAT32: np.float32, Type.FLOAT16: np.float16, Type.INT32: np.int32, Type.INT16: np.int16, Type.INT8: np.int8}
TENSOR_TYPES = {np.dtype(t): code for code, t in NUMPY_TYPES.items()}


class Dynamic(int):
    """A run-time dimension: behaves as its stand-in number, and remembers its name."""

    name: str

    def __new__(cls, name: str, stand_in: int) -> Self:
        dimension = super().__new__(cls, stand_in)
        dimension.name = name
        return dimension


class Graph:
    """Builds one subgraph of ``file``. Methods add an operator and return the index of its output tensor."""

    def __init__(self, file: ModelFile, name: str) -> None:
        self.file, self.name, self.scope = file, name, ""
        self.subgraph = schema.SubGraphT()
        self.subgraph.name = name.encode()
        self.subgraph.tensors, self.subgraph.operators = [], []
        self.shapes: list[tuple[int, ...]] = []
        self.inputs: list[tuple[str, int]] = []
        self.outputs: list[tuple[str, int]] = []
        self.split_inputs: dict[int, tuple[int, int]] = {}
        """Inputs that have been split for their outliers (`outliers.split`): q, k and v take one."""
        self.quantized_inputs: dict[tuple[int, object], int] = {}
        """Inputs that have been rounded to calibrated integers (`static.quantize`), by those."""
        self._constants: dict[tuple[str, tuple[int, ...], bytes], int] = {}

    # tensors

    def tensor(self, shape: Sequence[int], dtype: int, name: str, buffer: int = 0) -> int:
        tensor = schema.TensorT()
        tensor.shape = np.array(shape, np.int32)
        tensor.type, tensor.name, tensor.buffer, tensor.hasRank = dtype, name.encode(), buffer, True
        if any(isinstance(n, Dynamic) for n in shape):
            tensor.shapeSignature = np.array([-1 if isinstance(n, Dynamic) else n for n in shape], np.int32)
        self.subgraph.tensors.append(tensor)
        self.shapes.append(tuple(shape))
        return len(self.shapes) - 1

    def dtype(self, tensor: int) -> int:
        return self.subgraph.tensors[tensor].type

    def input(self, name: str, shape: Sequence[int], dtype: int) -> int:
        index = self.tensor(shape, dtype, f"{self.name}.{name}")
        self.inputs.append((name, index))
        return index

    def output(self, name: str, tensor: int) -> None:
        self.outputs.append((name, tensor))

    def constant(self, values: ArrayLike, dtype: DTypeLike = np.float32) -> int:
        array = np.ascontiguousarray(np.asarray(values, dtype))
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            name = f"constant.{len(self._constants)}"
            self._constants[key] = self.tensor(array.shape, TENSOR_TYPES[array.dtype], name, self.file.constant(array))
        return self._constants[key]

    # operators

    def operator(
        self,
        builtin: int,
        inputs: Sequence[int],
        shape: Sequence[int],
        dtype: int,
        version: int = 1,
        options: Any = None,
        name: str | None = None,
    ) -> int:
        return self.operator_many(builtin, inputs, [shape], dtype, version, options, name)[0]

    def operator_many(
        self,
        builtin: int,
        inputs: Sequence[int],
        shapes: Sequence[Sequence[int]],
        dtype: int,
        version: int = 1,
        options: Any = None,
        name: str | None = None,
    ) -> list[int]:
        base = name or f"{self.scope}/{len(self.subgraph.operators)}"
        outputs = [self.tensor(shape, dtype, base if n == 0 else f"{base}.{n}") for n, shape in enumerate(shapes)]
        operator = schema.OperatorT()
        operator.opcodeIndex = self.file.operator_code(builtin, version)
        operator.inputs, operator.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
        if options is not None:
            operator.builtinOptionsType = getattr(Kind, type(options).__name__.removesuffix("T"))
            operator.builtinOptions = options
        self.subgraph.operators.append(operator)
        return outputs

    def _binary(self, builtin: int, options: Any, a: int, b: int) -> int:
        return self.operator(builtin, [a, b], broadcast(self.shapes[a], self.shapes[b]), self.dtype(a), 1, options)

    def add(self, a: int, b: int) -> int:
        return self._binary(Op.ADD, schema.AddOptionsT(), a, b)

    def subtract(self, a: int, b: int) -> int:
        return self._binary(Op.SUB, schema.SubOptionsT(), a, b)

    def multiply(self, a: int, b: int) -> int:
        return self._binary(Op.MUL, schema.MulOptionsT(), a, b)

    def divide(self, a: int, b: int) -> int:
        return self._binary(Op.DIV, schema.DivOptionsT(), a, b)

    def minimum(self, a: int, b: int) -> int:
        return self._binary(Op.MINIMUM, schema.MaximumMinimumOptionsT(), a, b)

    def maximum(self, a: int, b: int) -> int:
        return self._binary(Op.MAXIMUM, schema.MaximumMinimumOptionsT(), a, b)

    def unary(self, builtin: int, x: int) -> int:
        return self.operator(builtin, [x], self.shapes[x], self.dtype(x))

    def reshape(self, x: int, shape: Sequence[int]) -> int:
        """Reshapes; at most one dimension may be `Dynamic` and becomes -1."""
        written = [-1 if isinstance(n, Dynamic) else n for n in shape]
        options = schema.ReshapeOptionsT()
        options.newShape = np.array(written, np.int32)
        return self.operator(Op.RESHAPE, [x, self.constant(written, np.int32)], shape, self.dtype(x), 1, options)

    def transpose(self, x: int, order: Sequence[int]) -> int:
        shape = [self.shapes[x][n] for n in order]
        return self.operator(Op.TRANSPOSE, [x, self.constant(order, np.int32)], shape, self.dtype(x), 1, schema.TransposeOptionsT())

    def concatenate(self, tensors: Sequence[int], axis: int) -> int:
        options = schema.ConcatenationOptionsT()
        options.axis = axis
        shape = list(self.shapes[tensors[0]])
        dimensions = [self.shapes[t][axis] for t in tensors]
        dynamic = [n for n in dimensions if isinstance(n, Dynamic)]
        shape[axis] = Dynamic("+".join(n.name for n in dynamic), sum(dimensions)) if dynamic else sum(dimensions)
        return self.operator(Op.CONCATENATION, tensors, shape, self.dtype(tensors[0]), 1, options)

    def split_halves(self, x: int) -> list[int]:
        """Splits the last axis in two equal halves."""
        return self.split(x, 2)

    def split(self, x: int, count: int) -> list[int]:
        """Splits the last axis in ``count`` equal parts."""
        options = schema.SplitOptionsT()
        options.numSplits = count
        shape = [*self.shapes[x][:-1], self.shapes[x][-1] // count]
        axis = self.constant(len(shape) - 1, np.int32)
        return self.operator_many(Op.SPLIT, [axis, x], [shape] * count, self.dtype(x), 1, options)

    def slice(self, x: int, begin: Sequence[int], shape: Sequence[int]) -> int:
        """Cuts ``shape`` out of ``x`` from ``begin``; a `Dynamic` size means all that is left of that axis."""
        sizes = [-1 if isinstance(n, Dynamic) else n for n in shape]
        inputs = [x, self.constant(begin, np.int32), self.constant(sizes, np.int32)]
        return self.operator(Op.SLICE, inputs, shape, self.dtype(x), 1, schema.SliceOptionsT())

    def cast(self, x: int, dtype: int) -> int:
        if self.dtype(x) == dtype:
            return x
        options = schema.CastOptionsT()
        options.inDataType, options.outDataType = self.dtype(x), dtype
        return self.operator(Op.CAST, [x], self.shapes[x], dtype, 1, options)

    def mean_last(self, x: int) -> int:
        return self._reduce_last(Op.MEAN, x)

    def largest_last(self, x: int) -> int:
        return self._reduce_last(Op.REDUCE_MAX, x)

    def _reduce_last(self, builtin: int, x: int) -> int:
        options = schema.ReducerOptionsT()
        options.keepDims = True
        shape = self.shapes[x]
        return self.operator(builtin, [x, self.constant([len(shape) - 1], np.int32)], [*shape[:-1], 1], self.dtype(x), 1, options)

    def softmax(self, x: int) -> int:
        options = schema.SoftmaxOptionsT()
        options.beta = 1.0
        return self.operator(Op.SOFTMAX, [x], self.shapes[x], self.dtype(x), 1, options)

    def cumulative_sum(self, x: int) -> int:
        """Sums along the last axis, each value without its own: of ones 0, 1, 2, …"""
        options = schema.CumsumOptionsT()
        options.exclusive = True
        axis = self.constant(len(self.shapes[x]) - 1, np.int32)
        return self.operator(Op.CUMSUM, [x, axis], self.shapes[x], self.dtype(x), 1, options)

    def gather_rows(self, table: int, rows: int, version: int = 1) -> int:
        """Picks rows of ``table`` ``[n, ...]`` by int32 ``[m]``."""
        shape = [*self.shapes[rows], *self.shapes[table][1:]]
        return self.operator(Op.GATHER, [table, rows], shape, self.dtype(table), version, schema.GatherOptionsT())

    def matmul(self, a: int, b: int, transpose_b: bool = False) -> int:
        """Batched ``a @ b`` (or ``a @ b^T``), batch dimensions broadcast."""
        options = schema.BatchMatMulOptionsT()
        options.adjY = transpose_b
        left, right = self.shapes[a], self.shapes[b]
        shape = [*broadcast(left[:-2], right[:-2]), left[-2], right[-2] if transpose_b else right[-1]]
        return self.operator(Op.BATCH_MATMUL, [a, b], shape, self.dtype(a), 1, options)

    def depthwise(self, x: int, kernel: int, bias: int) -> int:
        """Each channel of ``x [n, channels]`` convolved by itself along n with ``kernel [1, length, 1, channels]``: ``[n - length + 1, channels]``."""
        rows, channels = self.shapes[x]
        left = rows - self.shapes[kernel][1] + 1
        left = Dynamic(rows.name, left) if isinstance(rows, Dynamic) else left
        options = schema.DepthwiseConv2DOptionsT()
        options.padding, options.strideH, options.strideW, options.depthMultiplier = schema.Padding.VALID, 1, 1, 1
        image = self.reshape(x, [1, rows, 1, channels])
        mixed = self.operator(Op.DEPTHWISE_CONV_2D, [image, kernel, bias], [1, left, 1, channels], self.dtype(x), 1, options)
        return self.reshape(mixed, [left, channels])

    def dequantize(self, x: int, name: str) -> int:
        return self.operator(Op.DEQUANTIZE, [x], self.shapes[x], Type.FLOAT32, 2, schema.DequantizeOptionsT(), name)

    def fully_connected(self, x: int, weight: int, bias: int, version: int = 5) -> int:
        """``x @ weight^T + bias`` for ``weight`` ``[rows, columns]``; ``bias`` -1 for none."""
        options = schema.FullyConnectedOptionsT()
        options.keepNumDims = True
        # With False, TFLite 2.16 on ARM drops the per-row scales of dynamic int8 silently; newer runtimes ignore it.
        options.asymmetricQuantizeInputs = True
        shape = [*self.shapes[x][:-1], self.shapes[weight][0]]
        return self.operator(Op.FULLY_CONNECTED, [x, weight, bias], shape, self.dtype(x), version, options)

    def finish(self) -> None:
        """Adds the subgraph and its signature to the file."""
        self.subgraph.inputs = np.array([index for _, index in self.inputs], np.int32)
        self.subgraph.outputs = np.array([index for _, index in self.outputs], np.int32)
        signature = schema.SignatureDefT()
        signature.signatureKey = self.name.encode()
        signature.inputs, signature.outputs = ([self._named(*pair) for pair in pairs] for pairs in (self.inputs, self.outputs))
        self.file.add_subgraph(self.subgraph, signature)

    @staticmethod
    def _named(name: str, index: int) -> schema.TensorMapT:
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name.encode(), index
        return entry


def broadcast(a: Sequence[int], b: Sequence[int]) -> list[int]:
    """Broadcasts two shapes as numpy does, keeping `Dynamic` dimensions."""
    shape = []
    for n in range(max(len(a), len(b))):
        left = a[len(a) - 1 - n] if n < len(a) else 1
        right = b[len(b) - 1 - n] if n < len(b) else 1
        if left != right and 1 not in (left, right):
            raise AssertionError(f"shapes {list(a)} and {list(b)} do not broadcast")
        shape.append(right if left == 1 and not isinstance(left, Dynamic) else left)
    return shape[::-1]
