"""Ranges of activations between static layers, of samples that run through the float file, a few tensors at a time so that memory stays bounded."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from firsttoken.backends.module_backend import ModuleJob
from firsttoken.backends.tflite.modules.glue import glue_operators
from firsttoken.backends.tflite.modules.graph_file import GraphFile
from firsttoken.backends.tflite.modules.matching import Match
from firsttoken.backends.tflite.modules.written import activation_input, bias_of
from firsttoken.errors import FirstTokenError
from firsttoken.precisions import STATIC
from firsttoken.progress import Report, silent
from firsttoken.quant.plan import DEFAULT_RANGE, RangeMethod
from firsttoken.quiet import quiet_runtime
from firsttoken.range_histogram import Histogram

AT_ONCE = 128 << 20  # bytes of activations that one run of a sample keeps
BIAS_STEPS = 2.0**30
Watched = dict[int, RangeMethod]  # by the number of a tensor


def calibrated(
    file: GraphFile, sizes: Mapping[str, Mapping[str, int]], job: ModuleJob, found: Sequence[Match], report: Report = silent
) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], list[dict[str, Any]]]:
    """The ranges of what static layers take and give, and of their weights, by the names of tensors in every signature, and the rules for operators between them.

    Raises `FirstTokenError` for a plan with static layers without samples, and for samples that no signature takes or that give no numbers.
    """
    static = [one for one in found if job.precisions.get(one.layer) in STATIC]
    if not static:
        return {}, []
    graphs = {key: one.subgraphIndex for key, one in file.signatures().items()}
    rules: list[dict[str, Any]] = []
    ranges: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    key, samples = chosen_signature(sizes, job)
    glued = {name: glue_operators(file, graph, static) for name, graph in graphs.items()}
    watched = watched_tensors(file, graphs[key], static, job, glued[key])
    measured = measure(file, key, watched, samples, report)
    spans = {index: histogram.range(watched[index], "int8") for index, histogram in measured.items()}
    for name, graph in graphs.items():
        others = list(watched_tensors(file, graph, static, job, glued[name]))
        if len(others) != len(watched):
            raise FirstTokenError(
                f"{job.module.name}: signatures {key!r} and {name!r} differ in the layers that the converter made of them; export one length at a time"
            )
        for here, there in zip(watched, others, strict=True):
            ranges[file.name(graph, there)] = as_arrays(*spans[here], len(file.shape(graph, there)))
        for one in static:
            if one.weighted.operator.graph == graph:
                ranges[file.name(graph, one.weighted.weight)] = weight_range(file, one, ranges)
        rules += [one.rule for one in glued[name]]
    return ranges, rules


def as_arrays(low: float, high: float, rank: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full((1,) * rank, low, np.float32), np.full((1,) * rank, high, np.float32)


def weight_range(file: GraphFile, match: Match, ranges: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """The ranges of a weight's rows, wide enough for the bias: that is integers of 32 bits in steps of the input's scale times the row's, and one that is too
    large for them would be cut off (a channel that training switched off has weights near 0 and a bias)."""
    operator, graph = match.weighted.operator, match.weighted.operator.graph
    value = file.constant(graph, match.weighted.weight)
    assert value is not None
    channel = value.ndim - 1 if operator.kind == "DEPTHWISE_CONV_2D" else 0
    largest = np.abs(value).max(tuple(axis for axis in range(value.ndim) if axis != channel), keepdims=True).astype(np.float64)
    bias, _ = bias_of(file, operator)
    if bias is not None:
        low, high = (float(end.reshape(-1)[0]) for end in ranges[file.name(graph, activation_input(file, operator))])
        step = (max(high, 0.0) - min(low, 0.0)) / 255 or 1.0
        largest = np.maximum(largest, np.abs(bias).reshape(largest.shape) * 127 / (BIAS_STEPS * step))
    bound = largest.astype(np.float32)
    return -bound, bound


def chosen_signature(sizes: Mapping[str, Mapping[str, int]], job: ModuleJob) -> tuple[str, list[dict[str, np.ndarray]]]:
    """The signature that the samples fit, of the smallest batch, and the samples cut to it. Raises `FirstTokenError` where there is none."""
    if not job.samples:
        layer = next(name for name, precision in job.precisions.items() if precision in STATIC)
        raise FirstTokenError(
            f"{layer}: {job.precisions[layer]} needs ranges, which are taken of samples; give some (--samples FILE.npz), or ask int8"
        )
    for key in sorted(sizes, key=lambda name: sizes[name].get("batch", 1)):
        batch = sizes[key].get("batch", 1)
        fits = all(
            job.samples[one.name].shape[1:] == tuple(sizes[key][size] if isinstance(size, str) else size for size in one.shape[1:])
            for one in job.module.inputs
            if one.name in job.samples
        )
        if fits and all(one.name in job.samples for one in job.module.inputs):
            count = len(next(iter(job.samples.values()))) // batch
            pieces = [{name: value[n * batch : (n + 1) * batch] for name, value in job.samples.items()} for n in range(count)]
            if pieces:
                return key, pieces
    shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in job.samples.items())
    wanted = ", ".join(f"{one.name} {['samples', *one.shape[1:]]}" for one in job.module.inputs)
    raise FirstTokenError(f"{job.module.name}: samples of {shapes} fit no graph of the file; expected {wanted} at one of the lengths")


def watched_tensors(file: GraphFile, graph: int, static: Sequence[Match], job: ModuleJob, glued: Sequence[Any]) -> Watched:
    """What static operators of a graph take and give, in the graph's order, with the method of the layer's range."""
    found: Watched = {}
    for one in static:
        operator = one.weighted.operator
        if operator.graph == graph:
            method = job.range_methods.get(one.layer, DEFAULT_RANGE)
            if method not in ("min-max", "percentile", "mse"):
                raise FirstTokenError(f"{one.layer}: no range method {method!r}; expected min-max, percentile or mse")
            for index in (activation_input(file, operator), operator.outputs[0]):
                found.setdefault(index, method)  # type: ignore[arg-type]
    for one in glued:
        for index in one.tensors:
            found.setdefault(index, DEFAULT_RANGE)
    return found


def measure(
    file: GraphFile, key: str, watched: Mapping[int, RangeMethod], samples: Sequence[Mapping[str, np.ndarray]], report: Report = silent
) -> dict[int, Histogram]:
    """How often values occurred in tensors of a signature over the samples."""
    graph = file.signatures()[key].subgraphIndex
    found = {index: Histogram() for index in watched}
    pieces = in_pieces(file, graph, list(watched))
    for done, piece in enumerate(pieces):
        interpreter = watching(file, key, piece)
        runner = interpreter.get_signature_runner(key)
        for number, sample in enumerate(samples):
            given = runner.get_input_details()
            with quiet_runtime():
                got = runner(**{name: np.asarray(value).astype(given[name]["dtype"]) for name, value in sample.items()})
            for index in piece:
                value = got[f"watched{index}"]
                if not np.isfinite(value).all():
                    raise FirstTokenError(
                        f"a sample gives values that are no numbers in {file.name(graph, index)[:80]!r}; give others, or ask int8 for the layer"
                    )
                found[index].add(value)
            report("calibrating", done * len(samples) + number + 1, len(pieces) * len(samples), "runs")
    return found


def in_pieces(file: GraphFile, graph: int, tensors: Sequence[int]) -> list[list[int]]:
    """Tensors in groups of at most `AT_ONCE` bytes, or of one."""
    pieces: list[list[int]] = [[]]
    size = 0
    for index in tensors:
        needed = 4 * int(np.prod(file.shape(graph, index)))
        if pieces[-1] and size + needed > AT_ONCE:
            pieces.append([])
            size = 0
        pieces[-1].append(index)
        size += needed
    return pieces


def watching(file: GraphFile, key: str, tensors: Sequence[int]) -> Any:
    """LiteRT's interpreter of one signature with some of its tensors as outputs."""
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.interpreter import Interpreter

    model = copy.copy(file.model)
    signature = copy.copy(file.signatures()[key])
    graph = copy.copy(model.subgraphs[signature.subgraphIndex])
    graph.outputs = np.array(
        [*map(int, graph.outputs), *(index for index in tensors if index not in set(map(int, graph.outputs)))], np.int32
    )
    signature.outputs = list(signature.outputs)
    for index in tensors:
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = f"watched{index}".encode(), index
        signature.outputs.append(entry)
    signature.subgraphIndex = 0
    model.subgraphs, model.signatureDefs = [graph], [signature]
    with quiet_runtime():
        interpreter = Interpreter(model_content=GraphFile(model).packed(), num_threads=1)
        interpreter.allocate_tensors()
    return interpreter
