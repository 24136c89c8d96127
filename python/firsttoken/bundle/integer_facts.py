"""What a manifest says of integers that are not the nearest ones: chosen on a text, smoothed for, or the checkpoint's own."""

from pydantic import Field

from firsttoken.bundle.part import Part


class Smoothing(Part):
    """What of a plan's ``smooth`` was kept: strengths by what the outliers were divided in (`calibration.smoothed.KINDS`), none where nothing helped.

    ``mean_kld`` and ``mean_kld_without`` are nats per token over ``tokens`` tokens of the calibration text that were held back.
    """

    kept: dict[str, float]
    mean_kld: float
    mean_kld_without: float
    tokens: int


class IntegerScale(Part):
    """What integers stand for: ``(integer - zero_point) * scale``."""

    scale: float
    zero_point: int


class Range(Part):
    """The values that a rounding with one scale covers. On the calibration text the share ``saturated`` lay beyond, and rounding changed the values by ``error``, root mean squares as a part."""

    low: float
    high: float
    saturated: float = Field(ge=0, le=1)
    error: float = Field(ge=0)


class StaticLayer(Part):
    """A layer whose input and output (its product, without the bias) are rounded with one scale each, and how these follow from the text: ``method`` is a plan's ``range``.

    ``outlier_channels`` are the input's, whose largest magnitude was beyond 6 times the median channel's; the largest first.
    """

    layer: str
    precision: str
    method: str
    input: Range
    output: Range
    outlier_channels: list[int] = Field(default_factory=list)


class CalibrationFacts(Part):
    """The text on which a plan's method chose integers or ranges, or what is smoothed, by name and by the SHA-256 of its UTF-8 bytes."""

    text: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    smoothing: Smoothing | None = None
    static: list[StaticLayer] = Field(default_factory=list)

    @property
    def ranges(self) -> dict[str, StaticLayer]:
        """The static layers by name."""
        return {one.layer: one for one in self.static}


class KeptIntegers(Part):
    """Layers that hold the integers that the checkpoint had: ``form`` says in which format, ``stored`` how.

    ``group`` columns of a row share a scale in the file, None: the whole row. Of all ``groups``, ``inexact_groups`` have an integer that kernels do not take (the opposite of
    the lowest, where a scale is negative; of int8 the lowest twice in a row), and got another scale, with the least error. ``scale_change``: of the others' scales by rounding them, as a part, at most.
    """

    form: str
    stored: str
    precision: str
    group: int | None = Field(None, ge=1)
    layers: list[str] = Field(min_length=1)
    groups: int = Field(ge=0)
    inexact_groups: int = Field(0, ge=0)
    scale_change: float = Field(0.0, ge=0)
