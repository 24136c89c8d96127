"""Lowering a decoder checkpoint to .pte: quantize, trace, hand to XNNPACK, write one file with one method."""

import ctypes
import gc
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from executorch.exir import EdgeCompileConfig, EdgeProgramManager, ExecutorchBackendConfig, to_edge_transform_and_lower
from executorch.exir.passes import MemoryPlanningPass
from torch.export import Dim, ExportedProgram, export

from firsttoken.backends.executorch.build import build_module
from firsttoken.backends.executorch.model import DecoderModule
from firsttoken.backends.executorch.partition import DecoderPartitioner, lean_preprocessing
from firsttoken.backends.executorch.structure import check_structure
from firsttoken.backends.interface import LoweringJob
from firsttoken.backends.lowering_result import Lowered, key_value_states
from firsttoken.bundle.manifest import Artifact, Method, Needs, Tensor
from firsttoken.errors import FirstTokenError
from firsttoken.progress import Report, silent
from firsttoken.quiet import is_verbose
from firsttoken.targets.target import Target


def lower_decoder(job: LoweringJob, path: Path, report: Report = silent) -> Lowered:
    """Writes ``path`` and returns what the manifest says of it. ``precisions`` is what ``plan.resolve`` returned.

    Memory: the libraries (0.8 GB), each weight once as it will be stored (int4 as a byte), and the graph. Raises
    `FirstTokenError` for damaged weights, or if a layer would not run in XNNPACK in the plan's precision, and `OSError`
    when the disk is full; ``path`` is then incomplete and the caller's to remove.
    """
    with torch.no_grad(), quiet_libraries():
        module = build_module(job, report)
        free_memory()
        report("trace", 0, 1, "graph")
        program = trace(module, job.target)
        del module
        report("trace", 1, 1, "graph")
        report("delegate", 0, 1, "graph")
        edge = delegate(program)
        del program
        free_memory()
        check_structure(edge.exported_program(), job.decoder, job.precisions)
        report("delegate", 1, 1, "graph")
        write(edge, path, report)
    return describe(job)


def trace(module: DecoderModule, target: Target) -> ExportedProgram:
    """Exports the decoder with dynamic lengths: S up to ``prefill_chunk``, T up to ``cache_length``."""
    length = min(8, target.prefill_chunk)
    filled = min(length + 3, target.cache_length)
    example = (torch.zeros(1, length, dtype=torch.int64), torch.zeros(1, dtype=torch.int64), torch.zeros(length, filled))
    # A chunk of one token is no dimension at all.
    sequence = Dim("sequence", min=1, max=target.prefill_chunk) if target.prefill_chunk > 1 else None
    cached = Dim("filled", min=1, max=target.cache_length)
    return export(module, example, dynamic_shapes=({1: sequence}, None, {0: sequence, 1: cached}), strict=False)


def delegate(program: ExportedProgram) -> EdgeProgramManager:
    """Hands the program to XNNPACK. The weights that went into the delegate are freed from ``program``.

    Raises `FirstTokenError` if XNNPACK does not take one of the linear layers.
    """
    # The dimension-order dialect would only add checks; the graph is contiguous throughout.
    config = EdgeCompileConfig(_check_ir_validity=False, _skip_dim_order=True)
    try:
        with lean_preprocessing():
            return to_edge_transform_and_lower(program, partitioner=[DecoderPartitioner()], compile_config=config)
    except RuntimeError as error:
        first = str(error).partition("\n")[0]
        raise FirstTokenError(
            f"lowering: ExecuTorch or XNNPACK refused the model ({first}); is executorch another version than 1.5.1?"
        ) from error


def write(edge: EdgeProgramManager, path: Path, report: Report) -> None:
    """Plans memory and writes the file."""
    report("write", 0, 1, "file")
    executorch = edge.to_executorch(
        ExecutorchBackendConfig(
            extract_delegate_segments=True,
            run_reinplace_pass=True,  # cache rows are written in place; otherwise each call copies the whole cache twice
            memory_planning_pass=MemoryPlanningPass(alloc_graph_input=False),  # inputs are the host's own memory
        )
    )
    with open(path, "wb") as stream:
        executorch.write_to_file(stream)
    report("write", 1, 1, "file")


def describe(job: LoweringJob) -> Lowered:
    """The written file as the manifest describes it. A layer's cache has the dtype of its core."""
    decoder, target = job.decoder, job.target
    forward = Method(
        name="forward",
        inputs=[
            Tensor(name="tokens", shape=[1, "sequence"], dtype="int64"),
            Tensor(name="position", shape=[1], dtype="int64"),
            Tensor(name="mask", shape=["sequence", "filled"], dtype="float32"),
        ],
        outputs=[Tensor(name="logits", shape=[1, 1, decoder.vocab_size], dtype="float32")],
    )
    kept = key_value_states(
        decoder,
        "artifact",
        # One row more than is used: see backends.executorch.core.Core.
        lambda state: [1, target.cache_length + 1, state.kv_heads, state.head_dim],
        1,
        lambda state: "float16" if job.precisions[state.name] == "fp16" else "float32",
        target.cache_length,
    )
    artifact = Artifact(
        file="model.pte",
        backend=target.cpu_backend,
        needs=Needs(runtime=target.runtime, min_runtime=target.min_runtime),
        methods=[forward],
        states=kept,
    )
    return Lowered([artifact])


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Silences the libraries' warnings and logs below errors, unless ``-v`` asks for them."""
    if is_verbose():
        yield
        return
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def free_memory() -> None:
    """Collects garbage and gives the allocator's free pages back to the system."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
    if trim:
        trim(0)
