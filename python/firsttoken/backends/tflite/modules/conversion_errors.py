"""What PyTorch, JAX and litert-torch say of a program that they do not convert, in words that say what to do."""

import re
from collections.abc import Mapping, Sequence

from torch.fx import Node

from firsttoken.errors import FirstTokenError
from firsttoken.modules.module import Module

MANY_STEPS, MOST_STEPS = 100, 400
"""Of a recurrent layer, which is unrolled: 48 steps of two layers of an LSTM are 1,534 operators. From the first on an export says so; more than the last are refused."""

SPECIALIZED = re.compile(r"specializ|Guard failed|Constraints violated|expected.*shape|to be equal to", re.IGNORECASE | re.DOTALL)
DYNAMIC = re.compile(
    r"-9223372036854775808|must all be positive|static ShapedType|Only non-negative indices|1D sequences of concrete values"
)
UNKNOWN = re.compile(r"(?:Lowering not found|No lowering|not implemented|Unsupported)[^\n]*?(aten[\w.:]+|torch\.ops[\w.]+)?", re.IGNORECASE)


def translated(error: Exception, module: Module, combinations: Sequence[Mapping[str, int]]) -> FirstTokenError:
    """The error to raise for one of a conversion."""
    said = str(error)
    first = next((line.strip() for line in said.splitlines() if line.strip()), type(error).__name__)[:300]
    if DYNAMIC.search(said):
        return FirstTokenError(
            f"{module.name}: a dimension that the program leaves open reached the converter, and a .tflite has fixed ones; name it in the module's inputs and "
            f"give its sizes, as in lengths = {{length: [16, 64, 128]}}: a graph each, over one set of weights ({first})"
        )
    if SPECIALIZED.search(said) and any(combinations):
        asked = "; ".join(", ".join(f"{name} {size}" for name, size in sizes.items()) for sizes in combinations)
        return FirstTokenError(
            f"{module.name}: the program was traced for other sizes than those asked ({asked}); torch.export makes a constant of a dimension whose example has "
            f"size 1, and of every one that dynamic_shapes does not name: export it again with a batch of 2 and torch.export.Dim for it ({first})"
        )
    if (found := UNKNOWN.search(said)) is not None:
        operation = found.group(1) or first
        return FirstTokenError(
            f"{module.name}: litert-torch has no conversion of {operation}; write it with other operations, or export to .pte (-t executorch-xnnpack) ({first})"
        )
    return FirstTokenError(
        f"{module.name}: litert-torch cannot convert the module ({type(error).__name__}: {first}); run with -v to see its own log"
    )


def recurrent_steps(module: Module, sizes: Mapping[str, int]) -> int:
    """The most steps that a recurrent layer of the program is unrolled to; 0 without one."""
    return max((_steps(node, sizes, module) for node in module.program.graph.nodes if _is_recurrent(node)), default=0)


def check_steps(module: Module, sizes: Mapping[str, int]) -> None:
    """Raises `FirstTokenError` for a recurrent layer over more steps than can be unrolled."""
    steps = recurrent_steps(module, sizes)
    if steps > MOST_STEPS:
        raise FirstTokenError(
            f"{module.name}: a recurrent layer over {steps} steps would be unrolled to {steps} copies of it, and at most {MOST_STEPS} are; export a module of one "
            "step (its state is an input and an output) that the host calls in a loop, or cut the series into shorter pieces"
        )


def _is_recurrent(node: Node) -> bool:
    return node.op == "call_function" and str(node.target).split(".")[:2][-1] in ("lstm", "gru", "rnn_tanh", "rnn_relu")


def _steps(node: Node, sizes: Mapping[str, int], module: Module) -> int:
    given = node.args[0]
    assert isinstance(given, Node)
    value = given.meta["val"]
    batch_first = bool(node.args[8]) if len(node.args) > 8 else False
    size = value.shape[1 if batch_first and value.dim() == 3 else 0]
    if isinstance(size, int):
        return size
    named = {str(symbol): name for symbol, name in _symbols(module).items()}
    return int(sizes.get(named.get(str(size), ""), 0))


def _symbols(module: Module) -> dict[str, str]:
    """The names of the dimensions by the program's symbols for them."""
    found = {}
    users = set(module.program.graph_signature.user_inputs)
    nodes = [node for node in module.program.graph.nodes if node.op == "placeholder" and node.name in users]
    for given, node in zip(module.inputs, nodes, strict=False):
        for name, size in zip(given.shape, node.meta["val"].shape, strict=False):
            if isinstance(name, str):
                found[str(size)] = name
    return found
