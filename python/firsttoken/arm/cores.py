"""The ARM cores that can be emulated, and the instructions that each has beside plain ARMv8.

``max`` is left out on purpose: it has SME, for which XNNPACK takes kernels that no phone core here would run.
"""

from dataclasses import dataclass

from firsttoken.errors import FirstTokenError, nearest


@dataclass(frozen=True)
class Core:
    """A core by qemu's name. ``dot_product``: sdot. ``half``: FP16 arithmetic. ``matrix``: smmla (i8mm)."""

    name: str
    summary: str
    dot_product: bool
    half: bool
    matrix: bool


CORES = {
    core.name: core
    for core in (
        Core("cortex-a76", "2018, ARMv8.2: FP16 and dot product; the big core of many phones", True, True, False),
        Core("neoverse-v1", "2020, ARMv8.4: also i8mm, bf16 and SVE; stands for newer big cores", True, True, True),
        Core("cortex-a53", "2012, ARMv8.0: neither FP16 arithmetic nor dot product; old and small cores", False, False, False),
    )
}
DEFAULT_CORE = "cortex-a76"


def find_core(name: str) -> Core:
    """Returns a core by name. Raises `FirstTokenError` for one that cannot be emulated."""
    if name not in CORES:
        raise FirstTokenError(f"core {name!r} is unknown{nearest(name, CORES)}; expected one of {', '.join(CORES)}")
    return CORES[name]
