"""What tests of the report share."""

import re
from collections.abc import Iterable

from firsttoken.report.page.bars import WIDE
from firsttoken.report.page.sources import Source
from firsttoken.report.page.subjects import DeviceGroup, device_groups


def device_of(measurement) -> DeviceGroup:
    """The one device of a measurement, as the page groups it."""
    [device] = device_groups([Source("m.json", None, measurement, "")])
    return device


def places(path: str) -> list[float]:
    """The dots of a path, in percent of the width."""
    return [float(x) * 100 / WIDE for x in re.findall(r"M([\d.]+) [\d.]+h0", path)]


def pixels(places: Iterable[float]) -> set[float]:
    """Places in percent as a path keeps them: rounded to its units, equal ones once."""
    return {float(f"{place * WIDE / 100:.0f}") * 100 / WIDE for place in places}
