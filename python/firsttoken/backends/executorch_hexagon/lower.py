"""Lowering for a Hexagon NPU through ExecuTorch's Qualcomm backend: the CPU .pte, and beside it one compiled for a Snapdragon.

**Never compiled where firsttoken is developed**: the SDK that the wheel was built against (`sdk`) cannot be had there.
What runs without it is tested: the graphs, ExecuTorch's own passes and translation of every operator, the options, and
what is made of the compiler's answer.
"""

import hashlib
import os
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from executorch.exir import EdgeProgramManager, ExecutorchBackendConfig
from executorch.exir.lowered_backend_module import LoweredBackendModule
from executorch.exir.passes import MemoryPlanningPass
from torch.export import ExportedProgram
from torch.fx import Node

from firsttoken.backends.executorch.lower import free_memory, quiet_libraries
from firsttoken.backends.executorch.lower import lower_decoder as lower_for_cpu
from firsttoken.backends.executorch.program_file import embedding_table
from firsttoken.backends.executorch.structure import operator_name
from firsttoken.backends.executorch_hexagon.ops import HexagonGraph, build_graphs
from firsttoken.backends.executorch_hexagon.sdk import find_sdk
from firsttoken.backends.interface import LoweringJob
from firsttoken.backends.lowering_result import Lowered
from firsttoken.backends.runner import MASKED
from firsttoken.backends.tflite_hexagon.compile import check_offload, peak_memory_of
from firsttoken.backends.tflite_hexagon.source import fixed_states
from firsttoken.bundle.manifest import Artifact, Needs, NpuFacts
from firsttoken.bundle.npu_proof import NpuGraph
from firsttoken.errors import FirstTokenError
from firsttoken.progress import Report, silent
from firsttoken.targets.target import Target
from firsttoken.units import lasting, readable

NPU_FILE = "model.npu.pte"
NUMBERED = re.compile(r"getattr\(([^()]*), '(\w+)'\)")


def lower_decoder(job: LoweringJob, path: Path, report: Report = silent) -> Lowered:
    """Writes the CPU artifact to ``path`` and the compiled one beside it; returns what the manifest says of both.

    Raises `FirstTokenError` for a missing or other SDK, a failed compile, or operators that the NPU did not take.
    """
    sdk, target, options = find_sdk(), job.target, job.target.npu_options
    assert options.soc is not None, "the backend takes no target that the phone compiles"
    # As the CPU target names it, so that the file is that of executorch-xnnpack.
    cpu = target.model_copy(update={"name": target.cpu_backend, "npu": None})
    lowered = lower_for_cpu(replace(job, target=cpu), path, report)
    compiled, started = path.with_name(NPU_FILE), time.monotonic()
    with torch.no_grad(), quiet_libraries(), sdk.loaded():
        graphs = build_graphs(job, report)
        source = hash_of(graphs)
        report("compiling", 0, 1, "file")
        edge = hand_over(graphs, target)
        offload = offloaded(edge, list(graphs))
        check_offload(offload, options.soc, options.allow_partial)
        methods = [graph.described(name) for name, graph in graphs.items()]
        del graphs
        free_memory()
        write(edge, compiled)
        report("compiling", 1, 1, "file")
    npu = NpuFacts(
        compiled="ahead",
        fp16=options.fp16,
        source_sha256=source,
        weights_shared=options.share_weights,
        prefill_lengths=list(options.prefill_lengths),
        embedding=embedding_table(path),
        masked=MASKED,
        graphs=offload,
        compile_seconds=round(time.monotonic() - started, 2),
        compile_memory=peak_memory_of(os.getpid()),
    )
    needs = Needs(runtime=target.runtime, min_runtime=target.min_runtime, soc=options.soc, hexagon=options.hexagon, qnn=sdk.version)
    lowered.artifacts.append(
        Artifact(
            file=compiled.name,
            backend=target.backend,
            needs=needs,
            methods=methods,
            states=fixed_states(job.decoder, target),
            npu=npu,
        )
    )
    lowered.notes += [
        (
            f"compiled for {needs.soc} (Hexagon {needs.hexagon}) by ExecuTorch with QNN {needs.qnn} in {lasting(npu.compile_seconds)} with {readable(npu.compile_memory)} of memory at most: "
            f"{sum(graph.offloaded for graph in offload)} of {sum(graph.operators for graph in offload)} operators of {len(offload)} graphs on the NPU"
        ),
        "its NPU artifact was not run: ExecuTorch has no runtime of its Qualcomm backend for this machine; compare its answers on a phone before you rely on them",
    ]
    return lowered


def compiler_options(target: Target) -> list:
    """ExecuTorch's compile specification for the target: HTP in FP16, weights shared between the graphs where asked."""
    from executorch.backends.qualcomm.serialization.qc_schema import QcomChipset
    from executorch.backends.qualcomm.utils.utils import generate_htp_compiler_spec, generate_qnn_executorch_compiler_spec

    try:
        chipset = QcomChipset[target.npu_options.soc]
    except KeyError:
        raise FirstTokenError(
            f"ExecuTorch's Qualcomm backend does not know {target.npu_options.soc}; use a target tflite-hexagon-*"
        ) from None
    options = generate_htp_compiler_spec(use_fp16=True, use_weight_sharing=target.npu_options.share_weights)
    return generate_qnn_executorch_compiler_spec(soc_model=chipset, backend_options=options)


def hand_over(graphs: Mapping[str, HexagonGraph], target: Target) -> EdgeProgramManager:
    """Runs ExecuTorch's passes, partitioner and Qualcomm's compiler. Raises `FirstTokenError` with the first line of what failed."""
    from executorch.backends.qualcomm.utils.utils import to_edge_transform_and_lower_to_qnn

    specification = compiler_options(target)
    try:
        return to_edge_transform_and_lower_to_qnn(
            dict(graphs), {name: graph.example() for name, graph in graphs.items()}, dict.fromkeys(graphs, specification)
        )
    except (RuntimeError, AssertionError, ValueError, KeyError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise FirstTokenError(
            f"compiling for {target.npu_options.soc} through ExecuTorch failed: {lines[0]}; run with -v to see all it says"
        ) from error


def offloaded(edge: EdgeProgramManager, names: list[str]) -> list[NpuGraph]:
    """Counts, in what came back, the operators inside the NPU's parts and outside, each of those with layer and reason."""
    return [_counted(name, edge.exported_program(name)) for name in names]


def _counted(name: str, program: ExportedProgram) -> NpuGraph:
    module, inside, parts, left = program.graph_module, 0, 0, []
    for node in program.graph.nodes:
        if node.op == "get_attr" and isinstance(lowered := getattr(module, node.target), LoweredBackendModule):
            if lowered.backend_id != "QnnBackend":
                raise FirstTokenError(f"graph {name!r}: a part went to {lowered.backend_id}; expected QnnBackend")
            parts += 1
            inside += sum(_counts(step) for step in lowered.original_module.graph.nodes)
        elif _counts(node):
            left.append(f"{operator_name(node)} {_layer(node)}: {_reason(node)}")
    return NpuGraph(method=name, operators=inside + len(left), offloaded=inside, partitions=parts, left=left)


def _counts(node: Node) -> bool:
    return node.op == "call_function" and operator_name(node) not in ("getitem", "executorch_call_delegate")


def _layer(node: Node) -> str:
    """The layer a node came from, by the plan's names."""
    stack = node.meta.get("nn_module_stack") or {}
    path = list(stack.values())[-1][0] if stack else ""
    named = NUMBERED.sub(r"\1.\2", path)  # Dynamo writes layers.0 as getattr(layers, '0')
    return named.removeprefix("L['self'].").removeprefix("module.") or node.name


def _reason(node: Node) -> str:
    from executorch.backends.qualcomm.builders.node_visitor_manager import _node_visitor_dict as translated

    return (
        "refused by QNN's validation, -v shows why"
        if operator_name(node) in translated
        else "ExecuTorch's Qualcomm backend does not translate it"
    )


def write(edge: EdgeProgramManager, path: Path) -> None:
    """Plans memory and writes the file."""
    executorch = edge.to_executorch(
        ExecutorchBackendConfig(extract_delegate_segments=True, memory_planning_pass=MemoryPlanningPass(alloc_graph_input=False))
    )
    with open(path, "wb") as stream:
        executorch.write_to_file(stream)


def hash_of(graphs: Mapping[str, HexagonGraph]) -> str:
    """SHA-256 of what goes into the compiler: every graph's interface and the weights they share."""
    digest = hashlib.sha256()
    for name, graph in graphs.items():
        digest.update(graph.described(name).model_dump_json().encode())
    for name, weight in sorted(next(iter(graphs.values())).state_dict().items()):
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        digest.update(weight.contiguous().view(torch.uint8).numpy() if weight.dim() else weight.reshape(1).view(torch.uint8).numpy())
    return digest.hexdigest()
