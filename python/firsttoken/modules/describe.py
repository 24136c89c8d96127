"""What a program takes and gives, by name: read from what torch.export wrote down about it."""

import hashlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import Node

from firsttoken.errors import FirstTokenError, nearest
from firsttoken.modules.module import InputType, Module, ModuleInput, ModuleOutput

BATCH, LENGTH = "batch", "length"
TYPES: dict[torch.dtype, InputType] = {torch.float32: "float32", torch.int32: "int32", torch.int64: "int64"}
Lengths = Mapping[str, Sequence[int]]


def describe_program(
    program: ExportedProgram,
    name: str,
    lengths: Lengths | None = None,
    labels: Sequence[str] = (),
    names: Mapping[str, str] | None = None,
    outputs: Sequence[str] | None = None,
) -> Module:
    """The module that a program is. ``names`` says what its symbols of sizes are called ("s0": "length"); without it the first input's first dimension
    is "batch" and the others "length", "length_2", …. ``outputs`` renames the outputs. Raises `FirstTokenError` for inputs of other types than tensors of
    floats and integers, for weights of another type than float32, or lengths of dimensions that it does not have.
    """
    check_weights(program)
    check_pure(program, name)
    places = [node for node in program.graph.nodes if node.op == "placeholder" and node.name in program.graph_signature.user_inputs]
    positional, by_name = program.example_inputs or ((), {})
    if by_name or len(positional) != len(places) or not all(isinstance(one, Tensor) for one in positional):
        raise FirstTokenError(
            f"{name}: takes inputs by keyword, or within lists; expected tensors, one after the other: torch.export.export(module, (first, second))"
        )
    symbols = dict(names or {})
    if bare := next((place.name for place in (*places, *user_outputs(program)) if not getattr(place.meta["val"], "shape", None)), None):
        raise FirstTokenError(f"{name}: {bare!r} has no dimensions; expected [batch, …] of every input and output")
    inputs = [ModuleInput(place.name, type_of(place, name), shape_of(place, symbols, name, known=False)) for place in places]
    if not inputs:
        raise FirstTokenError(f"{name}: takes no input; expected at least one tensor")
    if odd := next((one for one in inputs if one.shape[0] != inputs[0].shape[0] or BATCH in one.shape[1:]), None):
        raise FirstTokenError(
            f"{name}: input {odd.name!r} is {list(odd.shape)}, and {inputs[0].name!r} {list(inputs[0].shape)}; expected the batch first in all of them: "
            "transpose within the module"
        )
    given = program.graph.output_node().args[0]
    nodes = [node for node in given if isinstance(node, Node)]
    if len(nodes) != len(given):
        raise FirstTokenError(f"{name}: gives None or a number beside tensors; leave it out of what the module returns")
    called = output_names(program, len(nodes)) if outputs is None else list(outputs)
    if len(called) != len(nodes) or len(set(called)) != len(called):
        raise FirstTokenError(
            f"{name}: gives {len(nodes)} outputs, and {', '.join(called)} were named; expected a name of its own for each"
        )
    gives = tuple(
        ModuleOutput(one, shape_of(node, symbols, name, known=True))
        for one, node in zip(called, nodes, strict=True)
        if is_float(node, one, name)
    )
    module = Module(
        name,
        program,
        tuple(inputs),
        gives,
        tuple(positional),
        fingerprint_of(program),
        chosen_lengths(program, inputs, positional, lengths or {}, name, symbols),
        tuple(labels),
    )
    check_labels(module)
    return module


def check_weights(program: ExportedProgram) -> None:
    """Raises `FirstTokenError` for weights that are no float32: what they are rounded to is the plan's to say."""
    for name, tensor in program.state_dict.items():
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise FirstTokenError(
                f"{name}: is {str(tensor.dtype).removeprefix('torch.')}; expected float32, call .float() on the module before torch.export"
            )


def user_outputs(program: ExportedProgram) -> list[Node]:
    return [node for node in program.graph.output_node().args[0] if isinstance(node, Node)]


TRAINING = {"aten.dropout": 2, "aten.alpha_dropout": 2, "aten.feature_dropout": 2, "aten.batch_norm": 5}  # where they say so


def check_pure(program: ExportedProgram, name: str) -> None:
    """Raises `FirstTokenError` for a program that gives other numbers when it is called again: of training, or with a state of its own."""
    buffers = program.graph_signature.inputs_to_buffers
    kept = list(program.graph_signature.buffers_to_mutate.values())
    for node in program.graph.nodes:
        operation = str(node.target).rpartition(".")[0] if node.op == "call_function" else ""
        if operation in TRAINING and len(node.args) > TRAINING[operation] and node.args[TRAINING[operation]] is True:
            raise FirstTokenError(f"{name}: was exported for training ({node.name}); call .eval() on the module before torch.export")
        schema = getattr(node.target, "_schema", None)
        if schema is not None and schema.is_mutable and isinstance(node.args[0], Node) and node.args[0].name in buffers:
            kept.append(buffers[node.args[0].name])
    if kept:
        raise FirstTokenError(
            f"{name}: keeps a state between calls ({kept[0]}), which no bundle has; call .eval() before torch.export, or make it an input and an output"
        )


def type_of(place: Node, name: str) -> InputType:
    value = place.meta["val"]
    if not isinstance(value, Tensor) or value.dtype not in TYPES:
        got = str(value.dtype).removeprefix("torch.") if isinstance(value, Tensor) else type(value).__name__
        raise FirstTokenError(
            f"{name}: input {place.name!r} is {got}; expected a tensor of {', '.join(TYPES.values())} (a mask of 0 and 1 as int64)"
        )
    return TYPES[value.dtype]


def is_float(node: Node, called: str, name: str) -> bool:
    value = node.meta["val"]
    if not isinstance(value, Tensor) or value.dtype != torch.float32:
        raise FirstTokenError(
            f"{name}: output {called!r} is no tensor of float32; leave it out of what the module returns, or return its logits"
        )
    return True


def shape_of(node: Node, symbols: dict[str, str], name: str, known: bool) -> tuple[int | str, ...]:
    """A shape with names for what is chosen at run time; ``symbols`` grows by those that are met for the first time, unless all have to be ``known``."""
    shape: list[int | str] = []
    for size in node.meta["val"].shape:
        if not isinstance(size, torch.SymInt):
            shape.append(int(size))
            continue
        said = str(size.node.expr)
        if said not in symbols and not known:
            symbols[said] = BATCH if not symbols and not shape else another(symbols)
        shape.append(symbols.get(said) or in_names(said, symbols))
    return tuple(shape)


def another(symbols: Mapping[str, str]) -> str:
    """A name for one more dimension: "length", "length_2" and so on."""
    number = 1 + sum(1 for called in symbols.values() if called.startswith(LENGTH))
    return LENGTH if number == 1 else f"{LENGTH}_{number}"


def in_names(formula: str, symbols: Mapping[str, str]) -> str:
    """A formula of sizes with the names in the places of torch's symbols."""
    import re

    return re.sub(r"[su]\d+", lambda found: symbols.get(found[0], found[0]), formula)


def output_names(program: ExportedProgram, count: int) -> list[str]:
    """The keys of a dictionary that the module returns; else "output", or "output_0" and so on."""
    spec = program.call_spec.out_spec
    if spec is not None and spec.type is dict:
        return [str(key) for key in spec.context]
    return ["output"] if count == 1 else [f"output_{number}" for number in range(count)]


def chosen_lengths(
    program: ExportedProgram,
    inputs: Sequence[ModuleInput],
    example: Sequence[Tensor],
    asked: Lengths,
    name: str,
    symbols: Mapping[str, str],
) -> dict[str, tuple[int, ...]]:
    """Sizes for every dimension with a name: those asked, else 1 of a batch and the example's of the others."""
    found: dict[str, tuple[int, ...]] = {}
    for given, tensor in zip(inputs, example, strict=True):
        for size, called in zip(tensor.shape, given.shape, strict=True):
            if isinstance(called, str):
                found.setdefault(called, (1 if called == BATCH else int(size),))
    bounds = {symbols[str(symbol)]: bound for symbol, bound in program.range_constraints.items() if str(symbol) in symbols}
    for dimension, sizes in asked.items():
        if dimension not in found:
            there = f"it has {', '.join(found)}" if found else "all its sizes are fixed, export it with dynamic_shapes"
            raise FirstTokenError(f"{name}: lengths of {dimension!r}, which no input has{nearest(dimension, found)}; {there}")
        values = tuple(sorted(set(sizes)))
        low, high = (int(bounds[dimension].lower), bounds[dimension].upper) if dimension in bounds else (1, float("inf"))
        if not values or values[0] < max(1, low) or values[-1] > high:
            raise FirstTokenError(
                f"{name}: lengths of {dimension!r} are {', '.join(map(str, values)) or 'none'}; the program was exported for {max(1, low)} to {high}"
            )
        found[dimension] = values
    return found


def check_labels(module: Module) -> None:
    """Raises `FirstTokenError` for names of classes that are not as many as the one output has columns."""
    if not module.labels:
        return
    if len(module.outputs) != 1 or module.outputs[0].shape[-1] != len(module.labels):
        shapes = ", ".join(f"{one.name} {list(one.shape)}" for one in module.outputs)
        raise FirstTokenError(
            f"{module.name}: {len(module.labels)} labels for outputs {shapes}; expected one output with a column for each"
        )
    if len(set(module.labels)) != len(module.labels) or not all(label and label.isprintable() for label in module.labels):
        raise FirstTokenError(
            f"{module.name}: labels are empty, unprintable or named twice; expected a printable name of its own for each class"
        )


def fingerprint_of(program: ExportedProgram) -> str:
    """SHA-256 of the weights with their names, and of the operators in their order."""
    digest = hashlib.sha256()
    for node in program.graph.nodes:
        digest.update(f"{node.op} {node.target if node.op == 'call_function' else ''}\n".encode())
    for held in (program.state_dict, program.constants):
        for name in sorted(held):
            value = held[name]
            if isinstance(value, Tensor):
                digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
                digest.update(value.detach().contiguous().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
