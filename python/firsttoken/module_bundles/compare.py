"""The numbers of a written file against those of the float module, output by output."""

from collections.abc import Mapping

import numpy as np
import torch

from firsttoken.bundle.module_manifest import OutputFigures
from firsttoken.errors import FirstTokenError
from firsttoken.modules.module import Module
from firsttoken.quant.module_plan import ModuleGate

CHUNK = 16  # samples in one call of the float module
LEAST = 1e-12  # what a root mean square is divided by at least
Outputs = Mapping[str, np.ndarray]


def run_float(module: Module, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the float module gives for ``inputs``, by the outputs' names, a few samples at a time. Raises `FirstTokenError` where that is not finite."""
    batch = isinstance(module.inputs[0].shape[0], str) if module.inputs[0].shape else False
    step = CHUNK if batch else int(module.inputs[0].shape[0])
    called = module.program.module()
    found: list[list[np.ndarray]] = []
    count = len(next(iter(inputs.values())))
    if count % step and not batch:
        raise FirstTokenError(
            f"{module.name}: takes {step} samples at a time, and there are {count}; export it with a batch that may vary, or give a multiple"
        )
    for start in range(0, count, step):
        with torch.no_grad():
            given = called(*(torch.from_numpy(inputs[one.name][start : start + step]) for one in module.inputs))
        values = list(given.values()) if isinstance(given, dict) else list(given) if isinstance(given, tuple | list) else [given]
        found.append([value.numpy() for value in values])
    joined = {one.name: np.concatenate([part[at] for part in found]) for at, one in enumerate(module.outputs)}
    for name, array in joined.items():
        if not np.isfinite(array).all():
            raise FirstTokenError(
                f"{module.name}: its own output {name!r} is not finite in FP32 on these inputs; give inputs of the kind that it was trained on"
            )
    return joined


def tells_classes(module: Module, name: str) -> bool:
    """Whether an output is ``[batch, classes]``."""
    shape = next(one.shape for one in module.outputs if one.name == name)
    return len(shape) == 2 and isinstance(shape[1], int) and shape[1] > 1


def figures_of(module: Module, wanted: Outputs, got: Outputs) -> tuple[list[OutputFigures], list[str]]:
    """The figures of every output, and what is wrong beyond them: an output that is missing, of another shape or not finite."""
    figures, wrong = [], []
    for output in module.outputs:
        name, reference = output.name, wanted[output.name].astype(np.float64)
        if name not in got or got[name].shape != reference.shape:
            shape = list(got[name].shape) if name in got else "absent"
            wrong.append(f"output {name!r} is {shape}; expected {list(reference.shape)}")
            continue
        values = got[name].astype(np.float64)
        if bad := int((~np.isfinite(values)).sum()):
            wrong.append(f"output {name!r} has {bad:,} numbers of {values.size:,} that are not finite")
            continue
        figures.append(figures_of_output(name, reference, values, tells_classes(module, name)))
    return figures, wrong


def figures_of_output(name: str, reference: np.ndarray, values: np.ndarray, classes: bool) -> OutputFigures:
    """Of arrays ``[samples, …]`` in float64. Errors are parts of the reference's root mean square, over all samples."""
    size = max(rms(reference), LEAST)
    difference = np.abs(values - reference)
    flat, other = reference.reshape(len(reference), -1), values.reshape(len(values), -1)
    norms = np.linalg.norm(flat, axis=1) * np.linalg.norm(other, axis=1)
    both_zero = (np.linalg.norm(flat, axis=1) <= LEAST) & (np.linalg.norm(other, axis=1) <= LEAST)
    cosines = np.where(both_zero, 1.0, (flat * other).sum(1) / np.maximum(norms, LEAST))
    return OutputFigures(
        name=name,
        same_top=float((reference.argmax(-1) == values.argmax(-1)).mean()) if classes else None,
        max_error=float(difference.max() / size),
        mean_error=float(difference.mean() / size),
        cosine=float(cosines.mean()),
        worst_cosine=float(cosines.min()),
        magnitude_ratio=rms(values) / size,
    )


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.square(values).mean()))


def missed_bounds(gate: ModuleGate, figures: list[OutputFigures], random: bool = False) -> list[str]:
    """One line for every bound that an output misses. Of ``random`` inputs, which have no class, the share of equal classes is none."""
    misses = []
    for one in figures:
        if one.same_top is not None and not random and not one.same_top >= gate.same_top:
            misses.append(f"{one.name}: same class for {one.same_top:.2%} of samples; the plan asks {gate.same_top:.2%}")
        if not one.max_error <= gate.max_error:
            misses.append(
                f"{one.name}: largest error {one.max_error:.3g} of the outputs' root mean square; the plan allows {gate.max_error:g}"
            )
        if not one.cosine >= gate.cosine:
            misses.append(f"{one.name}: cosine {one.cosine:.5f}; the plan asks {gate.cosine:g}")
        if not abs(one.magnitude_ratio - 1) <= gate.magnitude:
            misses.append(f"{one.name}: magnitude {one.magnitude_ratio:.4f} of the float module's; the plan allows 1 ± {gate.magnitude:g}")
    return misses


def accuracy_of(values: np.ndarray, labels: np.ndarray) -> float:
    """The share of samples with a known label whose greatest output it is."""
    known = labels >= 0
    return float((values[known].argmax(-1) == labels[known]).mean())
