"""A module that a function of the user's builds: ``my_model.py:build``."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from firsttoken.errors import FirstTokenError, nearest
from firsttoken.modules.describe import Lengths, describe_program
from firsttoken.modules.module import Module
from firsttoken.modules.traced import Shapes, trace
from firsttoken.user_function import load_user_function, told

KEYS = ("module", "example", "shapes", "lengths", "labels", "outputs")
EXPECTED = f"expected (module, example), or a dictionary with {', '.join(KEYS[:2])} and, as you like, {', '.join(KEYS[2:])}"


def build_module(given: str, lengths: Lengths | None = None, labels: Sequence[str] = ()) -> Module:
    """Runs ``file.py:function``, which returns ``(module, example)`` or a dictionary of `KEYS`, and traces the module.

    ``example`` is a tensor or several, in the order of the module's inputs; ``shapes`` what each dimension of each input is called
    (`traced.trace`); ``lengths`` and ``labels`` given here come before those of the function. Raises `FirstTokenError`.
    """
    try:
        function = load_user_function(given, ".", "", "where you are")
        built = function()
    except FirstTokenError:
        raise
    except Exception as error:  # whatever the user's file raises
        raise told(given, error) from error
    values = built_values(built, given)
    return module_of(
        values["module"],
        values["example"],
        given.rpartition(":")[0].rpartition("/")[2].removesuffix(".py"),
        values.get("shapes"),
        lengths or values.get("lengths"),
        labels or values.get("labels") or (),
        values.get("outputs"),
    )


def built_values(built: object, given: str) -> dict[str, Any]:
    """What the function returned, by `KEYS`. Raises `FirstTokenError` for anything else."""
    if isinstance(built, tuple) and len(built) == 2:
        return {"module": built[0], "example": built[1]}
    if not isinstance(built, Mapping):
        raise FirstTokenError(f"{given}: returned {type(built).__name__}; {EXPECTED}")
    if unknown := [key for key in built if key not in KEYS]:
        raise FirstTokenError(f"{given}: returned {unknown[0]!r}{nearest(str(unknown[0]), KEYS)}; {EXPECTED}")
    if missing := [key for key in KEYS[:2] if key not in built]:
        raise FirstTokenError(f"{given}: returned no {missing[0]!r}; {EXPECTED}")
    return dict(built)


def module_of(
    module: nn.Module,
    example: Tensor | Sequence[Tensor],
    name: str,
    shapes: Shapes | None = None,
    lengths: Lengths | None = None,
    labels: Sequence[str] = (),
    outputs: Sequence[str] | None = None,
) -> Module:
    """Traces a PyTorch module and describes it; see `build_module`. Raises `FirstTokenError`."""
    program, names = trace(module, [example] if isinstance(example, Tensor) else list(example), shapes)
    return describe_program(program, name, lengths, labels, names, outputs)
