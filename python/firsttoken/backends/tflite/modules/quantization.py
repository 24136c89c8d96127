"""A float file with its layers in the precisions of a plan, by litert-quantizer; what it wrote is held against the float weights."""

from collections.abc import Mapping, Sequence

import numpy as np

from firsttoken.backends.tflite.modules.graph_file import GraphFile
from firsttoken.backends.tflite.modules.matching import Match
from firsttoken.backends.tflite.modules.recipe import rule
from firsttoken.backends.tflite.modules.written import Written, WrittenOperators
from firsttoken.errors import FirstTokenError
from firsttoken.extras import need
from firsttoken.progress import Report, silent
from firsttoken.quiet import quiet_output

Ranges = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""The least and the largest value of tensors by name, of as many dimensions as the tensor: of size 1, or, where a weight's rows have scales, of theirs."""
ROUNDING = 0.5 + 1e-3  # of a scale
HALF = 2.0**-11 * 1.001  # of a value in FP16
TINY = 6.2e-5  # below which FP16 has fewer digits


def name_operators(file: GraphFile, found: Sequence[Match]) -> list[str]:
    """Names the output of each matched operator after its layer, "<signature>/<layer>/<n>", and returns the names in the matches' order."""
    graphs = {one.subgraphIndex: key for key, one in file.signatures().items()}
    counts: dict[tuple[int, str], int] = {}
    names = []
    for one in found:
        operator = one.weighted.operator
        layer = one.layer or one.parameter
        count = counts[operator.graph, layer] = counts.get((operator.graph, layer), -1) + 1
        name = f"{graphs.get(operator.graph, operator.graph)}/{layer}/{count}"
        file.tensor(operator.graph, operator.outputs[0]).name = name.encode()
        names.append(name)
    return names


def quantize(
    file: GraphFile, found: Sequence[Match], precisions: Mapping[str, str], ranges: Ranges, glue: Sequence[dict], report: Report = silent
) -> GraphFile:
    """Returns the file with every matched operator in its layer's precision; ``ranges`` are those that static layers need, ``glue`` rules for operators
    without a weight between static ones. Raises `FirstTokenError` for what the quantizer refuses."""
    rules = [*filter(None, (rule(file, one, precisions.get(one.layer, "fp32")) for one in found)), *glue]
    if not rules:
        return file
    need("modules", "a quantized .tflite of a module")
    report("quantizing", 0, 1, "")
    with quiet_output():
        from litert_quantizer import quantizer

        try:
            tool = quantizer.Quantizer(file.packed(), rules)
            values = {name: {"min": low, "max": high} for name, (low, high) in ranges.items()}
            raw = tool.quantize(values or None, enable_progress_bar=False, enable_progress_report=False).quantized_model
        except Exception as error:  # ValueError, RuntimeError and KeyError for what it does not take
            raise FirstTokenError(
                f"litert-quantizer refused the plan ({type(error).__name__}: {str(error)[:400]}); give the layer another precision"
            ) from None
    assert raw is not None
    report("quantizing", 1, 1, "")
    return GraphFile.parse(bytes(raw), "the quantized file")


def check_quantized(
    before: GraphFile, after: GraphFile, found: Sequence[Match], names: Sequence[str], precisions: Mapping[str, str]
) -> None:
    """Raises `FirstTokenError` for an operator of the quantized file that is not in the precision asked, or whose weights or bias are not the float file's, rounded."""
    floats, integers = WrittenOperators(before), WrittenOperators(after)
    for one, name in zip(found, names, strict=True):
        asked = precisions.get(one.layer, "fp32")
        held = integers.read(one.weighted.operator.graph, name)
        if held.precision(asked) != asked:
            raise FirstTokenError(
                f"{one.layer or one.parameter}: {asked} was asked, but {name} is stored as {held.precision(asked)}; the quantizer left it out"
            )
        plain = floats.read(one.weighted.operator.graph, name)
        difference = beyond_rounding(plain, held)
        if difference:
            raise FirstTokenError(
                f"{one.layer or one.parameter}: {difference} in {name}; the quantizer wrote something else than the weights"
            )


def beyond_rounding(plain: Written, held: Written) -> str:
    """What of an operator is not its float form, rounded; empty where all is."""
    wanted, got = plain.values, held.values
    if wanted.shape != got.shape:
        return f"weights of shape {list(got.shape)} for {list(wanted.shape)}"
    step = (
        np.broadcast_to(held.steps, wanted.shape)
        if held.steps is not None
        else np.maximum(np.abs(wanted), TINY) * 2 * HALF
        if held.half
        else np.zeros(1)
    )
    off = np.abs(got - wanted) > step * ROUNDING
    if off.any():
        worst = np.unravel_index(np.argmax(np.abs(got - wanted) - step), wanted.shape)
        return f"{int(off.sum())} weights that are not those of the float file, as {got[worst]:.6g} for {wanted[worst]:.6g}"
    if (plain.bias is None) != (held.bias is None):
        return "a bias that was dropped" if held.bias is None else "a bias that was not there"
    if plain.bias is not None and held.bias is not None:
        margin = held.bias_steps if held.bias_steps is not None else np.zeros(1)
        if np.any(np.abs(plain.bias - held.bias) > margin * ROUNDING + 1e-6 * np.abs(plain.bias) + 1e-12):
            return "a bias with other values"
    return ""
