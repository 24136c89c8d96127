"""The ARM cores that can be emulated, and the instructions that each has beside plain ARMv8.

``max`` is left out of `CORES` on purpose: it has SME, for which XNNPACK takes kernels that no phone core here would run.
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

    @property
    def isa(self) -> str:
        """Which packed weights it takes (`backends.isa.ARM`)."""
        if self.name == "max":
            return "sme"
        return "i8mm" if self.matrix else "dotprod" if self.dot_product else "armv8"


CORES = {
    core.name: core
    for core in (
        Core("cortex-a76", "2018, ARMv8.2: FP16 and dot product; the big core of many phones", True, True, False),
        Core("neoverse-v1", "2020, ARMv8.4: also i8mm, bf16 and SVE; stands for newer big cores", True, True, True),
        Core("cortex-a53", "2012, ARMv8.0: neither FP16 arithmetic nor dot product; old and small cores", False, False, False),
    )
}
NEWEST = Core("max", "the emulator's own, with SME; for packing weights alone", True, True, True)
PACKS_FOR = {
    "armv8": CORES["cortex-a53"],
    "dotprod": CORES["cortex-a76"],
    "i8mm": CORES["neoverse-v1"],
    "sme": NEWEST,
}
"""The core on which weights are packed for a kind of CPU (`backends.isa.ARM`)."""
DEFAULT_CORE = "cortex-a76"


def find_core(name: str) -> Core:
    """Returns a core by name. Raises `FirstTokenError` for one that cannot be emulated."""
    if name not in CORES:
        raise FirstTokenError(f"core {name!r} is unknown{nearest(name, CORES)}; expected one of {', '.join(CORES)}")
    return CORES[name]
