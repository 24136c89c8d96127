"""Lowering a decoder checkpoint to .tflite: builds the graphs and streams the weights."""

from pathlib import Path

from firsttoken.backends.lowering_result import Lowered, key_value_states
from firsttoken.backends.tflite.graph import Dynamic, Graph, Type
from firsttoken.backends.tflite.model_file import ModelFile
from firsttoken.backends.tflite.ops import TfliteOps
from firsttoken.backends.tflite.weights import read_weights
from firsttoken.bundle.manifest import Artifact, Method, Needs, Tensor
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.parts import Decoder
from firsttoken.progress import Report, silent
from firsttoken.quant.plan import Plan
from firsttoken.targets.target import Target

GRAPHS = ("first", "extend", "decode")
TYPE_NAMES = {Type.FLOAT32: "float32", Type.FLOAT16: "float16", Type.INT32: "int32"}
CACHE_STEP = 256  # rows by which the host grows the cache it passes: attention reads at most this many unused rows


def lower(
    checkpoint: Checkpoint,
    decoder: Decoder,
    plan: Plan,
    target: Target,
    precisions: dict[str, str],
    path: Path,
    report: Report = silent,
) -> Lowered:
    """Writes ``path`` and returns what the manifest says of it.

    Memory follows the header (scales and graph), not the weights. Raises `FirstTokenError` for damaged weights and
    `OSError` when the disk is full; ``path`` is then incomplete and the caller's to remove.
    """
    file, artifact = describe_graphs(checkpoint, decoder, plan, target, precisions)
    file.write(path, report)
    return Lowered([artifact])


def describe_graphs(
    checkpoint: Checkpoint, decoder: Decoder, plan: Plan, target: Target, precisions: dict[str, str]
) -> tuple[ModelFile, Artifact]:
    """Builds the graphs without writing anything; reads only the norms and biases. Raises `FirstTokenError` for damaged ones."""
    file = ModelFile(f"firsttoken {plan.name} {target.name}")
    native = target.delegate == "xnnpack"
    weights = read_weights(file, checkpoint, decoder, precisions, plan.group_size, native)
    methods = []
    for name in GRAPHS:
        # Stand-ins for the run-time dimensions; the host replaces them before the first run.
        graph = TfliteOps(file, name, decoder, weights, tokens=min(8, target.prefill_chunk), cached=min(CACHE_STEP, target.cache_length))
        graph.build()
        methods.append(Method(name=name, inputs=described(graph, graph.inputs), outputs=described(graph, graph.outputs)))
    kept = key_value_states(
        decoder,
        "host",
        lambda state: [state.kv_heads, 1, "cached", state.head_dim],
        2,
        lambda state: TYPE_NAMES[weights.core_type(state.name)],
        target.cache_length,
        min(CACHE_STEP, target.cache_length),
    )
    needs = Needs(runtime=target.runtime, min_runtime=target.min_runtime)
    backend = f"{target.runtime}-{target.delegate}"
    return file, Artifact(file=target.artifact_file, backend=backend, needs=needs, methods=methods, states=kept)


def described(graph: Graph, tensors) -> list[Tensor]:
    """Returns a graph's inputs or outputs as the manifest describes them."""
    found = []
    for name, index in tensors:
        shape = [n.name if isinstance(n, Dynamic) else int(n) for n in graph.shapes[index]]
        found.append(Tensor(name=name, shape=shape, dtype=TYPE_NAMES[graph.dtype(index)]))
    return found
