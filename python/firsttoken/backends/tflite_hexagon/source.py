"""The .tflite that goes into LiteRT's compiler, and the check that nothing known to come out wrong is in it."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from firsttoken.backends.interface import LoweringJob
from firsttoken.backends.lowering_result import key_value_states
from firsttoken.backends.tflite.lower import described
from firsttoken.backends.tflite.model_file import ModelFile
from firsttoken.backends.tflite.weights import read_weights
from firsttoken.backends.tflite_hexagon.ops import HexagonOps, graph_names
from firsttoken.bundle.manifest import Method, State
from firsttoken.decoder.parts import Decoder
from firsttoken.errors import FirstTokenError
from firsttoken.progress import Report, silent
from firsttoken.targets.target import Target

if TYPE_CHECKING:
    from ai_edge_litert import schema_py_generated as schema


def write_source(job: LoweringJob, path: Path, report: Report = silent) -> tuple[list[Method], list[State]]:
    """Writes the graphs for the target's NPU to ``path``; the same input gives the same bytes. Returns methods and states.

    Raises `FirstTokenError` for damaged weights and `OSError` when the disk is full.
    """
    file, methods, states = describe_source(job)
    file.write(path, report)
    return methods, states


def describe_source(job: LoweringJob) -> tuple[ModelFile, list[Method], list[State]]:
    """Builds the graphs without writing anything; reads only the norms and biases."""
    # Not the target's name: every SoC gets the same source.
    decoder, target = job.decoder, job.target
    file = ModelFile(f"firsttoken {job.plan.name} hexagon")
    weights = read_weights(file, job, native_fp16=True, embedding=False)
    methods = []
    for name, kind, tokens in graph_names(target.npu_options.prefill_lengths):
        graph = HexagonOps(file, name, kind, decoder, weights, tokens, target.cache_length)
        graph.build()
        methods.append(Method(name=name, inputs=described(graph, graph.inputs), outputs=described(graph, graph.outputs)))
    return file, methods, fixed_states(decoder, target)


def fixed_states(decoder: Decoder, target: Target) -> list[State]:
    """The cache as the NPU's graphs take it: whole, in float32, whatever is computed inside."""
    length = target.cache_length
    return key_value_states(
        decoder, "host", lambda state: [state.kv_heads, 1, state.rows(length), state.head_dim], 2, lambda _: "float32", length, length
    )


def check_source(path: Path) -> None:
    """Raises `FirstTokenError` naming the operator if ``path`` holds a construct that Hexagon is known to compute wrongly.

    They compile without a word and every operator counts as offloaded, so the compiler never gets to see them.
    """
    from firsttoken.backends.tflite.audit import read_header

    model, _ = read_header(path)
    for graph in model.subgraphs:
        for place, reason in known_wrong(model, graph):
            raise FirstTokenError(f"{path.name}, graph {(graph.name or b'').decode()!r}, {place}: {reason}; not compiled for Hexagon")


def known_wrong(model: "schema.ModelT", graph: "schema.SubGraphT") -> Iterator[tuple[str, str]]:
    """Yields ``(place, reason)`` for every known-wrong construct of a subgraph."""
    from ai_edge_litert import schema_py_generated as schema

    names = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
    for tensor in graph.tensors:
        if tensor.shapeSignature is not None and any(int(n) < 0 for n in tensor.shapeSignature):
            yield (
                tensor.name.decode(),
                f"the run-time shape {list(map(int, tensor.shapeSignature))} would silently be compiled at one fixed length",
            )
    for operator in graph.operators:
        kind = names[model.operatorCodes[operator.opcodeIndex].builtinCode]
        first = graph.tensors[operator.inputs[0]]
        place = f"{kind} {graph.tensors[operator.outputs[0]].name.decode()}"
        if kind in ("COS", "SIN"):
            yield place, "an angle in FP16 is wrong at large positions; feed cos and sin"
        if kind == "DYNAMIC_UPDATE_SLICE":
            yield place, "it is compiled to write other rows than asked; return the new rows and let the host append them"
        if kind == "MEAN" and first.type == schema.TensorType.INT16:
            yield place, "decoders with int16 norms give unrelated logits on the NPU; keep the norm in float"
