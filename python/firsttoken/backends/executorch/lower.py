"""Lowering a decoder checkpoint to .pte: quantize, trace, hand to XNNPACK, write one file.

Its form is the one that ExecuTorch's own LLM runner takes: ``forward(tokens, cache_position)``, and methods that return
constants by which the runner knows cache, vocabulary and end tokens."""

import ctypes
import gc
import logging
import warnings
from collections.abc import Iterator, Mapping
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
from firsttoken.backends.lowering_result import Lowered, key_value_states, with_convolutions
from firsttoken.backends.recurrence import CHUNK
from firsttoken.bundle.manifest import Artifact, Method, Needs, Tensor
from firsttoken.decoder.walk import delta_rules
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
        program = trace(module, job.target, longest_call(job))
        del module
        report("trace", 1, 1, "graph")
        report("delegate", 0, 1, "graph")
        edge = delegate(program, constant_methods(job))
        del program
        free_memory()
        check_structure(edge.exported_program(), job.decoder, job.written)
        report("delegate", 1, 1, "graph")
        write(edge, path, report)
    return describe(job)


def longest_call(job: LoweringJob) -> int:
    """How many tokens one call takes: up to the whole cache, for a host may pass a prompt in one call; with delta rules no more than they do."""
    return min(CHUNK, job.target.cache_length) if delta_rules(job.decoder) else job.target.cache_length


def trace(module: DecoderModule, target: Target, longest: int | None = None) -> ExportedProgram:
    """Exports the decoder with a dynamic number of tokens, up to ``longest`` or the whole cache."""
    length = min(8, target.cache_length)
    example = (torch.zeros(1, length, dtype=torch.int64), torch.arange(length))
    sequence = Dim("sequence", min=1, max=longest or target.cache_length)
    return export(module, example, dynamic_shapes=({1: sequence}, {0: sequence}), strict=False)


def constant_methods(job: LoweringJob) -> dict[str, int | bool | list[int]]:
    """What the program says of itself, under the names that ExecuTorch's LLM runner asks for."""
    said: dict[str, int | bool | list[int]] = {
        "get_max_seq_len": job.target.cache_length,  # shorter than the context, the runner would take it for a sliding window
        "get_max_context_len": job.target.cache_length,
        "get_vocab_size": job.decoder.vocab_size,
        "use_kv_cache": True,
        "use_sdpa_with_kv_cache": False,
        "enable_dynamic_shape": True,  # otherwise the runner passes a prompt token by token
    }
    if job.ends:
        said["get_eos_ids"] = list(job.ends)
    if job.begin is not None:
        said["get_bos_id"] = job.begin
    return said


def delegate(program: ExportedProgram, constants: Mapping[str, int | bool | list[int]]) -> EdgeProgramManager:
    """Hands the program to XNNPACK. The weights that went into the delegate are freed from ``program``.

    Raises `FirstTokenError` if XNNPACK does not take one of the linear layers.
    """
    # The dimension-order dialect would only add checks; the graph is contiguous throughout.
    config = EdgeCompileConfig(_check_ir_validity=False, _skip_dim_order=True)
    try:
        with lean_preprocessing():
            return to_edge_transform_and_lower(
                program, partitioner=[DecoderPartitioner()], constant_methods=dict(constants), compile_config=config
            )
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
            Tensor(name="cache_position", shape=["sequence"], dtype="int64"),
        ],
        outputs=[Tensor(name="logits", shape=[1, 1 if target.draft_tokens is None else "rows", decoder.vocab_size], dtype="float32")],
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
        states=with_convolutions(kept, decoder, "artifact"),
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
