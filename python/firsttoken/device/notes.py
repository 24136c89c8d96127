"""What a reader must know about the figures of a phone, in words, under its table."""

from firsttoken.device.conditions import STATUS_NAMES
from firsttoken.device.untrusted import one_line
from firsttoken.measure.measurement import Conditions, Measurement
from firsttoken.measure.summary import groups
from firsttoken.report.bench_table import reading_notes


def phone_notes(measurement: Measurement) -> list[str]:
    """Returns the device, what TTFT means there, and how warm it got, a line each."""
    device, runs = measurement.device, [run for result in measurement.results for run in result.runs]
    counts = sorted({len(group) for result in measurement.results for group in groups(result).values()})
    threads = ", ".join(sorted({str(result.threads) for result in measurement.results}))
    versions = ", ".join(sorted({one_line(result.runtime_version, 80) for result in measurement.results}))
    lines = [
        f"{device.model}, {device.soc or 'SoC unknown'}, {device.system}; {threads} threads; {versions}.",
        f"TTFT: from the prompt's text to the frame that shows the first token; median, best and 90th percentile of {' or '.join(map(str, counts)) or 'no'} runs.",
        "Stages: of the run in the middle, in ms, adding up to its TTFT. tokens/s: decoding after the first token.",
    ]
    if any(run.state == "cold" for run in runs):
        lines.append(
            "Cold: a fresh process of the app, loading included. Android lets nobody drop the page cache, so the file may have been in memory."
        )
    for result in measurement.results:
        if result.after is not None:
            lines.append(f"{one_line(result.title, 80)}: {_heat(result.before)} before, {_heat(result.after)} after.")
        hottest = max((run.thermal_status for run in result.runs if run.thermal_status is not None), default=0)
        if hottest >= 1:
            lines.append(
                f"{one_line(result.title, 80)}: the phone was at thermal status {STATUS_NAMES[hottest]} during its runs; let it cool longer (--cooldown, --max-temp)."
            )
    return lines + reading_notes(measurement)


def _heat(state: Conditions) -> str:
    surface = max((value for name, value in state.temperatures.items() if name.startswith(("skin/", "battery/"))), default=None)
    status = STATUS_NAMES[state.thermal_status] if state.thermal_status is not None else "unknown"
    return f"{f'{surface:.1f} °C' if surface is not None else 'temperature unknown'}, thermal status {status}"
