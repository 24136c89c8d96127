"""Lowering for a Hexagon NPU: the CPU artifact, and beside it the same weights compiled for one Snapdragon."""

import os
from dataclasses import replace
from pathlib import Path

from firsttoken.backends.interface import LoweringJob
from firsttoken.backends.lowering_result import Lowered
from firsttoken.backends.registry import find_backend
from firsttoken.backends.runner import MASKED
from firsttoken.backends.tflite.lower import lower_decoder as lower_for_cpu
from firsttoken.backends.tflite_hexagon.compile import Compilation, compile_for, compiler_folder
from firsttoken.backends.tflite_hexagon.cost import compile_cost
from firsttoken.backends.tflite_hexagon.libraries import HostLibraries, find_libraries
from firsttoken.backends.tflite_hexagon.source import check_source, write_source
from firsttoken.bundle.manifest import Artifact, HostTable, Method, Needs, NpuFacts, State
from firsttoken.errors import FirstTokenError
from firsttoken.file_hash import hash_file
from firsttoken.progress import Report, silent
from firsttoken.targets.target import Target
from firsttoken.units import lasting, readable

BACKEND = "tflite-hexagon"  # of the artifact, whatever else the target holds
NPU_FILE = "model.npu.tflite"
SOURCE_FILE = ".npu-source.tflite"  # only while the bundle is being made


def check_tools() -> None:
    """Raises `FirstTokenError` if this machine cannot compile for Hexagon; says what to install."""
    find_libraries()
    compiler_folder()


def lower_decoder(job: LoweringJob, path: Path, report: Report = silent) -> Lowered:
    """Writes the CPU artifact to ``path`` and the compiled one beside it; returns what the manifest says of both.

    Raises `FirstTokenError` for missing libraries, a failed compile, or operators that the NPU did not take.
    """
    target, options = job.target, job.target.npu_options
    libraries = find_libraries() if options.compile == "ahead" else None
    # As the CPU target names it, so that the file is the same in every Snapdragon's bundle and in tflite-xnnpack's.
    cpu = target.model_copy(update={"name": target.cpu_backend, "npu": None, "gpu": None})
    on_cpu = find_backend(target.backend).on_cpu(job.precisions)
    lowered = lower_for_cpu(replace(job, target=cpu, precisions=on_cpu), path, report)
    source, compiled = path.with_name(SOURCE_FILE), path.with_name(NPU_FILE)
    methods, states = write_source(job, source, report)
    done = None
    try:
        if libraries is None:
            check_source(source)
            os.link(source, compiled)
        else:
            assert options.soc is not None, "what is compiled ahead has a soc"
            cost = compile_cost(job.decoder, job.precisions, target)
            done = compile_for(
                source, compiled, options.soc, libraries, options.share_weights, options.allow_partial, None, cost.seconds, report
            )
        made = _described(target, methods, states, done, source, compiled, path, libraries)
    finally:
        source.unlink(missing_ok=True)
    lowered.artifacts.append(made)
    lowered.notes += _notes(made)
    if job.static:
        lowered.notes.append(
            f"calibrated ranges are the NPU's: the CPU artifact has the same weights of those {len(job.static)} layers and rounds activations as they come (int8)"
        )
    return lowered


def _described(
    target: Target,
    methods: list[Method],
    states: list[State],
    done: Compilation | None,
    source: Path,
    compiled: Path,
    cpu: Path,
    libraries: HostLibraries | None,
) -> Artifact:
    options = target.npu_options
    facts = NpuFacts(
        compiled=options.compile,
        fp16=options.fp16,
        source_sha256=hash_file(source),
        weights_shared=options.share_weights,
        prefill_lengths=list(options.prefill_lengths),
        embedding=embedding_table(cpu),
        masked=MASKED,
        graphs=done.graphs if done else [],
        compile_seconds=round(done.seconds, 2) if done else 0.0,
        compile_memory=done.peak_memory if done else 0,
    )
    needs = Needs(
        runtime=target.runtime,
        min_runtime=target.min_runtime,
        soc=options.soc,
        hexagon=options.hexagon,
        qnn=libraries.version if libraries else None,
    )
    return Artifact(file=compiled.name, backend=BACKEND, needs=needs, methods=methods, states=states, npu=facts)


def embedding_table(artifact: Path) -> HostTable:
    """Finds the embedding in a written CPU artifact, so that the host can look rows up without a second copy."""
    from ai_edge_litert import schema_py_generated as schema

    from firsttoken.backends.tflite.audit import read_header

    model, _ = read_header(artifact)
    tensors = {tensor.name.decode(): tensor for tensor in model.subgraphs[0].tensors}
    names = {schema.TensorType.FLOAT32: "float32", schema.TensorType.FLOAT16: "float16", schema.TensorType.INT8: "int8"}
    table, scales = tensors.get("embedding.raw"), tensors.get("embedding.scales")
    if table is None or table.type not in names or (table.type == schema.TensorType.INT8) != (scales is not None):
        raise FirstTokenError(f"{artifact}: no embedding table that a host can read; give the embedding fp32, fp16 or int8 in the plan")
    rows, columns = map(int, table.shape)
    buffer = model.buffers[table.buffer]
    if buffer.size < rows * columns * {"float32": 4, "float16": 2, "int8": 1}[names[table.type]]:
        raise FirstTokenError(f"{artifact}: its embedding table is cut short ({buffer.size} bytes for {rows} rows)")
    return HostTable(
        file=artifact.name,
        dtype=names[table.type],
        rows=rows,
        columns=columns,
        offset=buffer.offset,
        scales_offset=model.buffers[scales.buffer].offset if scales is not None else None,
    )


def _notes(artifact: Artifact) -> list[str]:
    npu, needs = artifact.npu, artifact.needs
    assert npu is not None, "made for an NPU"
    if npu.compiled == "device":
        return ["compiled by the phone's QNN delegate when it loads the file: what that takes, and how long, was not measured here"]
    operators = sum(graph.operators for graph in npu.graphs)
    offloaded = sum(graph.offloaded for graph in npu.graphs)
    notes = [
        (
            f"compiled for {needs.soc} (Hexagon {needs.hexagon}) in {lasting(npu.compile_seconds)} with {readable(npu.compile_memory)} of memory at most: "
            f"{offloaded} of {operators} operators of {len(npu.graphs)} graphs on the NPU"
        )
    ]
    if npu.fp16 == "unverified":
        notes.append(
            f"Hexagon {needs.hexagon}: Qualcomm documents FP16 from V73 on; this generation was compiled and emulated, never run on silicon"
        )
    return notes
