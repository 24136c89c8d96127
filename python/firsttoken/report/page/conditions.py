"""The exact conditions before and after, and what makes a measurement to be read with care."""

import statistics

from firsttoken.measure.compare import FEWEST_PROCESSES, by_process
from firsttoken.measure.measurement import Conditions, Result
from firsttoken.measure.summary import first_token
from firsttoken.report.page.scale import bytes_text, plain
from firsttoken.report.page.subjects import DeviceGroup, Subject
from firsttoken.report.page.timeline import THERMAL

BUSY_CORES = 0.25  # other processes keeping more than this busy disturb the runs
WARMER = 5.0  # degrees
LATE_SLOWER = 1.1  # the last third of the runs against the first third
LOW_BATTERY = 20


def conditions_rows(result: Result) -> list[tuple[str, str, str]]:
    """Returns ``(what, before, after)`` for everything that was read at least once."""
    before, after = result.before, result.after
    sensors = list(dict.fromkeys([*before.temperatures, *(after.temperatures if after else {})]))
    readings = [
        ("time", lambda c: c.time),
        ("thermal status", lambda c: None if c.thermal_status is None else f"{c.thermal_status} {THERMAL[c.thermal_status]}"),
        *(
            (
                f"temperature {name}",
                lambda c, name=name: None if name not in c.temperatures else f"{plain(round(c.temperatures[name], 1))} °C",
            )
            for name in sensors
        ),
        ("battery", lambda c: None if c.battery_percent is None else f"{plain(c.battery_percent)} %"),
        ("charging", lambda c: None if c.charging is None else "yes" if c.charging else "no"),
        ("governor", lambda c: ", ".join(c.governors) or None),
        ("available memory", lambda c: None if c.available_memory_bytes is None else bytes_text(c.available_memory_bytes)),
    ]
    rows = [(what, read(before), read(after) if after else "not finished") for what, read in readings]
    return [(what, one or "not read", other or "not read") for what, one, other in rows if one is not None or (after and other is not None)]


def cautions(device: DeviceGroup) -> list[tuple[str, list[str]]]:
    """Returns ``(caution, the names of the bundles it is about)``, most serious first."""
    found: dict[str, list[str]] = {}
    for check in (_proof, _finished, _failed, _few, _hot, _slower, _busy, _cold, _battery):
        for subject in device.subjects:
            if caution := check(subject):
                found.setdefault(caution, []).append(subject.title)
    return list(found.items())


def _proof(subject: Subject) -> str | None:
    return {
        "passed": None,
        "failed": "The proof failed: the bundle does not compute what its checkpoint computes, so its speed is not worth having.",
        "none": "No proof: nothing says that the bundle computes what its checkpoint computes. Run firsttoken prove, then measure again.",
    }[subject.proof.state]


def _finished(subject: Subject) -> str | None:
    return None if subject.result.after else "The measurement was cut off: the conditions afterwards are unknown and runs may be missing."


def _failed(subject: Subject) -> str | None:
    count = len(subject.result.failures)
    return f"{count} {'run' if count == 1 else 'runs'} failed, see Failures." if count else None


def _few(subject: Subject) -> str | None:
    if not subject.groups:
        return "No runs."
    fewest = min(len(by_process(runs, first_token)) for runs in subject.groups.values())
    return (
        f"Fewer than {FEWEST_PROCESSES} processes ran a prompt length: too few to tell a difference from noise."
        if fewest < FEWEST_PROCESSES
        else None
    )


def _hot(subject: Subject) -> str | None:
    told = [*(state.thermal_status for state in _states(subject.result)), *(run.thermal_status for run in subject.result.runs)]
    statuses = [status for status in told if status is not None]
    if max(statuses, default=0) >= 2:
        return f"The device reported thermal status {max(statuses)} ({THERMAL[max(statuses)]}): from 2 on it slows itself down."
    temperatures = [run.temperature for run in subject.result.runs if run.temperature is not None]
    if temperatures and max(temperatures) - temperatures[0] > WARMER:
        return f"The device grew more than {WARMER:.0f} °C warmer during the runs."
    return None


def _slower(subject: Subject) -> str | None:
    """Every run against its group's median, so that prompt lengths count alike; then the last third against the first."""
    pairs = []
    for runs in subject.groups.values():
        middle = statistics.median(map(first_token, runs))
        pairs += [(run.at_seconds, first_token(run) / middle) for run in runs if middle]
    ratios = [ratio for _, ratio in sorted(pairs)]
    third = len(ratios) // 3
    if third < 3:
        return None
    slower = statistics.median(ratios[-third:]) / max(statistics.median(ratios[:third]), 1e-9)
    return "It slowed down while it ran: the last third of the runs took over 10 % longer than the first." if slower > LATE_SLOWER else None


def _busy(subject: Subject) -> str | None:
    loads = [run.other_load for run in subject.result.runs if run.other_load is not None]
    return (
        f"Other processes kept more than {BUSY_CORES} cores busy in most runs." if loads and statistics.median(loads) > BUSY_CORES else None
    )


def _cold(subject: Subject) -> str | None:
    states = {run.page_cache for run in subject.result.runs if run.state == "cold"}
    if "cached" in states:
        return "Cold runs found the file in the page cache: they loaded from memory, not from storage."
    return (
        "Whether cold runs found the file in the page cache is unknown: loading may have been faster than from storage."
        if "unknown" in states
        else None
    )


def _battery(subject: Subject) -> str | None:
    levels = [state.battery_percent for state in _states(subject.result) if state.battery_percent is not None]
    return f"The battery was below {LOW_BATTERY} %: phones save power then." if min(levels, default=100) < LOW_BATTERY else None


def _states(result: Result) -> list[Conditions]:
    return [state for state in (result.before, result.after) if state is not None]
