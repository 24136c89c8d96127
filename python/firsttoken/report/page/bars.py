"""Bars with their single runs as dots: TTFT stacked by stage, decode speed, peak memory.

Geometry only, in percent of the plot's width, so that the page needs no script to fit a screen.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from firsttoken.measure.measurement import Run
from firsttoken.measure.summary import STATES, Summary, decode_speed, first_token, middle_stages, summarize, summary_of
from firsttoken.report.page.scale import Axis, axis_time_text, bytes_text, linear_axis, plain, three_digits, time_text
from firsttoken.report.page.subjects import DeviceGroup, Subject

FAR_OUT = 2.5  # an axis ends here times the largest median; a hiccup further out is counted beside it
DOT_ROWS = (16.0, 18.5, 21.0)  # pixels from the top: neighbours lie on different heights
WIDE = 1000  # units of a dot layer's width, about a pixel each


@dataclass(frozen=True)
class Segment:
    """A piece of a bar: ``kind`` is its style class; ``start`` and ``width`` are percent."""

    kind: str
    start: float
    width: float
    title: str


@dataclass(frozen=True)
class Line:
    """One bar: ``name`` before it (cold, warm, 128 tokens), ``value`` and ``spread`` after it, ``dots`` the path of its runs."""

    name: str
    segments: list[Segment]
    dots: str
    value: str
    spread: str
    marks: list[tuple[float, str]] = field(default_factory=list)  # (percent, title): a line across


@dataclass(frozen=True)
class SubjectBars:
    """A subject's bars."""

    subject: Subject
    lines: list[Line]


@dataclass(frozen=True)
class Panel:
    """Bars over one axis."""

    title: str
    axis: Axis
    rows: list[SubjectBars]


def first_token_panels(device: DeviceGroup) -> list[Panel]:
    """One panel for each prompt length: a stacked bar for the cold and the warm runs of each subject."""
    panels = []
    for tokens in device.prompts:
        found = {subject.number: {state: subject.groups.get((tokens, state), []) for state in STATES} for subject in device.subjects}
        axis = _axis(map(first_token, runs) for by_state in found.values() for runs in by_state.values())
        rows = []
        for subject in device.subjects:
            lines = [_stacked(state, runs, axis) for state, runs in found[subject.number].items() if runs]
            if lines:
                rows.append(SubjectBars(subject, lines))
        panels.append(Panel(f"{tokens} prompt tokens", axis, rows))
    return panels


def decode_panel(device: DeviceGroup) -> Panel | None:
    """Tokens per second after the first one, for each subject and prompt length; warm runs where there are any."""
    rows_of: dict[int, list[tuple[str, list[float]]]] = {}
    for subject in device.subjects:
        for tokens in device.prompts:
            warm, cold = (_decode_speeds(subject, tokens, state) for state in ("warm", "cold"))
            if warm or cold:
                rows_of.setdefault(subject.number, []).append((str(tokens), warm) if warm else (f"{tokens} cold", cold))
    if not rows_of:
        return None
    axis = _axis((speeds for named in rows_of.values() for _, speeds in named), plain)
    rows = [
        SubjectBars(subject, [_speed_bar(name, speeds, axis) for name, speeds in rows_of[subject.number]])
        for subject in device.subjects
        if subject.number in rows_of
    ]
    return Panel("tokens per second after the first token, by prompt tokens", axis, rows)


def memory_panel(device: DeviceGroup) -> Panel | None:
    """The highest memory of any run for each subject and state, the artifact's size marked."""
    found = {subject.number: {state: _peaks(subject, state) for state in STATES} for subject in device.subjects}
    values = [peak for by_state in found.values() for peaks in by_state.values() for peak in peaks]
    if not values:
        return None
    shown = [subject for subject in device.subjects if any(found[subject.number].values())]
    unit = 1 << 30 if max(values) > 4 << 30 else 1 << 20
    axis = linear_axis(
        0,
        max([*values, *(s.result.bundle.artifact_bytes for s in shown)]) / unit,
        lambda v: f"{plain(v)} {'GiB' if unit == 1 << 30 else 'MiB'}",
    )
    axis = Axis(axis.low * unit, axis.high * unit, axis.ticks)
    rows = []
    for subject in shown:
        size = subject.result.bundle.artifact_bytes
        lines = []
        for state, peaks in found[subject.number].items():
            if peaks:
                highest = max(peaks)
                segment = Segment("memory", 0, axis.at(highest), f"highest of {len(peaks)} runs: {bytes_text(highest)}")
                lines.append(
                    Line(
                        state,
                        [segment],
                        dots([axis.at(peak) for peak in peaks]),
                        bytes_text(highest),
                        "",
                        [(axis.at(size), f"artifact on disk: {bytes_text(size)}")],
                    )
                )
        rows.append(SubjectBars(subject, lines))
    return Panel("highest resident memory of the process", axis, rows)


def _decode_speeds(subject: Subject, tokens: int, state: str) -> list[float]:
    return [speed for run in subject.groups.get((tokens, state), []) if (speed := decode_speed(run)) is not None]


def _peaks(subject: Subject, state: str) -> list[int]:
    """Bytes of every run that told its memory."""
    runs = [run for (_, each), group in subject.groups.items() if each == state for run in group]
    return [run.peak_memory_bytes for run in runs if run.peak_memory_bytes is not None]


def _axis(groups: Iterable[Iterable[float]], name: Callable[[float], str] = axis_time_text) -> Axis:
    """An axis from 0 over all values, but not further than `FAR_OUT` times the largest median."""
    known = [summary for values in groups if (summary := summarize(values))]
    if not known:
        return linear_axis(0, 1, name)
    return linear_axis(0, min(max(s.maximum for s in known), FAR_OUT * max(s.median for s in known)), name)


def _stacked(state: str, runs: list[Run], axis: Axis) -> Line:
    stages = middle_stages(runs)
    segments, start = [], 0.0
    for stage, value in stages.items():
        share = value / max(sum(stages.values()), 1)
        segments.append(
            Segment(
                stage,
                axis.at(start),
                round(axis.at(start + value) - axis.at(start), 3),
                f"{stage}: {time_text(value)}, {share:.1%} of TTFT",
            )
        )
        start += value
    values = list(map(first_token, runs))
    summary = summary_of(values)
    return _with_dots(state, segments, values, axis, time_text(summary.median), _spread(summary), time_text)


def _speed_bar(name: str, speeds: list[float], axis: Axis) -> Line:
    summary = summary_of(speeds)
    middle = f"{three_digits(summary.median)} tokens/s"
    # the slow end is the one to know: a 90th percentile of a speed would be the fast one
    spread = "1 run" if summary.count == 1 else f"{three_digits(summary.minimum)} to {three_digits(summary.maximum)}, n={summary.count}"
    return _with_dots(
        name,
        [Segment("decode", 0, axis.at(summary.median), f"median {middle}")],
        speeds,
        axis,
        middle,
        spread,
        three_digits,
    )


def _with_dots(
    name: str, segments: list[Segment], values: list[float], axis: Axis, value: str, spread: str, text: Callable[[float], str]
) -> Line:
    beyond = [one for one in values if one > axis.high]
    if beyond:
        spread += f"; {len(beyond)} beyond the axis, up to {text(max(beyond))}"
    return Line(name, segments, dots([axis.at(one) for one in values if one <= axis.high]), value, spread)


def _spread(summary: Summary) -> str:
    if summary.count == 1:
        return "1 run"
    return f"min {time_text(summary.minimum)}, p90 {time_text(summary.p90)}, n={summary.count}"


def dots(places: list[float], heights: tuple[float, ...] = DOT_ROWS) -> str:
    """Returns the path of one dot for each place in percent: strokes of no length, drawn round by the style. Dots on the same pixel are one."""
    return "".join(dict.fromkeys(f"M{place * WIDE / 100:.0f} {heights[number % len(heights)]:g}h0" for number, place in enumerate(places)))
