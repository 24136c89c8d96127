"""`firsttoken.export_module`: a PyTorch module in Python to proven bundles."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firsttoken.progress import Report, silent

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    Arrays = Mapping[str, np.ndarray | Tensor]


def export_module(
    module: "nn.Module | str | Path",
    example: "Tensor | Sequence[Tensor] | None" = None,
    output: str | Path = "out",
    *,
    plan: str | Path = "module-int8",
    targets: str | Path | Sequence[str | Path] = "tflite-xnnpack",
    samples: "Arrays | str | Path | None" = None,
    held_out: "Arrays | str | Path | None" = None,
    shapes: Sequence[Sequence[int | str | None]] | None = None,
    lengths: Mapping[str, Sequence[int]] | None = None,
    labels: Sequence[str] = (),
    outputs: Sequence[str] | None = None,
    name: str = "module",
    width: float | None = None,
    prove: bool = True,
    force: bool = False,
    progress: Report = silent,
    say: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """Exports a classifier, an encoder or a series model to one proven bundle for each target, ``output/<target>/``; returns these folders.

    ``module`` is a ``torch.nn.Module`` with ``example``, its inputs in their order, or what the command line takes: a student's folder, a ``.pt2``,
    "my_model.py:build". ``shapes`` says for each input what its dimensions are called, numbers or None where they are fixed (default: the first is
    "batch"); ``lengths`` the sizes for which a runtime without dynamic ones gets a graph each, by dimension; ``labels`` the classes; ``outputs`` the
    outputs' names. ``samples`` are inputs by name, arrays ``[samples, …]`` or an ``.npz``, for plans with calibrated ranges; ``held_out`` those that
    prove the written file, with "labels", if any. ``plan`` is a name from `firsttoken plans` for modules or a ``.toml``; ``width`` is for a student that has several.

    Raises `FirstTokenError` for bad input, and `GateError` for a bundle that missed its proof.

        [bundle] = firsttoken.export_module(network, torch.zeros(1, 3, 64, 64), "out", labels=("cat", "dog"), held_out={"x": images, "labels": classes})
    """
    from firsttoken.errors import FirstTokenError
    from firsttoken.module_bundles.export import export_source
    from firsttoken.modules.built import module_of
    from firsttoken.modules.sources import Source, open_source

    if isinstance(module, str | Path):
        given = [called for called, value in (("example", example), ("shapes", shapes), ("outputs", outputs)) if value is not None]
        if given:
            raise FirstTokenError(f"{given[0]} goes with a module made in Python; {module} says it itself, leave it out")
        source = open_source(module, width, lengths, labels)
    elif width is not None:
        raise FirstTokenError("width is for a student's folder with several widths; leave it out")
    elif example is None:
        raise FirstTokenError("example is missing; give the module's inputs, one tensor after the other")
    else:
        source = Source(module_of(module, example, name, shapes, lengths, labels, outputs))
    several = [targets] if isinstance(targets, str | Path) else targets
    return export_source(source, output, plan, several, arrays_of(samples), arrays_of(held_out), prove, force, progress, say)


def arrays_of(given: "Arrays | str | Path | None") -> "dict[str, Any] | None":
    """Arrays by name, of a mapping of arrays or tensors, or of an ``.npz``. Raises `FirstTokenError`."""
    import numpy as np

    from firsttoken.modules.samples import read_samples

    if given is None:
        return None
    if isinstance(given, str | Path):
        return read_samples(given)
    return {name: np.asarray(value) for name, value in given.items()}
