"""An ONNX graph as it is put together: nodes with the names of the layers they belong to, and constants, of which the large ones lie in a file beside it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto

MICROSOFT = "com.microsoft"  # the domain of onnxruntime's own operators
OPSET, IR_VERSION = 23, 10
DTYPES = {"float32": 1, "uint8": 2, "int32": 6, "int64": 7, "float16": 10}  # TensorProto.DataType


@dataclass(frozen=True)
class Stored:
    """A constant in the file of weights: bytes ``offset`` to ``offset + length``."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    length: int


class Graph:
    """Nodes in the order of computation. Values are known by their names; ``scope`` begins the names of nodes."""

    def __init__(self, data_file: str) -> None:
        self.data_file = data_file
        self.nodes: list[NodeProto] = []
        self.initializers: list[TensorProto] = []
        self.inputs: list[ValueInfoProto] = []
        self.outputs: list[ValueInfoProto] = []
        self.scope = ""
        self._constants: dict[tuple[str, str, tuple[int, ...], bytes], str] = {}
        self._count = 0

    def node(self, kind: str, inputs: Sequence[str], name: str | None = None, domain: str = "", outputs: int = 1, **attributes: Any) -> str:
        """Adds a node and returns the name of its first result; the others' names are `more` of it."""
        return self.node_of(kind, inputs, self._outputs(kind, outputs), name, domain, **attributes)

    def node_of(
        self, kind: str, inputs: Sequence[str], outputs: Sequence[str], name: str | None = None, domain: str = "", **attributes: Any
    ) -> str:
        """The same with results of these names."""
        from onnx import helper

        self.nodes.append(helper.make_node(kind, list(inputs), list(outputs), name=name or outputs[0], domain=domain, **attributes))
        return outputs[0]

    def _outputs(self, kind: str, count: int) -> list[str]:
        self._count += 1
        first = f"{self.scope}/{kind}.{self._count}"
        return [first, *(more(first, n) for n in range(1, count))]

    def constant(self, values: object, dtype: str = "float32", name: str | None = None) -> str:
        """The name of a small constant, stored in the graph once; ``name`` where it is a weight."""
        array = np.ascontiguousarray(np.asarray(values, dtype))
        key = name or "", dtype, array.shape, array.tobytes()
        if key in self._constants:
            return self._constants[key]
        known = self._constants[key] = name or f"constant.{len(self._constants)}"
        self.initializers.append(tensor(known, dtype, array.shape, raw=array.tobytes()))
        return known

    def stored(self, constant: Stored) -> str:
        """The name of a constant in the file of weights."""
        self.initializers.append(tensor(constant.name, constant.dtype, constant.shape, place=constant, file=self.data_file))
        return constant.name

    def input(self, name: str, dtype: str, shape: Sequence[int | str]) -> str:
        from onnx import helper

        self.inputs.append(helper.make_tensor_value_info(name, DTYPES[dtype], list(shape)))
        return name

    def output(self, name: str, dtype: str, shape: Sequence[int | str]) -> None:
        from onnx import helper

        self.outputs.append(helper.make_tensor_value_info(name, DTYPES[dtype], list(shape)))

    def finish(self, name: str) -> "GraphProto":
        from onnx import helper

        return helper.make_graph(self.nodes, name, self.inputs, self.outputs, self.initializers)


def more(first: str, number: int) -> str:
    """The name of a node's result ``number`` beside its first."""
    return f"{first}.{number}"


def tensor(
    name: str, dtype: str, shape: Sequence[int], raw: bytes | None = None, place: Stored | None = None, file: str = ""
) -> "TensorProto":
    from onnx import TensorProto

    made = TensorProto(name=name, data_type=DTYPES[dtype], dims=list(shape))
    if place is None:
        made.raw_data = raw or b""
        return made
    made.data_location = TensorProto.EXTERNAL
    for key, value in (("location", file), ("offset", place.offset), ("length", place.length)):
        made.external_data.add(key=key, value=str(value))
    return made


def attributes_of(node: "NodeProto") -> Iterator[tuple[str, Any]]:
    """Names and values of a node's attributes."""
    from onnx import helper

    for attribute in node.attribute:
        yield attribute.name, helper.get_attribute_value(attribute)
