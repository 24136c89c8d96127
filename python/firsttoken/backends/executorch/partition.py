"""XNNPACK's partitioner and preprocessing, less what costs time or memory and does nothing for a decoder.

Export time is the number of passes over the graph: each one works out every node's symbolic shapes again. Export
memory is the number of copies of the weights. What is left out here leaves the file as it would be, byte for byte
(tests/backends/executorch/test_lower.py compares the files).
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import compress
from typing import Any
from unittest import mock

from executorch.backends.xnnpack import xnnpack_preprocess
from executorch.backends.xnnpack._passes import XNNPACKPassManager, XNNPACKRemoveCloneOpsTransform
from executorch.backends.xnnpack._passes.convert_to_linear import ConvertToLinearPass
from executorch.backends.xnnpack.operators.node_visitor import NodeVisitor
from executorch.backends.xnnpack.partition.config import xnnpack_config
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.backends.xnnpack.utils.utils import get_param_tensor
from executorch.exir.backend.canonical_partitioners import group_partitioner
from executorch.exir.backend.partitioner import PartitionResult
from executorch.exir.tracer import _default_decomposition_table as decomposition_table
from torch._ops import OpOverload
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node
from torch.fx.passes.infra import partitioner as capability_partitioner

# XNNPACK's other passes are about convolution, batch norm, padding, concatenation, pooling, upsampling, clamps,
# channels-last layout and the aten attention operator; the decoder has none of these.
PASSES = [XNNPACKRemoveCloneOpsTransform, ConvertToLinearPass]
LARGE = 1 << 16  # bytes from which a serialized constant is worth freeing
READ_TWICE = (".updates.", ".cutoff.")  # parts of a layer that are computed with more than once, perhaps in two partitions


class DecoderPartitioner(XnnpackPartitioner):
    """Decomposes the graph once, where the default does it four times.

    The default tries every linear layer for shapes that XNNPACK does not take; a decoder's are all taken.
    """

    def ops_to_not_decompose(self, ep: ExportedProgram) -> tuple[list[OpOverload], Callable[[Node], bool] | None]:
        operators, _ = super().ops_to_not_decompose(ep)
        return operators, None

    def transform_for_pre_decomposition(self, exported_program: ExportedProgram) -> ExportedProgram:
        table = decomposition_table()
        for operator in self.ops_to_not_decompose(exported_program)[0]:
            table.pop(operator, None)
        program: Any = exported_program.run_decompositions(table)  # Any, for a method of it is replaced
        program.run_decompositions = lambda *_: program  # the caller's two turns would find nothing left
        return program

    def partition(self, exported_program: ExportedProgram) -> PartitionResult:
        with (
            mock.patch.object(capability_partitioner, "_DependencyViewer", Dependencies),
            mock.patch.object(group_partitioner, "_DependencyViewer", Dependencies),
            run_time_sizes(),
        ):
            return super().partition(exported_program)


@contextmanager
def run_time_sizes() -> Iterator[None]:
    """Within it, XNNPACK's partitioner takes tensors with a size that is read out of a tensor at run time.

    It refuses them because such a tensor might be empty, which XNNPACK does not take. The decoder's only such size is the
    number of filled cache rows, which is at least one; refused, every batched product and softmax would run on
    ExecuTorch's portable kernels, 30 times slower at 512 tokens.
    """
    with mock.patch.object(xnnpack_config, "has_free_unbacked_symbols", lambda value: False):
        yield


class Dependencies:
    """Which nodes depend on a node, as one bit each; the original keeps sets, half a gigabyte for a 24-layer graph."""

    def __init__(self, graph_module: GraphModule) -> None:
        self.nodes = list(graph_module.graph.nodes)
        place = {node: 1 << index for index, node in enumerate(self.nodes)}
        self.downstream: dict[Node, int] = {}
        for node in reversed(self.nodes):
            bits = 0
            for user in node.users:
                bits |= place[user] | self.downstream[user]
            self.downstream[node] = bits

    def downstreams_of(self, node: Node) -> set[Node]:
        bits = self.downstream[node]
        return set(compress(self.nodes, (digit == "1" for digit in reversed(f"{bits:b}"))))


def is_one_layers(program: ExportedProgram, constant: Node) -> bool:
    """Whether a constant is a layer's own ("layers.3.mlp.up.rows"); the model's ("rotation_256_float32") are read by every layer, each
    through a placeholder of its own over the same memory, and those of `READ_TWICE` more than once in a layer."""
    signature = program.graph_signature
    name = (signature.inputs_to_buffers | signature.inputs_to_parameters).get(constant.name, "")
    return "." in name and not any(part in name for part in READ_TWICE)


@contextmanager
def lean_preprocessing() -> Iterator[None]:
    """Within it, XNNPACK's preprocessing runs `PASSES` only, on the weights themselves instead of a copy, and
    frees each large one once it is serialized.

    The weights of the module that is being lowered are gone afterwards.
    """
    serialize = NodeVisitor.get_serialized_buffer_index

    def manager(program: ExportedProgram, passes: list | None = None) -> XNNPACKPassManager:
        return XNNPACKPassManager(program, passes or PASSES)

    def serialize_and_free(
        self: NodeVisitor,
        tensor: Node,
        xnn_graph: Any,
        vals_to_ids: Any,
        convert_to_nhwc: bool,
        swap: bool,
        quant_params: Any,
        *rest: Any,
        **more: Any,
    ) -> int:
        index = serialize(self, tensor, xnn_graph, vals_to_ids, convert_to_nhwc, swap, quant_params, *rest, **more)
        source = tensor if quant_params is None else quant_params.q_input
        weight = get_param_tensor(self.exported_program, source) if index and is_one_layers(self.exported_program, source) else None
        if weight is not None and len(source.users) == 1 and weight.untyped_storage().nbytes() >= LARGE:
            weight.untyped_storage().resize_(0)
        return index

    def copy_graph(edge_program: ExportedProgram, compile_specs: Any) -> ExportedProgram:
        return copy.deepcopy(edge_program, {id(weight): weight for weight in edge_program.state_dict.values()})

    with (
        mock.patch.object(xnnpack_preprocess, "XNNPACKPassManager", manager),
        mock.patch.object(xnnpack_preprocess.XnnpackBackend, "copy_exported_program_for_preprocess", copy_graph),
        mock.patch.object(NodeVisitor, "get_serialized_buffer_index", serialize_and_free),
    ):
        yield
