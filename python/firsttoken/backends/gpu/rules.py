"""Which operators LiteRT's GPU accelerator takes and computes right, in which form: checked as a graph is built, and again in the written file.

"Fully accelerated" is not "right": SPLIT and a batch matrix product that broadcasts are taken and give other numbers. So this is a list
of what was run alone on the accelerator and compared (tests/backends/gpu/test_operators.py), and everything else is refused.
"""

from collections.abc import Callable, Sequence
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from firsttoken.errors import FirstTokenError

Type, Op = schema.TensorType, schema.BuiltinOperator
KINDS = {value: name for name, value in vars(Op).items() if isinstance(value, int)}
TYPES = {value: name for name, value in vars(Type).items() if isinstance(value, int)}
Rule = Callable[[Sequence[Any], Any], str | None]
RUNNING = (Type.FLOAT32, Type.INT32, Type.BOOL)  # types of what is computed; others are of weights alone


def _constant(tensor: Any) -> bool:
    return bool(tensor.buffer or tensor.externalBuffer)


def _plain(inputs: Sequence[Any], output: Any) -> str | None:
    wrong = next((tensor for tensor in (*inputs, output) if tensor is not None and tensor.type not in RUNNING), None)
    return None if wrong is None else f"a tensor of {TYPES[wrong.type]}"


def _product(inputs: Sequence[Any], output: Any) -> str | None:
    left, right = (tuple(tensor.shape)[:-2] for tensor in inputs)
    return f"batches {list(map(int, left))} and {list(map(int, right))}, which broadcast" if left != right else _plain(inputs, output)


def _dense(inputs: Sequence[Any], output: Any) -> str | None:
    weight = inputs[1]
    if weight.type not in (Type.FLOAT32, Type.INT8, Type.INT4):
        return f"a weight of {TYPES[weight.type]}"
    scales = _row_scales(weight)
    if weight.type != Type.FLOAT32 and scales != int(weight.shape[0]):
        return f"a weight of {TYPES[weight.type]} without one scale for each row"
    return _plain([inputs[0], *inputs[2:]], output)


def _row_scales(weight: Any) -> int:
    parameters = weight.quantization
    if parameters is None or parameters.details is not None or parameters.scale is None:
        return 0
    return len(parameters.scale)


def _rows(inputs: Sequence[Any], output: Any) -> str | None:
    if inputs[0].type != Type.FLOAT32 or not _constant(inputs[0]):
        return f"a table of {TYPES[inputs[0].type]}{'' if _constant(inputs[0]) else ' that is computed'}"
    return _plain(inputs, output)


def _lookup(inputs: Sequence[Any], output: Any) -> str | None:
    tokens, table = inputs
    if not _constant(table) or table.type != Type.INT8 or _row_scales(table) != int(table.shape[0]):
        return f"a table of {TYPES[table.type]} without one scale for each row"
    return _plain([tokens], output)


def _stored_half(inputs: Sequence[Any], output: Any) -> str | None:
    if inputs[0].type != Type.FLOAT16 or not _constant(inputs[0]):
        return f"{TYPES[inputs[0].type]}{'' if _constant(inputs[0]) else ' that is computed'}; only a weight in FLOAT16"
    return _plain([], output)


RULES: dict[str, Rule] = {
    **dict.fromkeys(
        (
            "ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "MEAN", "RSQRT", "LOGISTIC", "TANH", "RELU", "SOFTMAX", "CAST", "RESHAPE",
            "TRANSPOSE", "CONCATENATION", "SLICE", "DYNAMIC_UPDATE_SLICE",
        ),
        _plain,
    ),
    "BATCH_MATMUL": _product,
    "FULLY_CONNECTED": _dense,
    "GATHER": _rows,
    "EMBEDDING_LOOKUP": _lookup,
    "DEQUANTIZE": _stored_half,
}  # fmt: skip


def wrong_with(kind: str, inputs: Sequence[Any], output: Any) -> str | None:
    """Why the accelerator cannot be trusted with an operator on these tensors (of the schema; None for one left out); None where it can."""
    rule = RULES.get(kind)
    if rule is None:
        return f"{kind}: not among the operators that were checked on the GPU"
    present = [tensor for tensor in (*inputs, output) if tensor is not None]
    if any(tensor.shapeSignature is not None and -1 in tensor.shapeSignature for tensor in present):
        return f"{kind}: a shape of run time"
    reason = rule(inputs, output)
    return None if reason is None else f"{kind}: {reason}"


def wrong_in(model: Any) -> dict[int, dict[int, str]]:
    """Of a model of the schema: for each subgraph that has any, the operators that the accelerator cannot be trusted with, and why."""
    found: dict[int, dict[int, str]] = {}
    for index, graph in enumerate(model.subgraphs):
        for number, operator in enumerate(graph.operators):
            inputs = [None if n < 0 else graph.tensors[n] for n in map(int, operator.inputs)]
            code = model.operatorCodes[operator.opcodeIndex]
            for output in operator.outputs:
                reason = wrong_with(KINDS[max(code.builtinCode, code.deprecatedBuiltinCode)], inputs, graph.tensors[int(output)])
                if reason is not None:
                    found.setdefault(index, {})[number] = reason
    return found


def check_model(model: Any, named: str) -> None:
    """Raises `FirstTokenError` for the first operator that the accelerator cannot be trusted with."""
    for index, operators in wrong_in(model).items():
        number, reason = next(iter(operators.items()))
        graph = model.subgraphs[index]
        tensor = graph.tensors[int(graph.operators[number].outputs[0])].name or b""
        name = (graph.name or b"").decode("utf-8", "replace")
        raise FirstTokenError(
            f"{named}: graph {name!r}, operator {number} ({tensor.decode('utf-8', 'replace')}) is not for the GPU: {reason}; "
            f"export with a target litertlm-gpu or tflite-gpu, whose graphs have none (docs/gpu.md)"
        )
