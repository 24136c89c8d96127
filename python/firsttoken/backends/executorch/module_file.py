"""What a written .pte of a module computes with, read from the file: every operator of XNNPACK's graphs and of ExecuTorch's own kernels that has a constant
or multiplies activations, and the bytes of the constants."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

from executorch.exir._serialize._flatbuffer_program import _flatbuffer_to_program
from executorch.exir._serialize._program import _ExtendedHeader
from executorch.exir.schema import DelegateCall, KernelCall, Program
from executorch.exir.schema import Tensor as FileTensor

from firsttoken.backends.executorch.flatbuffer import child, number, root_of, tables
from firsttoken.backends.executorch.packing import INSIDE, SCALE, SCALES, VALUES
from firsttoken.backends.executorch.program_file import DAMAGED, SCALARS, STORED, cause, decompiled, forward_plan, read_payload
from firsttoken.bundle.integer_facts import IntegerScale
from firsttoken.errors import FirstTokenError
from firsttoken.plain_file import open_plain
from firsttoken.precisions import with_group

WEIGHTED = ("XNNFullyConnected", "XNNConv2d", "XNNDepthwiseConv2d", "XNNConvTranspose2d")
CORE = ("XNNBatchMatrixMultiply", "XNNSoftmax")
FLOATS = {"fp32": "fp32", "fp16": "fp16"}
INTEGERS = {"qdint8": "int8", "qint8": "int8"}
"""Inputs of a product by XNNPACK's types: rounded as they come, or by a scale that is in the file."""


@dataclass(frozen=True)
class Use:
    """One operator. ``key``: the SHA-256 of its constant's bytes; ``order``: its place in the traced graph, where XNNPACK has it.

    ``computed``: the precision of its products. ``dynamic``: its input is rounded as it comes; else ``scales`` are those of input and output, if integers.
    """

    kind: str
    delegated: bool
    computed: str
    stored: str = ""
    key: str = ""
    order: int = 0
    dynamic: bool = False
    scales: tuple[IntegerScale, ...] = ()


def read_uses(path: Path) -> list[Use]:
    """Every operator that `Use` tells of, those of XNNPACK in the order of the traced graph.

    Raises `FirstTokenError` for what is no .pte, or has a constant whose bytes are not those of its name.
    """
    try:
        with open_plain(path) as stream:
            header = _ExtendedHeader.from_bytes(stream.read(64)[8:])
            if not header.is_valid():
                raise ValueError("no ExecuTorch header")
            stream.seek(0)
            program = _flatbuffer_to_program(stream.read(header.program_size))
            plan, base = forward_plan(program), header.segment_base_offset
            called = [
                instruction.instr_args.delegate_index
                for instruction in plan.chains[0].instructions
                if isinstance(instruction.instr_args, DelegateCall)
            ]
            payloads = [read_payload(stream, base, program, plan.delegates[index]) for index in called]
            graphs = [with_exact_scales(graph, payload) for graph, payload in zip(decompiled(payloads), payloads, strict=True)]
            uses = sorted((use for graph in graphs for use in delegated_uses(graph)), key=lambda use: use.order)
            check_named(stream, base, program, {use.key for use in uses if use.key}, path)
            return uses + list(own_uses(stream, base, program))
    except DAMAGED as error:
        raise FirstTokenError(f"{path}: not a .pte of a module that this firsttoken can read ({cause(error)}); export it again") from None


def check_named(stream: BinaryIO, base: int, program: Program, keys: set[str], path: Path) -> None:
    """Raises `FirstTokenError` where a constant is absent or has other bytes than its name says: XNNPACK itself does not look."""
    named = {entry.key: program.segments[entry.segment_index] for entry in program.named_data or []}
    for key in sorted(keys | {name for name in named if name.startswith("scale_")}):
        if key not in named:
            raise FirstTokenError(f"{path}: it lacks the constant {key[:12]}; export it again")
        stream.seek(base + named[key].offset)
        if sha256(stream.read(named[key].size)).hexdigest() != key.removeprefix("scale_"):
            raise FirstTokenError(f"{path}: the bytes of its constant {key[:18]} were changed; export it again")


def delegated_uses(graph: dict[str, Any]) -> Iterator[Use]:
    """Of one XNNPACK graph."""
    values = {}
    for entry in graph["xvalues"]:
        union = entry["xvalue_union"]
        tensor = union.get("tensor_value", union)
        values[tensor["id_out"]] = (tensor, union.get("quant_params"))
    for node in graph["xnodes"]:
        kind, union = node["xnode_union_type"], node["xnode_union"]
        if kind in WEIGHTED:
            weight, weight_scales = values[union["filter_id"]]
            taken, given = values[union["input1_id"]], values[union["output_id"]]
            source = type_of(taken[0])
            stored = stored_as(weight, weight_scales)
            computed = FLOATS.get(source) or ("int4" if stored.startswith("int4") else INTEGERS.get(source, source))
            key = graph["constant_data"][weight["constant_buffer_idx"]]["named_key"] if weight["constant_buffer_idx"] else ""
            scales = tuple(
                IntegerScale(scale=one["scale"], zero_point=one["zero_point"]) for _, one in (taken, given) if one and "scale" in one
            )
            static = source == "qint8"
            yield Use(kind, True, computed, stored, key, node["debug_handle"], source == "qdint8", scales if static else ())
        elif kind in CORE:
            first = union.get("input1_id", union.get("input_id"))
            yield Use(kind, True, FLOATS.get(type_of(values[first][0]), type_of(values[first][0])), order=node["debug_handle"])


def with_exact_scales(graph: dict[str, Any], payload: bytes) -> dict[str, Any]:
    """The graph with its scales from the bytes: flatc prints six decimal places of them."""
    for entry, value in zip(graph["xvalues"], tables(root_of(payload), VALUES), strict=True):
        parameters = entry["xvalue_union"].get("quant_params")
        if parameters and "scale" in parameters and not isinstance(parameters["scale"], list):
            bits = number(child(child(value, INSIDE), SCALES), SCALE)
            parameters["scale"] = struct.unpack("<f", struct.pack("<I", bits))[0]
    return graph


def type_of(tensor: dict[str, Any]) -> str:
    return tensor["datatype"].removeprefix("xnn_datatype_")


def stored_as(weight: dict[str, Any], scales: dict[str, Any] | None) -> str:
    """A weight's precision, and of int4 how many columns share a scale."""
    kind = type_of(weight)
    if kind == "qcint4":
        return with_group("int4", weight["dims"][-1], weight["dims"][-1])
    if kind == "qbint4" and scales is not None:
        return f"int4/{scales['group_size']}"
    return STORED.get(kind, kind)


def own_uses(stream: BinaryIO, base: int, program: Program) -> Iterator[Use]:
    """Constants of at least a matrix's shape that ExecuTorch's own kernels take."""
    plan, constants = forward_plan(program), program.constant_segment
    start = base + program.segments[constants.segment_index].offset if program.segments and constants.offsets else 0
    for instruction in plan.chains[0].instructions:
        call = instruction.instr_args
        if not isinstance(call, KernelCall):
            continue
        for index in call.args:
            value = plan.values[index].val
            if not isinstance(value, FileTensor) or not value.data_buffer_idx or len(value.sizes) < 2:
                continue
            if value.allocation_info is not None or (
                value.extra_tensor_info is not None and value.extra_tensor_info.fully_qualified_name and not constants.offsets
            ):
                continue
            stored = SCALARS.get(value.scalar_type)
            size = {"fp32": 4, "fp16": 2, "int8": 1, "int4": 1}.get(stored or "", 0)
            for dimension in value.sizes:
                size *= dimension
            if stored is None:
                continue
            stream.seek(start + constants.offsets[value.data_buffer_idx])
            computed = "fp32" if stored.startswith("int") else stored
            yield Use(plan.operators[call.op_index].name, False, computed, stored, sha256(stream.read(size)).hexdigest())
