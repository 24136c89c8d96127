"""A module's program as a float .tflite: one signature for each combination of its named dimensions' sizes, over one set of weights."""

import hashlib
import itertools
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from firsttoken.backends.tflite.modules.conversion_errors import check_steps, translated
from firsttoken.backends.tflite.modules.graph_file import BEHIND, GraphFile
from firsttoken.errors import FirstTokenError
from firsttoken.extras import need
from firsttoken.modules.module import Module
from firsttoken.progress import Report, silent
from firsttoken.quiet import quiet_output

ENTRY = "run"
Sizes = Mapping[str, int]


def size_combinations(module: Module) -> list[dict[str, int]]:
    """The sizes of the named dimensions for which there is a signature, by their names; the batch is 1 where the module says nothing.

    Raises `FirstTokenError` for a dimension without sizes.
    """
    names = list(dict.fromkeys(size for given in module.inputs for size in given.shape if isinstance(size, str)))
    values = {name: module.lengths.get(name, (1,) if name == "batch" else ()) for name in names}
    for name, sizes in values.items():
        if not sizes:
            raise FirstTokenError(
                f"{module.name}: dimension {name!r} has no sizes, and a .tflite has fixed ones; give some, as in lengths = {{{name}: [16, 64, 128]}}: "
                "a graph each, over one set of weights"
            )
    return [dict(zip(names, chosen, strict=True)) for chosen in itertools.product(*values.values())]


def signature_name(sizes: Sizes) -> str:
    """ "run_batch1_length64"; "run" of a module without named dimensions."""
    return "_".join([ENTRY, *(f"{name}{size}" for name, size in sizes.items())])


def example_of(module: Module, sizes: Sizes) -> tuple[Tensor, ...]:
    """The example's values at other sizes: repeated or cut along the named dimensions."""
    found = []
    for given, tensor in zip(module.inputs, module.example, strict=True):
        for axis, name in enumerate(given.shape):
            if isinstance(name, str):
                tensor = tensor.index_select(axis, torch.arange(sizes[name]) % tensor.shape[axis])
        found.append(tensor)
    return tuple(found)


def convert(module: Module, report: Report = silent) -> tuple[GraphFile, dict[str, dict[str, int]]]:
    """Returns the float file, with the module's names of inputs and outputs, and the sizes of each of its signatures.

    Raises `FirstTokenError` for what litert-torch cannot convert.
    """
    need("modules", "a .tflite of a module")
    combinations = size_combinations(module)
    for sizes in combinations:
        check_steps(module, sizes)
    report("converting", 0, 1, "")
    with tempfile.TemporaryDirectory() as folder, quiet_output():
        path = Path(folder) / "float.tflite"
        try:
            import litert_torch

            first, *others = combinations
            converter = litert_torch.signature(signature_name(first), module.program.module(), example_of(module, first))
            for sizes in others:
                converter = converter.signature(signature_name(sizes), module.program.module(), example_of(module, sizes))
            converter.convert().export(str(path))
        except FirstTokenError:
            raise
        except Exception as error:  # whatever PyTorch, JAX and the converter raise for a program they do not take
            raise translated(error, module, combinations) from None
        file = GraphFile.read(path)
    named = {signature_name(sizes): sizes for sizes in combinations}
    for key, signature in file.signatures().items():
        rename(signature.inputs, [f"args_{n}" for n in range(len(module.inputs))], [given.name for given in module.inputs], module, key)
        rename(signature.outputs, converted_outputs(module), [given.name for given in module.outputs], module, key)
    store_once(file)
    report("converting", 1, 1, "")
    return file, named


def converted_outputs(module: Module) -> list[str]:
    """What litert-torch calls the outputs, in their order: the keys of a dictionary, else by number."""
    spec = module.program.call_spec.out_spec
    if spec is not None and spec.type is dict:
        return [str(key) for key in spec.context]
    return [f"output_{n}" for n in range(len(module.outputs))]


def rename(entries: list, wanted: list[str], names: list[str], module: Module, key: str) -> None:
    """Gives a signature's inputs or outputs the module's names. Raises `FirstTokenError` for others than expected."""
    found = {entry.name.decode(): entry for entry in entries}
    if sorted(found) != sorted(wanted):
        raise FirstTokenError(
            f"{module.name}: the converted {key!r} has {sorted(found)}, where {len(names)} were expected for {', '.join(names)}; "
            "an input that the module does not use, or an output that is an input, is left out by the converter: remove it from the module"
        )
    for name, converted in zip(names, wanted, strict=True):
        found[converted].name = name.encode()


def store_once(file: GraphFile) -> None:
    """Lets tensors whose constants are the same bytes, of the size of a weight, have one buffer: graphs that the converter did not let share it."""
    seen: dict[bytes, int] = {}
    instead: dict[int, int] = {}
    for index, buffer in enumerate(file.model.buffers):
        if buffer.data is not None and len(buffer.data) >= BEHIND:
            key = hashlib.sha256(np.ascontiguousarray(buffer.data, np.uint8).data).digest()
            if seen.setdefault(key, index) != index:
                instead[index], buffer.data = seen[key], None
    for tensor in (tensor for graph in file.model.subgraphs for tensor in graph.tensors):
        tensor.buffer = instead.get(tensor.buffer, tensor.buffer)


def check_float(file: GraphFile, sizes: Mapping[str, Sizes], module: Module, folder: Path) -> None:
    """Runs every signature of the float file on the example and holds it against the module. Raises `FirstTokenError` where it gives something else."""
    from firsttoken.backends.tflite.modules.runner import SignatureRunner
    from firsttoken.backends.tflite.modules.signatures import methods_of

    path = folder / "float.tflite"
    file.write(path)
    runner = SignatureRunner(path, methods_of(file, sizes, module), 1)
    try:
        for key, chosen in sizes.items():
            example = example_of(module, chosen)
            wanted = {name: value.float().numpy() for name, value in module.run(*example).items()}
            got = runner.run_method(key, {given.name: value.numpy() for given, value in zip(module.inputs, example, strict=True)})
            for name, value in wanted.items():
                difference, size = float(np.abs(value - got[name]).max(initial=0)), float(np.sqrt(np.mean(np.square(value)))) or 1.0
                if not difference <= 1e-3 * size:
                    raise FirstTokenError(
                        f"{module.name}: the converted float file differs in {name!r} of {key!r} by {difference:.3g}, at a size of {size:.3g}; "
                        "the converter does not compute what the module does, so nothing was written"
                    )
    finally:
        runner.close()
