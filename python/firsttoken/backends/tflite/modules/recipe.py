"""What litert-quantizer is told: one rule for each operator, anchored to its name, so that none can match another's."""

import re
from typing import Any

from firsttoken.backends.tflite.modules.graph_file import GraphFile
from firsttoken.backends.tflite.modules.matching import Match
from firsttoken.errors import FirstTokenError

GROUP = 32  # columns that share a scale in int4, where they divide into such groups
OPERATIONS = {
    "FULLY_CONNECTED": "FULLY_CONNECTED",
    "CONV_2D": "CONV_2D",
    "DEPTHWISE_CONV_2D": "DEPTHWISE_CONV_2D",
    "TRANSPOSE_CONV": "CONV_2D_TRANSPOSE",
    "EMBEDDING_LOOKUP": "EMBEDDING_LOOKUP",
    "BATCH_MATMUL": "BATCH_MATMUL",
}
FLOAT_CASTING, MIN_MAX = "float_casting", "min_max_uniform_quantize"


def rule(file: GraphFile, match: Match, precision: str) -> dict[str, Any] | None:
    """The rule for one operator; None where it stays a float. Raises `FirstTokenError` for a precision that the operator cannot have."""
    kind = match.weighted.operator.kind
    if precision == "fp32" or not match.layer:
        return None
    if kind not in OPERATIONS:
        raise FirstTokenError(
            f"{match.layer}: {precision} was asked, but the converted file has it as {kind}, which is quantized by nothing; ask fp32 for it"
        )
    graph, columns = match.weighted.operator.graph, file.shape(match.weighted.operator.graph, match.weighted.weight)[-1]
    return anchored(file.name(graph, match.weighted.operator.outputs[0]), OPERATIONS[kind], precision, columns)


def anchored(output: str, operation: str, precision: str, columns: int = 0) -> dict[str, Any]:
    """A rule for the one operator with this output."""
    weight: dict[str, Any] = {"num_bits": 8, "symmetric": True, "granularity": "CHANNELWISE", "dtype": "INT"}
    options: dict[str, Any] = {"weight_tensor_config": weight, "compute_precision": "INTEGER", "explicit_dequantize": False}
    algorithm = MIN_MAX
    if precision == "fp16":
        algorithm = FLOAT_CASTING
        weight.update(num_bits=16, dtype="FLOAT", granularity="TENSORWISE")
        options.update(compute_precision="FLOAT", explicit_dequantize=True)
    elif (
        precision == "int8-weight" and operation != "EMBEDDING_LOOKUP"
    ):  # a table that is looked up in is multiplied out entry by entry as it is
        options.update(compute_precision="FLOAT", explicit_dequantize=True)
    elif precision == "int4":
        weight.update(num_bits=4, granularity=f"BLOCKWISE_{GROUP}" if columns % GROUP == 0 else "CHANNELWISE")
    elif precision == "int8-static":
        options["activation_tensor_config"] = {"num_bits": 8, "symmetric": False, "granularity": "TENSORWISE", "dtype": "INT"}
    return {"regex": f"^{re.escape(output)};$", "operation": operation, "algorithm_key": algorithm, "op_config": options}
