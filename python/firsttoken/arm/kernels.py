"""Which multiply instructions a plan implies on a core, and which ones really ran."""

import re
from pathlib import Path

import numpy as np

from firsttoken.arm.cores import Core
from firsttoken.arm.instruction_kinds import PATTERNS, is_kind
from firsttoken.decoder.walk import Layer
from firsttoken.precisions import PRECISIONS

WORDS = re.compile(rb"^0x[0-9a-f]+:  ([0-9a-f]{8}) ", re.MULTILINE)
TRANSLATED = ("-d", "in_asm")  # qemu logs each block once, when it is about to run: that costs next to nothing


def kinds_that_ran(log: Path) -> list[str]:
    """Returns the kinds of multiply instructions in a log of `TRANSLATED`."""
    words = np.frombuffer(bytes.fromhex(b"".join(WORDS.findall(log.read_bytes())).decode()), ">u4").astype(np.uint32)
    return [kind for kind in PATTERNS if is_kind(words, kind).any()]


def implied_kinds(
    precisions: dict[str, str], layers: list[Layer], native_fp16: bool, core: Core
) -> dict[str, tuple[tuple[str, ...], list[str]]]:
    """Returns, by precision, the kinds of instruction of which one has to run on ``core``, and the layers that imply it.

    ``precisions`` are the plan's by layer name. Integer weights meet integer activations on every target; FP16 is
    computed in FP16 only where the backend does so natively (``native_fp16``), and the core has the instructions.
    """
    implied: dict[str, tuple[tuple[str, ...], list[str]]] = {}
    for layer in layers:
        precision = precisions[layer.name]
        if layer.kind != "embedding" and PRECISIONS[precision].scales and core.dot_product:
            implied.setdefault("INT8", (("sdot", "smmla"), []))[1].append(layer.name)
        if layer.kind != "embedding" and precision == "fp16" and native_fp16 and core.half:
            implied.setdefault("FP16", (("fmla.8h",), []))[1].append(layer.name)
    return implied


def missed_kinds(ran: list[str], precisions: dict[str, str], layers: list[Layer], native_fp16: bool, core: Core) -> list[str]:
    """Returns one line for every precision of the plan whose fast instructions did not run."""
    return [
        f"{len(names)} layers of {precision} ({names[0]}{' …' if len(names) > 1 else ''}), but no {' or '.join(kinds)} ran on {core.name}: "
        f"they are computed on a slower kernel (ran: {', '.join(ran) or 'no multiply instruction that is known'})"
        for precision, (kinds, names) in implied_kinds(precisions, layers, native_fp16, core).items()
        if not set(kinds) & set(ran)
    ]
