"""The methods of a .tflite of a module: its signatures, with what their inputs and outputs are in the file."""

from collections.abc import Mapping

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from firsttoken.backends.module_backend import ArtifactTensor, ModuleMethod
from firsttoken.backends.tflite.modules.graph_file import DTYPES, GraphFile, ints
from firsttoken.errors import FirstTokenError
from firsttoken.modules.module import Module, ModuleInput, ModuleOutput


def methods_of(file: GraphFile, sizes: Mapping[str, Mapping[str, int]], module: Module) -> tuple[ModuleMethod, ...]:
    """A method for each signature. Raises `FirstTokenError` where an input has another shape than the module's at the signature's sizes."""
    methods = []
    for key, signature in file.signatures().items():
        sides = []
        for entries, order in ((signature.inputs, module.inputs), (signature.outputs, module.outputs)):
            found = {entry.name.decode(): entry.tensorIndex for entry in entries}
            sides.append(tuple(artifact_tensor(file, signature.subgraphIndex, found[one.name], one, sizes[key]) for one in order))
        methods.append(ModuleMethod(key, sides[0], sides[1], dict(sizes[key])))
    return tuple(methods)


def artifact_tensor(file: GraphFile, graph: int, index: int, of: ModuleInput | ModuleOutput, sizes: Mapping[str, int]) -> ArtifactTensor:
    """An input or output as the file has it. Raises `FirstTokenError` for a type that a host cannot give, and for another shape than the module's."""
    tensor, name = file.tensor(graph, index), of.name
    if tensor.type not in DTYPES:
        kind = next((name for name, code in vars(schema.TensorType).items() if code == tensor.type), str(tensor.type))
        raise FirstTokenError(f"{name!r} is {kind} in the converted file; expected float32, int32 or bool: cast it inside the module")
    if formula := next((size for size in of.shape if isinstance(size, str) and size not in sizes), None):
        raise FirstTokenError(
            f"{name!r} has a dimension of {formula}; a .tflite's manifest names those of the inputs alone: return it unflattened, or export one size"
        )
    wanted = tuple(sizes[size] if isinstance(size, str) else size for size in of.shape)
    if wanted != file.shape(graph, index):
        raise FirstTokenError(
            f"{name!r} is {list(file.shape(graph, index))} in the converted file, but {list(wanted)} in the module; "
            "correct the shapes that the module's inputs and outputs are given"
        )
    scale, zero = None, None
    found = tensor.quantization
    if found is not None and found.scale is not None and len(found.scale) == 1:
        scale, zero = float(np.float32(found.scale[0])), ints(found.zeroPoint)[0]
    return ArtifactTensor(name, name, DTYPES[tensor.type].name, of.shape, scale, zero)
