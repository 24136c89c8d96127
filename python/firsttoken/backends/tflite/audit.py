"""What a written .tflite really holds: per layer the stored dtype, the dtype it is computed in, and who computes it.

Stored and computed come from the file. Delegation comes from the delegate itself: each graph is loaded in LiteRT's
interpreter from a sparse copy of the file (its header, with holes instead of weights, which takes no disk), and the
operators that are still executed outside XNNPACK are those it did not take.
"""

import tempfile
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import flatbuffers

from firsttoken.backends.tflite.section import Section, section_of
from firsttoken.bundle.integer_facts import IntegerScale
from firsttoken.bundle.manifest import AuditRow
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import Layer, owners, plan_layers
from firsttoken.errors import FirstTokenError
from firsttoken.plain_file import why
from firsttoken.precisions import with_group
from firsttoken.progress import Report, silent
from firsttoken.quiet import quiet_runtime

if TYPE_CHECKING:
    from ai_edge_litert import schema_py_generated as schema

WEIGHT_OPERATORS = ("FULLY_CONNECTED", "GATHER", "EMBEDDING_LOOKUP", "DEQUANTIZE")
STATIC_TYPES = {9: ("int8-static", "int8"), 7: ("int16x8", "int16")}  # by `TensorType` of activations: what is stored, and computed in
CORE_OPERATORS = ("BATCH_MATMUL", "SOFTMAX")


def audit(
    artifact: Path | Section,
    decoder: Decoder,
    precisions: Mapping[str, str],
    report: Report = silent,
    absent: Callable[[str, str], bool] = lambda graph, layer: False,
    left: Callable[["schema.ModelT"], Mapping[int, Collection[int]]] | None = None,
) -> list[AuditRow]:
    """Returns a row for every layer of the plan, in order. ``absent`` says which layer a graph does without, by their names.
    ``left`` gives, by subgraph, the operators that another delegate than XNNPACK does not take; then XNNPACK is not asked.

    ``delegated`` is true only if XNNPACK took the layer in every graph. An embedding is a table lookup: it is computed
    in FP32 whatever it is stored in. Raises `FirstTokenError` for a file that is not such a model or lacks a layer.
    """
    model, header_bytes = read_header(artifact)
    undelegated: dict[int, Collection[int]] = {}
    others = left and left(model)
    for index, signature in enumerate(model.signatureDefs):
        if others is not None:
            undelegated[signature.subgraphIndex] = others.get(signature.subgraphIndex, ())
            continue
        undelegated[signature.subgraphIndex] = executed_outside_delegate(artifact, header_bytes, model, signature)
        report("asking the delegate", index + 1, len(model.signatureDefs), "graphs")
    graphs = [LoadedGraph(model, index, undelegated[index]) for index in sorted(undelegated)]
    rows, owner = [], owners(decoder)
    for layer in plan_layers(decoder):
        seen = [
            graph.core(layer.name, owner[layer.name]) if layer.kind == "core" else graph.weight(layer.name, layer.kind)
            for graph in graphs
            if not absent(graph.name, layer.name)
        ]
        stored, computed = {s for s, _, _ in seen}, {c for _, c, _ in seen}
        if len(stored) != 1 or len(computed) != 1:
            raise FirstTokenError(f"{artifact}: {layer.name} differs between graphs (stored {sorted(stored)}, computed {sorted(computed)})")
        rows.append(
            AuditRow(
                layer=layer.name,
                asked=precisions[layer.name],
                stored=stored.pop(),
                computed=computed.pop(),
                delegated=all(taken for _, _, taken in seen),
                scales=one_pair(artifact, layer, [graph for graph in graphs if not absent(graph.name, layer.name)]),
            )
        )
    return rows


def one_pair(artifact: object, layer: Layer, graphs: "list[LoadedGraph]") -> list[IntegerScale]:
    """The scales of a layer's input and result, none where it has none. Raises `FirstTokenError` where graphs differ."""
    if layer.kind != "linear":
        return []
    found = [graph.scales(layer.name) for graph in graphs]
    if any(pair != found[0] for pair in found):
        raise FirstTokenError(f"{artifact}: the scales of {layer.name} differ between graphs; the file is not what the plan says")
    return list(found[0])


class LoadedGraph:
    """One subgraph, indexed by what the audit asks for."""

    def __init__(self, model: "schema.ModelT", index: int, undelegated: Collection[int]) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.kinds = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
        self.types = {
            schema.TensorType.FLOAT32: "fp32",
            schema.TensorType.FLOAT16: "fp16",
            schema.TensorType.INT8: "int8",
            schema.TensorType.INT4: "int4",
            schema.TensorType.INT16: "fp16",
        }  # int16: float16 bytes, gathered for TFLite 2.16
        self.graph, self.codes, self.undelegated = model.subgraphs[index], model.operatorCodes, undelegated
        self.name = (self.graph.name or b"").decode()
        self.tensors = {tensor.name.decode(): n for n, tensor in enumerate(self.graph.tensors)}
        self.consumers: dict[int, list[int]] = defaultdict(list)
        self.scopes: dict[str, list[int]] = defaultdict(list)
        for n, operator in enumerate(self.graph.operators):
            for tensor in operator.inputs:
                self.consumers[int(tensor)].append(n)
            self.scopes[self.graph.tensors[operator.outputs[0]].name.decode().rsplit("/", 1)[0]].append(n)

    def kind(self, operator: int) -> str:
        return self.kinds[self.codes[self.graph.operators[operator].opcodeIndex].builtinCode]

    def type_of(self, tensor: int) -> str:
        return self.types.get(self.graph.tensors[tensor].type, "other")

    def stored(self, tensor: int) -> str:
        """A weight's precision, and of int4 how many columns share a scale by what the file says of its scales."""
        kind, held = self.type_of(tensor), self.graph.tensors[tensor]
        if kind != "int4":
            return kind
        rows, columns = (int(size) for size in held.shape)
        parameters = held.quantization
        if parameters is not None and parameters.details is not None:
            return f"{kind}/{parameters.details.blockSize}"
        scales = 0 if parameters is None or parameters.scale is None else len(parameters.scale)
        return with_group(kind, columns, columns) if scales == rows else f"{kind}/{scales} scales"

    def weight(self, name: str, layer_kind: str) -> tuple[str, str, bool]:
        tensor = self.tensors.get(name, self.tensors.get(f"{name}.raw"))
        if name == "head" and tensor is None:  # a tied head is the embedding's tensor
            tensor = self.tensors.get("embedding")
        if layer_kind == "embedding":
            tensor = self.tensors.get(f"{name}.raw", tensor)
        if tensor is None:
            raise FirstTokenError(f"graph {self.name!r}: no tensor for layer {name!r}; the file is not what the plan says")
        users = [n for n in self.consumers[tensor] if self.kind(n) in WEIGHT_OPERATORS]
        stored = self.stored(tensor)
        if not users:
            raise FirstTokenError(f"graph {self.name!r}: nothing computes layer {name!r}")
        if layer_kind == "embedding":
            return stored, "fp32", all(n not in self.undelegated for n in users)
        if self.between_integers(users[0]):
            held, between = STATIC_TYPES[self.graph.tensors[self.graph.operators[users[0]].inputs[0]].type]
            return held, between, all(n not in self.undelegated for n in (*users, *self._around(users)))
        if self.kind(users[0]) == "DEQUANTIZE":
            users = [m for n in users for m in self.consumers[int(self.graph.operators[n].outputs[0])]]
        computed = {self._computed(n) for n in users}
        return stored, "/".join(sorted(computed)), all(n not in self.undelegated for n in users)

    def between_integers(self, operator: int) -> bool:
        """Whether an operator takes and gives integers with scales that the file says."""
        ends = (self.graph.operators[operator].inputs[0], self.graph.operators[operator].outputs[0])
        return self.kind(operator) == "FULLY_CONNECTED" and {self.graph.tensors[end].type for end in ends} <= set(STATIC_TYPES)

    def _around(self, operators: list[int]) -> list[int]:
        """What rounds the operators' inputs and makes floats of their results."""
        given = {int(self.graph.operators[n].inputs[0]) for n in operators}
        makers = [n for n, operator in enumerate(self.graph.operators) if given & set(map(int, operator.outputs))]
        return makers + [user for n in operators for user in self.consumers[int(self.graph.operators[n].outputs[0])]]

    def scales(self, name: str) -> tuple[IntegerScale, ...]:
        """Those of a linear layer's input and result, where it computes between integers."""
        tensor = self.tensors.get(name, self.tensors.get("embedding") if name == "head" else None)
        users = [n for n in self.consumers[tensor] if self.between_integers(n)] if tensor is not None else []
        if not users:
            return ()
        ends = self.graph.operators[users[0]].inputs[0], self.graph.operators[users[0]].outputs[0]
        return tuple(scale_of(self.graph.tensors[end].quantization) for end in ends)

    def _computed(self, operator: int) -> str:
        inputs = self.graph.operators[operator].inputs
        activation, weight = self.type_of(int(inputs[0])), self.type_of(int(inputs[1]))
        # Integer weights with float activations: the kernel quantizes the activations row by row as it runs.
        return weight if activation == "fp32" and weight in ("int8", "int4") else activation

    def core(self, name: str, owner: str) -> tuple[str, str, bool]:
        """A core is stored as the keys and values of its ``owner`` are kept."""
        operators = [n for n in self.scopes[name] if self.kind(n) in CORE_OPERATORS]
        layer = owner.split(".")[1]
        output = next((int(t) for t in self.graph.outputs if self._is_cache_output(int(t), layer)), None)
        if not operators or output is None:
            raise FirstTokenError(f"graph {self.name!r}: no attention core for {name!r}")
        computed = {self.type_of(int(self.graph.operators[n].outputs[0])) for n in operators}
        return self.type_of(output), "/".join(sorted(computed)), all(n not in self.undelegated for n in operators)

    def _is_cache_output(self, tensor: int, layer: str) -> bool:
        scope = self.graph.tensors[tensor].name.decode().rsplit("/", 1)[0]
        return scope.startswith(f"layers.{layer}.attention")


def scale_of(parameters: "schema.QuantizationParametersT | None") -> IntegerScale:
    """The one scale of a tensor's integers. Raises `FirstTokenError` where there is none, or one for each of several parts."""
    if parameters is None or parameters.scale is None or len(parameters.scale) != 1 or len(parameters.zeroPoint) != 1:
        raise FirstTokenError("a layer's integers have not one scale and zero point; the file is not what the plan says")
    return IntegerScale(scale=float(parameters.scale[0]), zero_point=int(parameters.zeroPoint[0]))


def read_header(artifact: Path | Section) -> "tuple[schema.ModelT, int]":
    """Returns the model object and the length of the flatbuffer. Raises `FirstTokenError` if ``artifact`` is not one."""
    from ai_edge_litert import schema_py_generated as schema

    try:
        section = section_of(artifact)
        # The weights lie behind the flatbuffer, in the order of their offsets: the first one ends the header.
        raw = section.read(0, 64 << 20)
        if raw[4:8] != b"TFL3":
            raise FirstTokenError(f"{artifact}: not a .tflite file, it lacks the mark TFL3; export it again")
        model = schema.ModelT.InitFromPackedBuf(raw, 0)
        first = min((b.offset for b in model.buffers if b.offset and b.offset > 1), default=section.size)
        if first > len(raw):
            model = schema.ModelT.InitFromPackedBuf(section.read(0, first), 0)
    except OSError as error:
        raise FirstTokenError(f"{artifact}: cannot be read ({why(error)})") from None
    return model, first


def executed_outside_delegate(
    artifact: Path | Section, header_bytes: int, model: "schema.ModelT", signature: "schema.SignatureDefT"
) -> set[int]:
    """Loads one graph and returns the operators (by number) that run outside the delegate."""
    from ai_edge_litert.interpreter import Interpreter

    header = _pack(_single(model, signature))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.tflite"
        with open(path, "wb") as file:
            file.write(header)
            if len(header) > header_bytes:
                raise FirstTokenError(f"{artifact}: its header cannot be rewritten for the audit")
            file.truncate(section_of(artifact).size)  # holes: zeros that take no disk
            copy_group_scales(section_of(artifact), file, model, signature)
        with quiet_runtime():
            interpreter = Interpreter(str(path), num_threads=1)
            interpreter.allocate_tensors()
        operators = interpreter._get_ops_details()
        outputs = [detail["index"] for detail in interpreter.get_output_details()]
        del interpreter
    return reachable(operators, outputs)


def copy_group_scales(artifact: Section, file: BinaryIO, model: "schema.ModelT", signature: "schema.SignatureDefT") -> None:
    """Copies the int4 group scales to their places in ``file``: the delegate refuses scales of zero."""
    tensors = model.subgraphs[signature.subgraphIndex].tensors
    for tensor in tensors:
        if tensor.quantization is not None and tensor.quantization.details is not None:
            buffer = model.buffers[tensors[tensor.quantization.details.scales].buffer]
            file.seek(buffer.offset)
            file.write(artifact.read(buffer.offset, buffer.size))


def _single(model: "schema.ModelT", signature: "schema.SignatureDefT") -> "schema.ModelT":
    """The same model with one subgraph and one signature left."""
    from ai_edge_litert import schema_py_generated as schema

    alone, entry = schema.ModelT(), schema.SignatureDefT()
    vars(alone).update(vars(model))
    vars(entry).update(vars(signature))
    alone.subgraphs, entry.subgraphIndex, alone.signatureDefs = [model.subgraphs[signature.subgraphIndex]], 0, [entry]
    return alone


def _pack(model: "schema.ModelT") -> bytes:
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return builder.Output()


def reachable(operators: list[dict], outputs: list[int]) -> set[int]:
    """Returns the numbers of the operators, other than the delegate's, that produce what the outputs need.

    The interpreter lists the file's operators first and the delegate's nodes behind them; a tensor that a delegate
    node produces is no longer produced by the file's operator.
    """
    producer: dict[int, dict[str, Any]] = {}
    for wanted in (False, True):
        for operator in operators:
            if ("DELEGATE" in operator["op_name"].upper()) == wanted:
                producer.update({int(tensor): operator for tensor in operator["outputs"]})
    pending, executed, seen = [int(t) for t in outputs], set(), set()
    while pending:
        tensor = pending.pop()
        made_by = producer.get(tensor)
        if tensor in seen or made_by is None:
            continue
        seen.add(tensor)
        if "DELEGATE" not in made_by["op_name"].upper():
            executed.add(made_by["index"])
        pending.extend(int(t) for t in made_by["inputs"] if t >= 0)
    return executed
