"""A PyTorch module as a program, traced by its example inputs with the dimensions that may vary."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from firsttoken.errors import FirstTokenError
from firsttoken.modules.describe import BATCH

LARGEST = 1 << 20  # of a dimension that may vary
Shapes = Sequence[Sequence[int | str | None]]


def trace(module: nn.Module, example: Sequence[Tensor], shapes: Shapes | None = None) -> tuple[ExportedProgram, dict[str, str]]:
    """Returns the program and what its symbols of sizes are called. ``shapes`` has for each input what each dimension is called, a number or None where it
    is fixed; without it the first dimension of every input is "batch" and all else fixed.

    An example of batch 1 is doubled: torch takes a size of 1 for one that never changes. Raises `FirstTokenError` for a module that torch cannot export,
    or one that fixes a dimension that is to vary.
    """
    if not isinstance(module, nn.Module):
        raise FirstTokenError(f"module is {type(module).__name__}; expected a torch.nn.Module")
    if not example or not all(isinstance(one, Tensor) for one in example):
        raise FirstTokenError("example holds something else than tensors; expected the module's inputs, one tensor after the other")
    said: list[list[int | str | None]] = (
        [[BATCH, *[None] * (one.dim() - 1)] for one in example] if shapes is None else [list(shape) for shape in shapes]
    )
    if len(said) != len(example) or any(len(shape) != one.dim() for shape, one in zip(said, example, strict=False)):
        raise FirstTokenError(
            f"shapes {said} for inputs of {[list(one.shape) for one in example]}; expected a name, a number or None for each dimension of each input"
        )
    for shape, one in zip(said, example, strict=True):
        if wrong := next((size for size, got in zip(shape, one.shape, strict=True) if isinstance(size, int) and size != got), None):
            raise FirstTokenError(f"shapes says {wrong} for an input of {list(one.shape)}; expected the example's size, a name or None")
    was_training = {part for part in module.modules() if part.training}
    inputs = tuple(doubled(one, shape) for one, shape in zip(example, said, strict=True))
    dims = {name: torch.export.Dim(name, min=1, max=LARGEST) for shape in said for name in shape if isinstance(name, str)}
    dynamic: Any = tuple({at: dims[name] for at, name in enumerate(shape) if isinstance(name, str)} for shape in said)
    try:
        with torch.no_grad():
            program = torch.export.export(module.eval(), inputs, dynamic_shapes=dynamic)
    except Exception as error:  # torch.export has dozens of kinds
        raise FirstTokenError(why_not_exported(error, dims)) from error
    finally:
        for part in was_training:  # the module is the user's, who may go on training it
            part.training = True
    return program, symbols_of(program, said)


def doubled(one: Tensor, shape: Sequence[int | str | None]) -> Tensor:
    """An input whose dimensions of size 1 that may vary are of size 2."""
    for at, name in enumerate(shape):
        if isinstance(name, str) and one.shape[at] == 1:
            one = torch.cat([one, one], at)
    return one.contiguous()


def symbols_of(program: ExportedProgram, said: Sequence[Sequence[int | str | None]]) -> dict[str, str]:
    """What torch calls the dimensions, with our names."""
    places = [node for node in program.graph.nodes if node.op == "placeholder" and node.name in program.graph_signature.user_inputs]
    found = {}
    for place, shape in zip(places, said, strict=True):
        for size, name in zip(place.meta["val"].shape, shape, strict=True):
            if isinstance(name, str) and isinstance(size, torch.SymInt):
                found[str(size.node.expr)] = name
    return found


def why_not_exported(error: Exception, dims: Mapping[str, object]) -> str:
    """torch.export's complaint in a line, with what to do."""
    text = str(error)
    fixed = [name for name in dims if f"({name})" in text or f"'{name}'" in text or f"`{name}`" in text or f"{name} = " in text]
    if "onstraints violated" in text or "pecialized" in text:
        which = ", ".join(fixed) or ", ".join(dims)
        return (
            f"the module fixes {which} to the example's size (a loop over it, an LSTM's steps, a reshape with a number), so it cannot vary; "
            f"leave {which} out of the shapes and export one size, or several modules"
        )
    first = next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
    return (
        f"torch.export cannot trace the module ({type(error).__name__}: {first[:300]}); see with torch.export.draft_export which line it is"
    )
