"""What a written .pte really holds and runs: per layer the stored dtype, the dtype it is computed in, and who computes it.

Stored dtypes come from the program and XNNPACK's payloads inside it; computed dtypes from the runtime's own event
trace (ETDump) of one call. Both list the operators in the order they run, which is the order of the layers.
"""

import importlib.resources
import json
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from firsttoken.decoder.config import DecoderConfig
from firsttoken.decoder.families import plan_layers
from firsttoken.errors import FirstTokenError
from firsttoken.export.manifest import AuditRow
from firsttoken.quiet import quiet_runtime

# XNNPACK's names of weight types and kernels, the longest match first.
STORED = {"qbint4": "int4", "qcint4": "int4", "qcint8": "int8", "fp16": "fp16", "fp32": "fp32"}
COMPUTED = {"QB4W": "int4", "QC4W": "int4", "QC8W": "int8", "F16": "fp16", "F32": "fp32"}
SCALAR_TYPES = {"FLOAT": "fp32", "HALF": "fp16", "CHAR": "int8", "BYTE": "int4"}  # int4 tables are packed in bytes
EMBEDDINGS = {"embedding_byte": "int8", "embedding_4bit": "int4"}
TRACED_TOKENS = 5
UNKNOWN = "unknown"


@dataclass
class Linear:
    """A fully connected operator of the program, in the order they run."""

    rows: int
    columns: int
    stored: str
    computed: str = UNKNOWN


def audit(artifact: Path, config: DecoderConfig, precisions: dict[str, str]) -> list[AuditRow]:
    """Returns a row for every layer of the plan, in order. A linear layer that the delegate did not take is shown as unknown.

    An embedding is a table lookup: it is computed in FP32 whatever it is stored in. Raises `FirstTokenError` if the file
    is not an ExecuTorch program, cannot be traced, or its trace does not fit its payloads.
    """
    with quiet_runtime():
        program = read_program(artifact)
        events = trace(artifact)
    linears = delegated_linears(program)
    kernels = [name for name in events if name.startswith("Fully Connected")]
    if len(kernels) != len(linears):
        raise FirstTokenError(f"{artifact}: the trace shows {len(kernels)} fully connected kernels, the payloads {len(linears)}; they cannot be matched")
    for linear, kernel in zip(linears, kernels, strict=True):
        linear.computed = computed_type(kernel)
    found = match_linears(linears, config)
    cores = core_types(events)
    caches = cache_types(program)
    table = embedding_type(program)
    rows = []
    for layer in plan_layers(config):
        asked = precisions[layer.name]
        if layer.kind == "embedding":
            rows.append(AuditRow(layer=layer.name, asked=asked, stored=table, computed="fp32", delegated=False))
        elif layer.kind == "core":
            number = int(layer.name.split(".")[1])
            computed = cores[number] if number < len(cores) else UNKNOWN
            stored = caches[number] if number < len(caches) else UNKNOWN
            rows.append(AuditRow(layer=layer.name, asked=asked, stored=stored, computed=computed, delegated=computed != UNKNOWN))
        else:
            linear = found.get(layer.name)
            stored, computed = (linear.stored, linear.computed) if linear else (UNKNOWN, UNKNOWN)
            rows.append(AuditRow(layer=layer.name, asked=asked, stored=stored, computed=computed, delegated=linear is not None))
    return rows


def read_program(artifact: Path):
    """Returns the program's structure, without its weights. Raises `FirstTokenError` for another kind of file."""
    from executorch.exir._serialize._program import deserialize_pte_binary

    try:
        return deserialize_pte_binary(artifact.read_bytes()).program
    except Exception as error:
        raise FirstTokenError(f"{artifact}: not an ExecuTorch program ({error})") from None


def trace(artifact: Path) -> list[str]:
    """Runs one short prompt and returns the names of the kernels that ran, in order."""
    import executorch.kernels.quantized  # noqa: F401 registers the quantized embedding's kernels
    import torch
    from executorch.devtools import Inspector
    from executorch.extension.pybindings import portable_lib

    from firsttoken.decoder.rotary import causal_mask

    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "trace.etdp")
        try:
            program = portable_lib._load_for_executorch(str(artifact), enable_etdump=True)
            tokens = torch.zeros(1, TRACED_TOKENS, dtype=torch.int64)
            program.run_method("forward", [tokens, torch.tensor([0]), causal_mask(TRACED_TOKENS)])
            program.write_etdump_result_to_file(file)
        except RuntimeError as error:
            raise FirstTokenError(f"{artifact}: ExecuTorch cannot run it ({error})") from None
        blocks = Inspector(etdump_path=file).event_blocks
    return [event.name for block in blocks if block.name == "Execute" for event in block.events]


def payload(program, index: int) -> dict:
    """Returns one of XNNPACK's payloads as its flatbuffer schema describes it."""
    import executorch.backends.xnnpack.serialization as serialization
    from executorch.backends.xnnpack.serialization.xnnpack_graph_serialize import XNNHeader
    from executorch.exir._serialize._flatbuffer import _flatc_decompile

    raw = bytes(program.backend_delegate_data[index].data)
    header = XNNHeader.from_bytes(raw[: XNNHeader.EXPECTED_LENGTH])
    with tempfile.TemporaryDirectory() as folder:
        binary, schema = Path(folder) / "graph.bin", Path(folder) / "schema.fbs"
        binary.write_bytes(raw[header.flatbuffer_offset : header.flatbuffer_offset + header.flatbuffer_size])
        schema.write_bytes(importlib.resources.files(serialization).joinpath("schema.fbs").read_bytes())
        _flatc_decompile(folder, str(schema), str(binary), ["--raw-binary"])
        return json.loads((Path(folder) / "graph.json").read_text())


def delegated_linears(program) -> list[Linear]:
    """Every fully connected operator that XNNPACK runs, in order, with the shape and type of its weight."""
    plan, linears = program.execution_plan[0], []
    for instruction in plan.chains[0].instructions:
        delegate_index = getattr(instruction.instr_args, "delegate_index", None)
        if delegate_index is None:
            continue
        delegate = plan.delegates[delegate_index]
        if delegate.id != "XnnpackBackend":
            continue
        graph = payload(program, delegate.processed.index)
        values = dict(described(value["xvalue_union"]) for value in graph["xvalues"])
        for node in graph["xnodes"]:
            if node["xnode_union_type"] == "XNNFullyConnected":
                dimensions, kind = values[node["xnode_union"]["filter_id"]]
                linears.append(Linear(dimensions[0], dimensions[1], stored_type(kind)))
    return linears


def described(value: dict) -> tuple[int, tuple[list[int], str]]:
    """Returns a value's id, and its dimensions and type."""
    tensor = value.get("tensor_value", value)  # a quantized value wraps a plain one
    return tensor.get("id_out", 0), (tensor.get("dims", []), tensor.get("datatype", ""))


def stored_type(kind: str) -> str:
    """Our name of one of XNNPACK's data types."""
    return next((ours for theirs, ours in STORED.items() if theirs in kind), kind)


def computed_type(kernel: str) -> str:
    """Our name of what a kernel computes in, from a name such as ``Fully Connected (NC, QDU8, F32, QC8W) GEMM #1``."""
    match = re.search(r"\(([^)]*)\)", kernel)
    types = match[1].replace(" ", "").split(",") if match else []
    return next((ours for theirs, ours in COMPUTED.items() if theirs in types), kernel)


def match_linears(linears: list[Linear], config: DecoderConfig) -> dict[str, Linear]:
    """Assigns operators to layers by order and shape; the ones between them (norms' means, rotations) are passed over."""
    wanted = [(layer.name, layer.shape) for layer in plan_layers(config) if layer.kind == "linear"]
    found, position = {}, 0
    for linear in linears:
        shape = (linear.rows, linear.columns)
        if shape in ((1, config.hidden_size), (1, config.head_dim), (config.head_dim, config.head_dim)) and shape != wanted[position][1]:
            continue
        match = next((n for n in range(position, len(wanted)) if wanted[n][1] == shape), None)
        if match is None:
            raise FirstTokenError(f"the program has a fully connected operator of {shape[0]} x {shape[1]} that is none of the model's layers")
        found[wanted[match][0]] = linear
        position = match + 1
        if position == len(wanted):
            break
    return found


def core_types(events: list[str]) -> list[str]:
    """What each layer's two batched products are computed in, layer by layer; unknown where one ran outside the delegate."""
    products = [UNKNOWN if name.startswith("native_call_bmm") else computed_type(name) for name in events
                if name.startswith(("Batch Matrix Multiply", "native_call_bmm"))]
    pairs = zip(products[0::2], products[1::2], strict=False)
    return [UNKNOWN if UNKNOWN in pair else "/".join(sorted(set(pair))) for pair in pairs]


def cache_types(program) -> list[str]:
    """What each layer's keys and values are stored in: the tensors that are written in place."""
    plan = program.execution_plan[0]
    written = [types for types in tensor_arguments(plan, "aten::index_put_")]
    kinds = [types[0] if types else UNKNOWN for types in written]
    return ["/".join(sorted(set(pair))) for pair in zip(kinds[0::2], kinds[1::2], strict=False)]


def embedding_type(program) -> str:
    """What the embedding table is stored in, by the operator that looks it up."""
    plan = program.execution_plan[0]
    names = [operator.name.split("::")[-1] for operator in plan.operators]
    quantized = next((EMBEDDINGS[name] for name in names if name in EMBEDDINGS), None)
    if quantized:
        return quantized
    types = next(iter(tensor_arguments(plan, "aten::embedding")), [])
    return types[0] if types else UNKNOWN


def tensor_arguments(plan, operator: str) -> list[list[str]]:
    """Types of the tensor arguments of every call of ``operator``."""
    calls = []
    for instruction in plan.chains[0].instructions:
        index = getattr(instruction.instr_args, "op_index", None)
        if index is not None and plan.operators[index].name == operator:
            tensors = [plan.values[n].val for n in instruction.instr_args.args]
            calls.append([SCALAR_TYPES.get(t.scalar_type.name, t.scalar_type.name) for t in tensors if hasattr(t, "scalar_type")])
    return calls
