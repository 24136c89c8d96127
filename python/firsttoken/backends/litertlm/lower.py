"""Lowering a decoder checkpoint to .litertlm: the graphs under LiteRT-LM's signatures, then the container around them."""

import hashlib
import itertools
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from firsttoken.backends.interface import LoweringJob
from firsttoken.backends.litertlm.container import pack
from firsttoken.backends.litertlm.metadata import describe_words
from firsttoken.backends.litertlm.ops import DECODE, PREFILL, LmOps
from firsttoken.backends.litertlm.runner import CACHE_STEP
from firsttoken.backends.lowering_result import Lowered, key_value_states
from firsttoken.backends.registry import find_backend
from firsttoken.backends.tflite.graph import Dynamic
from firsttoken.backends.tflite.lower import TYPE_NAMES, described
from firsttoken.backends.tflite.model_file import ModelFile
from firsttoken.backends.tflite.weights import read_weights
from firsttoken.bundle.manifest import Artifact, Method, Needs
from firsttoken.file_hash import hash_file
from firsttoken.progress import Report, silent
from firsttoken.targets.target import Target


def lower_decoder(
    job: LoweringJob, path: Path, report: Report = silent, ops: type[LmOps] = LmOps, only: Literal["cpu", "gpu"] | None = "cpu"
) -> Lowered:
    """Writes ``path`` and returns what the manifest says of it. ``ops`` emits the graphs, which are marked as for ``only`` one kind of processor.

    The disk holds the graphs twice while they are packed. Raises `FirstTokenError` for damaged weights and `OSError` when the
    disk is full; ``path`` is then incomplete and the caller's to remove.
    """
    file, artifact = describe_graphs(job, ops)
    graphs = path.with_name(f".{path.name}.graphs")
    try:
        file.write(graphs, report)
        report("packing", 0, 1, "file")
        words = describe_words(job.checkpoint.folder, job.target.cache_length, job.ends)
        pack(path, graphs, words, job.checkpoint.folder / "tokenizer.json", facts_of(job, graphs, report), only)
        report("packing", 1, 1, "file")
    finally:
        graphs.unlink(missing_ok=True)
    return Lowered([artifact])


def facts_of(job: LoweringJob, graphs: Path, report: Report) -> dict[str, str]:
    """What the container's header says of where it comes from."""
    plan = hashlib.sha256(job.plan.model_dump_json().encode()).hexdigest()
    return {
        "Authors": "firsttoken",
        "firsttoken.version": version("firsttoken"),
        "firsttoken.checkpoint": job.checkpoint.fingerprint(),
        "firsttoken.plan": job.plan.name,
        "firsttoken.plan_sha256": plan,
        "firsttoken.graphs_sha256": hash_file(graphs, report),
    }


def cache_rows(target: Target, step: int = 1) -> int:
    """Rows of a cache of fixed length: the last piece of a prompt is padded up to a graph's length, and its padding must not run over the end.

    They are a multiple of ``step``.
    """
    lengths = (0, *(target.prefill_lengths or ()))
    rows = target.cache_length + max((b - a - 1 for a, b in itertools.pairwise(lengths)), default=0)
    return -(-rows // step) * step


def signatures(target: Target, step: int = 1) -> Sequence[tuple[str, int, int]]:
    """``(name, tokens, cached)`` of every signature, as LiteRT-LM's two executors want them; ``step`` as of `cache_rows`."""
    if target.prefill_lengths is None:
        # Stand-ins for the run-time dimensions; the host replaces them before the first run.
        tokens, cached = Dynamic("tokens", min(8, target.prefill_chunk)), Dynamic("cached", min(CACHE_STEP, target.cache_length))
        return (PREFILL, tokens, cached), (DECODE, 1, cached)
    rows = cache_rows(target, step)
    return *((f"{PREFILL}_{length}", length, rows) for length in target.prefill_lengths), (DECODE, 1, rows)


def describe_graphs(job: LoweringJob, ops: type[LmOps] = LmOps) -> tuple[ModelFile, Artifact]:
    """Builds the graphs without writing anything; reads only the norms and biases. Raises `FirstTokenError` for damaged ones."""
    target, decoder, backend = job.target, job.decoder, find_backend(job.target.cpu_backend)
    file = ModelFile(f"firsttoken {job.plan.name} {target.name}")
    weights = read_weights(file, job, backend.native_fp16, cache_precision=backend.cache_precision)
    methods = []
    for name, tokens, cached in signatures(target, ops.row_step):
        graph = ops(file, name, decoder, weights, tokens, cached)
        graph.build()
        methods.append(Method(name=name, inputs=described(graph, graph.inputs), outputs=described(graph, graph.outputs)))
    fixed = target.prefill_lengths is not None
    kept = key_value_states(
        decoder,
        "host",
        lambda state: [state.kv_heads, 1, cache_rows(target, ops.row_step) if fixed else "cached", state.head_dim],
        2,
        lambda state: TYPE_NAMES[weights.cache_type(state.name)],
        target.cache_length,
        1 if fixed else min(CACHE_STEP, target.cache_length),
        advances="in_place",
    )
    needs = Needs(runtime=target.runtime, min_runtime=target.min_runtime)
    return file, Artifact(file=backend.artifact_file, backend=backend.name, needs=needs, methods=methods, states=kept)
