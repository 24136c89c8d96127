"""Reading an .onnx file without its weights, and single weights from the file beside it; nothing is run."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from firsttoken.backends.onnx.graph import DTYPES, attributes_of
from firsttoken.errors import FirstTokenError
from firsttoken.plain_file import read_bytes, why

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

GRAPH_BYTES = 256 << 20  # of a file without weights: norms, biases and nodes
NUMPY = {number: np.dtype(name) for name, number in DTYPES.items()}


def read_model(path: Path) -> "ModelProto":
    """The model of a file, its weights left where they are. Raises `FirstTokenError` for one that is none."""
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from onnx import ModelProto

    try:
        model = ModelProto.FromString(read_bytes(path, GRAPH_BYTES))
    except OSError as error:
        raise FirstTokenError(f"{path}: cannot be read ({why(error)}); export the checkpoint again") from None
    except (DecodeError, ValueError) as error:
        raise FirstTokenError(f"{path}: not an .onnx file ({error}); the file is damaged, export it again") from None
    return model


class LoadedGraph:
    """A model's nodes and constants by name."""

    def __init__(self, path: Path, model: "ModelProto") -> None:
        self.path, self.model = path, model
        self.constants: dict[str, TensorProto] = {tensor.name: tensor for tensor in model.graph.initializer}
        self.users: dict[str, list[NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self.users.setdefault(name, []).append(node)

    def attributes(self, node: "NodeProto") -> Mapping[str, Any]:
        return dict(attributes_of(node))

    def values(self, name: str, begin: int = 0, end: int | None = None) -> np.ndarray:
        """Rows ``begin`` to ``end`` of a constant. Raises `FirstTokenError` for one that is not there or not whole."""
        tensor = self.constants[name]
        shape, dtype = tuple(tensor.dims), NUMPY[tensor.data_type]
        end = shape[0] if end is None else end
        row = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
        if tensor.data_location != tensor.EXTERNAL:
            return np.frombuffer(tensor.raw_data, dtype).reshape(shape)[begin:end]
        place = place_of(tensor)
        with open(self.path.with_name(place["location"]), "rb") as file:
            file.seek(int(place["offset"]) + begin * row)
            data = file.read((end - begin) * row)
        if len(data) != (end - begin) * row:
            raise FirstTokenError(f"{self.path}: the file of its weights ends within {name}; the file is damaged, export it again")
        return np.frombuffer(data, dtype).reshape(end - begin, *shape[1:])


def place_of(tensor: "TensorProto") -> dict[str, str]:
    """Where a constant lies in another file: "location", "offset" and "length"."""
    return {entry.key: entry.value for entry in tensor.external_data}


def size_of(path: Path) -> int:
    """Bytes of a regular file; -1 where there is none."""
    return os.stat(path).st_size if os.path.isfile(path) else -1
