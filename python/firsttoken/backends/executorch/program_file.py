"""Reading a written .pte: its instructions, and the matrix products inside XNNPACK's payloads. No weight is read."""

import json
import re
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path
from subprocess import CalledProcessError
from typing import BinaryIO

from executorch.backends.xnnpack.serialization.xnnpack_graph_serialize import XNNHeader, _get_schema_bytes
from executorch.exir._serialize._flatbuffer import _run_flatc
from executorch.exir._serialize._flatbuffer_program import _flatbuffer_to_program
from executorch.exir._serialize._program import _ExtendedHeader
from executorch.exir.scalar_type import ScalarType
from executorch.exir.schema import BackendDelegate, DelegateCall, ExecutionPlan, KernelCall, Program

from firsttoken.bundle.manifest import HostTable
from firsttoken.errors import FirstTokenError
from firsttoken.plain_file import open_plain, why
from firsttoken.precisions import with_group
from firsttoken.safe_text import visible

# XNNPACK's node types and what the runtime's trace calls them.
EVENTS = {"XNNFullyConnected": "Fully Connected", "XNNBatchMatrixMultiply": "Batch Matrix Multiply", "XNNSoftmax": "Softmax"}
# ExecuTorch's own kernels for the same.
KERNELS = {
    "aten::linear": "XNNFullyConnected", "aten::addmm": "XNNFullyConnected", "aten::mm": "XNNFullyConnected",
    "aten::bmm": "XNNBatchMatrixMultiply", "aten::_softmax": "XNNSoftmax",
}  # fmt: skip
# flatc writes a ReLU's open end as `inf`, which is no JSON, not even Python's.
NOT_FINITE, spelled = re.compile(r'(?<=": )(-?)(inf|nan)\b'), lambda found: found[1] + {"inf": "Infinity", "nan": "NaN"}[found[2]]
STORED = {"fp32": "fp32", "fp16": "fp16", "qcint8": "int8"}
SCALARS = {ScalarType.FLOAT: "fp32", ScalarType.HALF: "fp16", ScalarType.CHAR: "int8", ScalarType.BYTE: "int4"}  # bytes hold packed int4

# What ExecuTorch's parsers and flatc raise over files that do not hang together.
DAMAGED = (
    OSError, ValueError, TypeError, IndexError, KeyError, AttributeError, AssertionError, OverflowError, RecursionError, struct.error,
    CalledProcessError, NotImplementedError,
)  # fmt: skip


@dataclass(frozen=True)
class Product:
    """One fully connected layer, batched product or softmax of a delegate, or of ExecuTorch's own kernels.

    ``order`` is its place in the traced graph, ``shape`` its weight's ``(rows, columns)``, ``stored`` the weight's
    precision, ``key`` the SHA-256 of its content. None where it has no weight or the kernel knows no more.
    """

    kind: str
    delegated: bool
    order: int | None = None
    shape: tuple[int, ...] | None = None
    stored: str | None = None
    key: str | None = None


@dataclass(frozen=True)
class Step:
    """One instruction: a kernel's name with its tensors' precisions and shapes, or a delegate's products."""

    number: int
    operator: str | None
    tensors: list[tuple[str | None, tuple[int, ...]] | None]
    products: list[Product]

    @property
    def first_stored(self) -> str:
        """What its first argument, a tensor, is stored in."""
        first = self.tensors[0]
        assert first is not None, f"the first argument of {self.operator} is no tensor"
        return first[0] or "unknown"


def read_steps(artifact: Path) -> list[Step]:
    """Returns the instructions of the method ``forward``. Raises `FirstTokenError` if ``artifact`` is not a .pte of that form."""
    try:
        with open_plain(artifact) as stream:
            header = _ExtendedHeader.from_bytes(stream.read(64)[8:])
            if not header.is_valid():
                raise ValueError("no ExecuTorch header")
            stream.seek(0)
            program = _flatbuffer_to_program(stream.read(header.program_size))
            delegates = forward_plan(program).delegates
            payloads = [read_payload(stream, header.segment_base_offset, program, delegate) for delegate in delegates]
        return list_steps(program, decompile(payloads))
    except DAMAGED as error:
        raise FirstTokenError(f"{artifact}: not a .pte that this firsttoken can read ({cause(error)}); export it again") from None


def forward_plan(program: Program) -> ExecutionPlan:
    """Returns the method ``forward``; beside it stand methods that return constants."""
    plan = next((plan for plan in program.execution_plan if plan.name == "forward"), None)
    if plan is None:
        raise ValueError("it has no method forward")
    return plan


def embedding_table(artifact: Path) -> HostTable:
    """Finds the embedding in a written .pte, so that a host can look rows up without a second copy.

    Raises `FirstTokenError` if the program does not look one up in float32, float16 or int8, or if it lies outside the file.
    """
    types = {ScalarType.FLOAT: ("float32", 4), ScalarType.HALF: ("float16", 2), ScalarType.CHAR: ("int8", 1)}
    try:
        with open_plain(artifact) as stream:
            header = _ExtendedHeader.from_bytes(stream.read(64)[8:])
            stream.seek(0)
            program = _flatbuffer_to_program(stream.read(header.program_size))
        plan, constants = forward_plan(program), program.constant_segment
        start = header.segment_base_offset + program.segments[constants.segment_index].offset
        calls = [i.instr_args for i in plan.chains[0].instructions if isinstance(i.instr_args, KernelCall)]
        call = next(c for c in calls if plan.operators[c.op_index].name in ("quantized_decomposed::embedding_byte", "aten::embedding"))
        table, scales = (plan.values[index].val for index in call.args[:2])
        dtype, size = types[table.scalar_type]
        (rows, columns), offset = table.sizes, start + constants.offsets[table.data_buffer_idx]
        scales_offset = start + constants.offsets[scales.data_buffer_idx] if dtype == "int8" else None
    except (*DAMAGED, StopIteration) as error:
        raise FirstTokenError(
            f"{artifact}: no embedding table that a host can read ({cause(error)}); give the embedding fp32, fp16 or int8 in the plan"
        ) from None
    if max(offset + rows * columns * size, (scales_offset or 0) + 4 * rows) > artifact.stat().st_size:
        raise FirstTokenError(f"{artifact}: its embedding table is cut short; export it again")
    return HostTable(file=artifact.name, dtype=dtype, rows=rows, columns=columns, offset=offset, scales_offset=scales_offset)


def cause(error: Exception) -> str:
    """What went wrong in a few words: flatc's error would repeat its command, and a parser's mean nothing to a reader."""
    if isinstance(error, CalledProcessError):
        return "its XNNPACK graphs are damaged"
    return visible(why(error)) if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: {visible(error)}"


def read_payload(stream: BinaryIO, base: int, program: Program, delegate: BackendDelegate) -> bytes:
    """Returns the flatbuffer of one XNNPACK graph."""
    if delegate.id != "XnnpackBackend":
        raise ValueError(f"delegate {delegate.id}, expected XnnpackBackend")
    segment = program.segments[delegate.processed.index]
    stream.seek(base + segment.offset)
    raw = stream.read(segment.size)
    header = XNNHeader.from_bytes(raw[: XNNHeader.EXPECTED_LENGTH])
    return raw[header.flatbuffer_offset : header.flatbuffer_offset + header.flatbuffer_size]


def decompile(payloads: list[bytes]) -> list[list[Product]]:
    """Returns the products of each XNNPACK graph, in its order."""
    return [list_products(graph) for graph in decompiled(payloads)]


def decompiled(payloads: list[bytes]) -> list[dict]:
    """Returns each XNNPACK graph by its fields. The schema and the decompiler are ExecuTorch's own."""
    with tempfile.TemporaryDirectory() as folder:
        schema = Path(folder, "schema.fbs")
        schema.write_bytes(_get_schema_bytes())
        files = [Path(folder, f"{number}.bin") for number in range(len(payloads))]
        for file, payload in zip(files, payloads, strict=True):
            file.write_bytes(payload)
        _run_flatc(["--json", "--strict-json", "--defaults-json", "-o", folder, str(schema), "--", *map(str, files)])
        return [json.loads(NOT_FINITE.sub(spelled, file.with_suffix(".json").read_text())) for file in files]


def list_products(graph: dict) -> list[Product]:
    """Returns the products of one decompiled XNNPACK graph."""
    values, quantized = {}, {}
    for entry in graph["xvalues"]:
        value = entry["xvalue_union"].get("tensor_value", entry["xvalue_union"])
        values[value["id_out"]] = value
        quantized[value["id_out"]] = entry["xvalue_union"].get("quant_params")
    products = []
    for node in graph["xnodes"]:
        kind, union = node["xnode_union_type"], node["xnode_union"]
        if kind == "XNNFullyConnected":
            weight = values[union["filter_id"]]
            key = graph["constant_data"][weight["constant_buffer_idx"]]["named_key"]
            products.append(
                Product(kind, True, node["debug_handle"], tuple(weight["dims"]), stored_as(weight, quantized.get(union["filter_id"])), key)
            )
        elif kind in EVENTS:
            products.append(Product(kind, True, node["debug_handle"]))
    return products


def stored_as(weight: dict, parameters: dict | None) -> str:
    """A weight's precision, and of int4 how many columns share a scale by what the payload says of its scales."""
    kind, (_, columns) = weight["datatype"].removeprefix("xnn_datatype_"), weight["dims"]
    if kind == "qcint4":
        return with_group("int4", columns, columns)
    if kind == "qbint4" and parameters is not None:
        return f"int4/{parameters['group_size']}"
    return STORED.get(kind, kind)


def list_steps(program: Program, delegates: list[list[Product]]) -> list[Step]:
    """Returns the instructions of the program's method ``forward``."""
    plan = forward_plan(program)

    def describe(index: int) -> tuple[str | None, tuple[int, ...]] | None:
        value = plan.values[index].val
        return (SCALARS.get(value.scalar_type), tuple(value.sizes)) if hasattr(value, "scalar_type") else None

    steps = []
    for number, instruction in enumerate(plan.chains[0].instructions):
        call = instruction.instr_args
        if isinstance(call, DelegateCall):
            steps.append(Step(number, None, [], delegates[call.delegate_index]))
        elif isinstance(call, KernelCall):
            name = plan.operators[call.op_index].name
            tensors = [describe(index) for index in call.args]
            products = []
            if name in KERNELS:
                matrices = [tensor for tensor in tensors if tensor and len(tensor[1]) == 2]
                stored, shape = matrices[0] if matrices and name == "aten::linear" else (None, None)
                products.append(Product(KERNELS[name], False, None, shape, stored))
            steps.append(Step(number, name, tensors, products))
    return steps
