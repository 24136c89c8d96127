"""What happened during the run: temperature and thermal status, and every bundle's TTFT against its own fastest."""

from dataclasses import dataclass
from functools import partial

from firsttoken.measure.measurement import Run
from firsttoken.measure.summary import first_token
from firsttoken.report.page.bars import WIDE, dots
from firsttoken.report.page.scale import Axis, linear_axis, plain
from firsttoken.report.page.sources import Source
from firsttoken.report.page.subjects import DeviceGroup, Subject

THERMAL = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
HEIGHT = {"temperature": 110, "speed": 56}  # pixels
MARGIN = 8  # pixels above and below the outermost values
SLOWEST = 4.0  # times the fastest; a slower run is drawn at the top edge


@dataclass(frozen=True)
class Strip:
    """A plot over time: ``lines`` are y positions in pixels with their text, ``dots`` the paths of cold and warm runs."""

    title: str
    height: int
    lines: list[tuple[float, str]]
    dots: dict[str, str]
    curve: str = ""
    subject: Subject | None = None
    note: str = ""


@dataclass(frozen=True)
class Band:
    """A time in which the thermal status was one and the same; ``start`` and ``width`` are percent."""

    status: int
    name: str
    start: float
    width: float


@dataclass(frozen=True)
class Timeline:
    """One file's runs over time. ``temperature`` is None where the device did not tell."""

    source: Source
    axis: Axis
    temperature: Strip | None
    bands: list[Band]
    speed: list[Strip]


def timelines(device: DeviceGroup) -> list[Timeline]:
    """Returns a timeline for each file of the device, since each counts its own seconds."""
    made = []
    for source in dict.fromkeys(subject.source for subject in device.subjects if subject.groups):
        subjects = [subject for subject in device.subjects if subject.source is source and subject.groups]
        runs = sorted((run for subject in subjects for run in subject.result.runs), key=lambda run: run.at_seconds)
        longest = max(run.at_seconds for run in runs)
        seconds, unit = (60, "min") if longest > 300 else (1, "s")
        axis = linear_axis(0, longest / seconds, partial(_in_unit, unit))
        axis = Axis(0, axis.high * seconds, axis.ticks)
        made.append(
            Timeline(
                source,
                axis,
                _temperature(runs, axis),
                _bands(runs, axis),
                [strip for subject in subjects if (strip := _speed(subject, axis))],
            )
        )
    return made


def _in_unit(unit: str, value: float) -> str:
    return f"{plain(value)} {unit}"


def _temperature(runs: list[Run], axis: Axis) -> Strip | None:
    known = [(run.at_seconds, run.temperature) for run in runs if run.temperature is not None]
    if not known:
        return None
    height = HEIGHT["temperature"]
    degrees = [temperature for _, temperature in known]
    values = linear_axis(min(degrees), max(degrees), lambda v: f"{plain(v)} °C", about=3)
    places = [(axis.at(at), _y(values, temperature, height)) for at, temperature in known]
    curve = "M" + "L".join(dict.fromkeys(f"{x * WIDE / 100:.0f} {y:.0f}" for x, y in places))
    first, last, most = degrees[0], degrees[-1], max(degrees)
    note = f"{plain(round(first, 1))} °C at the first run, {plain(round(last, 1))} °C at the last, {plain(round(most, 1))} °C at most"
    return Strip("temperature", height, _lines(values, height), {"warm": _path(places)}, curve, note=note)


def _speed(subject: Subject, axis: Axis) -> Strip | None:
    """Every run's TTFT as a multiple of the fastest of its prompt length and state."""
    height = HEIGHT["speed"]
    found: dict[str, list[tuple[float, float]]] = {}  # seconds and ratio of every run, by state
    for (_, state), runs in subject.groups.items():
        fastest = min(first_token(run) for run in runs)
        if fastest > 0:
            found.setdefault(state, []).extend((run.at_seconds, first_token(run) / fastest) for run in runs)
    if not found:
        return None
    slowest = max(ratio for pairs in found.values() for _, ratio in pairs)
    values = linear_axis(1, min(max(slowest, 1.2), SLOWEST), lambda v: f"{plain(v)}×", about=2)
    values = Axis(1.0, values.high, values.ticks)
    paths = {state: _path([(axis.at(at), _y(values, ratio, height)) for at, ratio in pairs]) for state, pairs in found.items()}
    note = f"slowest run {slowest:.2f}× its group's fastest"
    ends = [(_y(values, 1.0, height), "1×"), (_y(values, values.high, height), f"{plain(values.high)}×")]
    return Strip(subject.title, height, ends, paths, subject=subject, note=note)


def _bands(runs: list[Run], axis: Axis) -> list[Band]:
    known = [(run.at_seconds, run.thermal_status) for run in runs if run.thermal_status is not None]
    bands: list[Band] = []
    for number, (at, status) in enumerate(known):
        end = known[number + 1][0] if number + 1 < len(known) else at
        start = axis.at(at if number else 0)
        width = round(axis.at(end) - start, 3)
        if bands and bands[-1].status == status:
            last = bands.pop()
            start, width = last.start, round(start + width - last.start, 3)
        bands.append(Band(status, THERMAL[status], start, width))
    return bands


def _lines(values: Axis, height: int) -> list[tuple[float, str]]:
    return [(round(height - MARGIN - place / 100 * (height - 2 * MARGIN), 1), text) for place, text in values.ticks]


def _y(values: Axis, value: float, height: int) -> float:
    return round(height - MARGIN - values.at(value) / 100 * (height - 2 * MARGIN), 1)


def _path(places: list[tuple[float, float]]) -> str:
    return "".join(dict.fromkeys(dots([x], (round(y),)) for x, y in places))
