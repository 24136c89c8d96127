"""The precisions: the one table of what they are. Adding one: a line here, the backends that can compute it, their tests."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field

from firsttoken.errors import nearest


@dataclass(frozen=True)
class Precision:
    """``bits`` a weight is stored in; ``computed``: what a layer may be computed in where its backend says nothing else.

    ``scales``: one scale a "row" of the weight, one a "group" of a row's neighbours (as many as the plan says, or all), or None for a float.
    ``static``: what a layer's input and output are rounded to with one scale each that a calibration text decided, before anything runs; None: nothing is.
    """

    name: str
    bits: int
    computed: frozenset[str]
    scales: str | None = None
    static: str | None = None

    @property
    def weight(self) -> str:
        """The precision whose weights these are."""
        return self.name if self.static is None else "int8"


@dataclass(frozen=True)
class WeightGrid:
    """How a backend's format rounds integer weights: a row's (group's) largest value divided by these is its scale.

    ``lowest``: the lowest integer, which has no opposite, is used too, and a weight is multiplied by the scale's reciprocal (torchao). ``blocks``: so many
    columns share a scale in float16, in int8 too, and int4's largest weight is its lowest integer (GGUF's Q8_0 and Q4_0). ``float_blocks``: an int8 row has
    a scale for every `BLOCK` columns, and those of groups are float32, with the largest weight at the lowest integer (onnxruntime).
    """

    int8: float = 127.0
    int4: float = 7.0
    lowest: bool = False
    blocks: int | None = None
    float_blocks: bool = False


BLOCK = 32
"""Columns of a block where a plan asks for no groups."""

OUTLIER = 2.0
"""Times the root mean square of a token's input: what lies beyond is an outlier where a plan keeps them apart. Of 1 to 6, the damage of five layers of SmolLM2 that were tried was least between 1.5 and 3."""

PRECISIONS = {
    precision.name: precision
    for precision in (
        Precision("fp32", 32, frozenset({"fp32"})),
        Precision("fp16", 16, frozenset({"fp16"})),
        Precision("int8", 8, frozenset({"int8"}), "row"),
        Precision("int8-weight", 8, frozenset({"fp32"}), "row"),  # of modules: activations stay floats
        Precision("int4", 4, frozenset({"int4", "int8"}), "group"),  # meets activations in int8
        Precision("int8-static", 8, frozenset({"int8"}), "row", static="int8"),
        Precision("int16x8", 8, frozenset({"int16"}), "row", static="int16"),
    )
}


def known(name: str) -> str:
    """Returns ``name``. Raises `ValueError` with the nearest name if there is no such precision."""
    if name not in PRECISIONS:
        raise ValueError(f"input should be one of {', '.join(PRECISIONS)}{nearest(name, PRECISIONS)}")
    return name


def with_group(precision: str, group: int, columns: int) -> str:
    """A precision as audits write it: where groups of a row may have scales, with how many columns share one, as in "int4/32" and "int4/row"."""
    if PRECISIONS[precision].scales != "group":
        return precision
    return f"{precision}/{'row' if group == columns else group}"


def without_group(written: str) -> str:
    """The precision of what `with_group` wrote."""
    return written.partition("/")[0]


STATIC = tuple(name for name, one in PRECISIONS.items() if one.static is not None)
"""Those whose activations' ranges are calibrated."""

PrecisionName = Annotated[str, AfterValidator(known), Field(json_schema_extra={"enum": list(PRECISIONS)})]


def closest(asked: str, possible: tuple[str, ...]) -> str:
    """The precision of ``possible`` that is nearest in bits; of two, the wider one."""
    bits = {name: PRECISIONS[name].bits for name in (asked, *possible)}
    return min(possible, key=lambda name: (abs(bits[name] - bits[asked]), -bits[name]))
