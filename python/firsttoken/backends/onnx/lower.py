"""Lowering a decoder checkpoint to ONNX: the graph in one file, the weights in another beside it, what onnxruntime-genai asks in a third."""

from pathlib import Path
from typing import TYPE_CHECKING

from firsttoken.backends.interface import LoweringJob
from firsttoken.backends.lowering_result import Lowered, key_value_states
from firsttoken.backends.onnx.cores import CACHED
from firsttoken.backends.onnx.genai import CONFIG_FILE, genai_config, why_no_genai
from firsttoken.backends.onnx.graph import IR_VERSION, MICROSOFT, OPSET
from firsttoken.backends.onnx.ops import OnnxOps
from firsttoken.backends.onnx.weights import plan_weights, write_weights
from firsttoken.bundle.manifest import WEIGHTS_BESIDE, Artifact, Method, Needs, State, Tensor
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import convolution_states, recurrent_states
from firsttoken.progress import Report, silent

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto

DATA_SHA256 = "firsttoken.weights_sha256"
METHOD = "forward"
DTYPE_NAMES = {1: "float32", 6: "int32", 7: "int64", 10: "float16"}


def data_file(artifact: Path) -> Path:
    """Where the weights of a graph lie."""
    return artifact.with_name(artifact.name + WEIGHTS_BESIDE)


def lower_decoder(job: LoweringJob, path: Path, report: Report = silent) -> Lowered:
    """Writes ``path``, its weights beside it and, where onnxruntime-genai can run it, its configuration; returns what the manifest says of them.

    Memory follows `weights.CHUNK_BYTES` and one matrix's scales, not the weights. Raises `FirstTokenError` for damaged weights and ``OSError`` when the disk is full; what was
    written is then the caller's to remove.
    """
    weights = plan_weights(job)
    graph = OnnxOps(data_file(path).name, job.decoder, weights, dict(job.precisions))
    graph.build()
    sha256 = write_weights(data_file(path), weights, job.checkpoint, report)
    model = model_of(graph, job, sha256)
    path.write_bytes(model.SerializeToString(deterministic=True))
    beside, notes = [data_file(path).name], []
    if (why := why_no_genai(job.decoder)) is None:
        (path.parent / CONFIG_FILE).write_text(genai_config(job, path.name), encoding="utf-8")
        beside.append(CONFIG_FILE)
    else:
        notes.append(f"without {CONFIG_FILE}: {why}")
    artifact = Artifact(
        file=path.name,
        backend=job.target.cpu_backend,
        needs=Needs(runtime=job.target.runtime, min_runtime=job.target.min_runtime),
        methods=[Method(name=METHOD, inputs=described(model.graph.input), outputs=described(model.graph.output))],
        states=states_of(job),
    )
    return Lowered([artifact], notes, beside)


def model_of(graph: OnnxOps, job: LoweringJob, sha256: str) -> "ModelProto":
    """The whole model. It names the SHA-256 of its weights, so that its own hash is that of both."""
    from onnx import helper

    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
    model = helper.make_model(
        graph.finish(f"firsttoken {job.plan.name} {job.target.name}"),
        opset_imports=opsets,
        ir_version=IR_VERSION,
        producer_name="firsttoken",
    )
    helper.set_model_props(model, {DATA_SHA256: sha256})
    return model


def described(values: "list[ValueInfoProto]") -> list[Tensor]:
    """A graph's inputs or outputs as the manifest describes them."""
    found = []
    for value in values:
        held = value.type.tensor_type
        shape: list[int | str] = [dim.dim_param or int(dim.dim_value) for dim in held.shape.dim]
        found.append(Tensor(name=value.name, shape=shape, dtype=DTYPE_NAMES[held.elem_type]))
    return found


def states_of(job: LoweringJob) -> list[State]:
    """What the host keeps: keys and values that a call writes its rows into, and what it replaces."""
    cache = key_value_states(
        job.decoder,
        "host",
        lambda state: [1, state.kv_heads, CACHED, state.head_dim],
        2,
        lambda state: "float16" if job.precisions[state.name] == "fp16" else "float32",
        job.target.cache_length,
        advances="in_place",
    )
    return sorted([*cache, *replaced(job.decoder)], key=lambda state: state.layer)


def replaced(decoder: Decoder) -> list[State]:
    inputs = [
        State(
            layer=kept.layer, kind="convolution", held_by="host", shape=[1, kept.channels, kept.rows], dtype="float32",
            advances="replace", axis=2, length=kept.rows,
        )
        for kept in convolution_states(decoder)
    ]  # fmt: skip
    memory = [
        State(
            layer=held.layer, kind="recurrent", held_by="host", shape=[1, held.heads, held.key_dim, held.value_dim], dtype="float32",
            advances="replace", axis=1, length=1,
        )
        for held in recurrent_states(decoder)
    ]  # fmt: skip
    return [*inputs, *memory]
