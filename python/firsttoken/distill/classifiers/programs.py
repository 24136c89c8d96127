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
Answers = Tensor | dict[str, Tensor]  # of one head, or of several by name


def write_programs(student: nn.Module, example: tuple[Tensor, ...], folder: Path) -> dict[str, dict]:
    """Writes `PROGRAM` and, of an elastic student, a program for each narrower width; returns what each file is.

    Each input of ``example`` is ``[2, …]``; the programs take any batch. Raises `FirstTokenError` where one that was written gives other numbers.
    """
    if not isinstance(student, Elastic):
        return {PROGRAM: write_program(student, example, folder / PROGRAM)}
    found = {}
    for width in reversed(student.widths):
        name = PROGRAM if width == student.widths[-1] else f"model-width-{width:g}.pt2"
        student.use(width)
        with torch.no_grad():
            wanted = student(*example)
        found[name] = {"width": width, **write_program(student.extract(width), example, folder / name, wanted)}
    student.use(student.widths[-1])
    return found


def write_program(network: nn.Module, example: tuple[Tensor, ...], path: Path, wanted: Answers | None = None) -> dict:
    """Writes a program, loads it, and holds it against ``wanted``, by default what the network gives; returns its size."""
    network.eval()
    batch = {0: torch.export.Dim("batch", min=1, max=1 << 16)}
    program = torch.export.export(network, example, dynamic_shapes=tuple(batch for _ in example))
    torch.export.save(program, path)
    with torch.no_grad():
        wanted = network(*example) if wanted is None else wanted
        check_same_answers(wanted, torch.export.load(path).module()(*example))
    size = {"parameters": parameters_of(network), "multiply_adds": multiply_adds(network, example)}
    return {**size, "bytes": path.stat().st_size, "sha256": sha256_of(path)}


def check_same_answers(wanted: Answers, got: Answers) -> None:
    """Raises `FirstTokenError` where a program gives other logits, of one head or several, than the student."""
    heads = {"": wanted} if isinstance(wanted, Tensor) else wanted
    of_program = {"": got} if isinstance(got, Tensor) else got
    for name, ours in heads.items():
        theirs = of_program[name]
        if not torch.allclose(ours, theirs, rtol=1e-3, atol=1e-4):
            raise FirstTokenError(
                f"the exported program differs from the student by {float((ours - theirs).abs().max()):.3g}; it was not written"
            )


def sha256_of(path: Path) -> str:
    """SHA-256 of a program's bytes, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
