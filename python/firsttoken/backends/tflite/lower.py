"""Lowering a decoder checkpoint to .tflite: builds the graphs and streams the weights."""

from pathlib import Path

from firsttoken.backends.host_inputs import of_window
from firsttoken.backends.interface import LoweringJob
from firsttoken.backends.lowering_result import Lowered, key_value_states, with_convolutions
from firsttoken.backends.registry import find_backend
from firsttoken.backends.tflite.draft_graph import DraftOps
from firsttoken.backends.tflite.graph import Dynamic, Graph, Type
from firsttoken.backends.tflite.model_file import ModelFile
from firsttoken.backends.tflite.ops import TfliteOps
from firsttoken.backends.tflite.weights import read_weights
from firsttoken.bundle.manifest import Artifact, Method, Needs, Tensor
from firsttoken.progress import Report, silent

GRAPHS = ("first", "extend", "decode")
TYPE_NAMES = {Type.FLOAT32: "float32", Type.FLOAT16: "float16", Type.INT32: "int32"}
CACHE_STEP = 256  # rows by which the host grows the cache it passes: attention reads at most this many unused rows


def lower_decoder(job: LoweringJob, path: Path, report: Report = silent) -> Lowered:
    """Writes ``path`` and returns what the manifest says of it.

    Memory follows the header (scales and graph), not the weights. Raises `FirstTokenError` for damaged weights and
    `OSError` when the disk is full; ``path`` is then incomplete and the caller's to remove.
    """
    file, artifact = describe_graphs(job)
    file.write(path, report)
    return Lowered([artifact])


def describe_graphs(job: LoweringJob) -> tuple[ModelFile, Artifact]:
    """Builds the graphs without writing anything; reads only the norms and biases. Raises `FirstTokenError` for damaged ones."""
    target, decoder, backend = job.target, job.decoder, find_backend(job.target.cpu_backend)
    file = ModelFile(f"firsttoken {job.plan.name} {target.name}")
    weights = read_weights(file, job, backend.native_fp16)
    methods = []
    for name in GRAPHS:
        # Stand-ins for the run-time dimensions; the host replaces them before the first run.
        graph = TfliteOps(file, name, decoder, weights, tokens=min(8, target.prefill_chunk), cached=min(CACHE_STEP, target.cache_length))
        methods.append(built(graph))
    if target.draft_tokens is not None:
        methods.append(built(DraftOps(file, decoder, weights, target.draft_tokens + 1, min(CACHE_STEP, target.cache_length))))
    kept = key_value_states(
        decoder,
        "host",
        lambda state: [state.kv_heads, 1, of_window("cached", state.window), state.head_dim],
        2,
        lambda state: TYPE_NAMES[weights.core_type(state.name)],
        target.cache_length,
        min(CACHE_STEP, target.cache_length),
    )
    needs = Needs(runtime=target.runtime, min_runtime=target.min_runtime)
    return file, Artifact(
        file=backend.artifact_file, backend=backend.name, needs=needs, methods=methods, states=with_convolutions(kept, decoder, "host")
    )


def built(graph: TfliteOps) -> Method:
    """Builds a graph into its file and returns it as the manifest describes it."""
    graph.build()
    return Method(name=graph.name, inputs=described(graph, graph.inputs), outputs=described(graph, graph.outputs))


def described(graph: Graph, tensors: list[tuple[str, int]]) -> list[Tensor]:
    """Returns a graph's inputs or outputs as the manifest describes them."""
    found = []
    for name, index in tensors:
        shape: list[int | str] = [n.name if isinstance(n, Dynamic) else int(n) for n in graph.shapes[index]]
        found.append(Tensor(name=name, shape=shape, dtype=TYPE_NAMES[graph.dtype(index)]))
    return found
