"""A student as programs (torch.export) that need nothing of firsttoken: one, or one a width."""

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn

from firsttoken.distill.classifiers.elastic import Elastic
from firsttoken.distill.classifiers.size import multiply_adds
from firsttoken.distill.models import parameters_of
from firsttoken.errors import FirstTokenError

PROGRAM = "model.pt2"


def write_programs(student: nn.Module, example: Tensor, folder: Path) -> dict[str, dict]:
    """Writes `PROGRAM` and, of an elastic student, a program for each narrower width; returns what each file is.

    ``example`` is ``[2, …]``; the programs take any batch. Raises `FirstTokenError` where one that was written gives other numbers.
    """
    if not isinstance(student, Elastic):
        return {PROGRAM: write_program(student, example, folder / PROGRAM)}
    found = {}
    for width in reversed(student.widths):
        name = PROGRAM if width == student.widths[-1] else f"model-width-{width:g}.pt2"
        student.use(width)
        with torch.no_grad():
            wanted = student(example)
        found[name] = {"width": width, **write_program(student.extract(width), example, folder / name, wanted)}
    student.use(student.widths[-1])
    return found


def write_program(network: nn.Module, example: Tensor, path: Path, wanted: Tensor | None = None) -> dict:
    """Writes a program, loads it, and holds it against ``wanted``, by default what the network gives; returns its size."""
    network.eval()
    program = torch.export.export(network, (example,), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=1 << 16)},))
    torch.export.save(program, path)
    with torch.no_grad():
        wanted = network(example) if wanted is None else wanted
        got = torch.export.load(path).module()(example)
    if not torch.allclose(wanted, got, rtol=1e-3, atol=1e-4):
        raise FirstTokenError(
            f"the exported program differs from the student by {float((wanted - got).abs().max()):.3g}; it was not written"
        )
    size = {"parameters": parameters_of(network), "multiply_adds": multiply_adds(network, example)}
    return {**size, "bytes": path.stat().st_size, "sha256": sha256_of(path)}


def sha256_of(path: Path) -> str:
    """SHA-256 of a program's bytes, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
