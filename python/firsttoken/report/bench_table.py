"""The measurement as a table, for the terminal, as Markdown, and as comma-separated values."""

import csv
import io

from rich.table import Table

from firsttoken.measure.measurement import Measurement, Result, Run
from firsttoken.measure.summary import RunSummary, decode_speed, groups, middle_stages, summarize_runs
from firsttoken.report.tables import table
from firsttoken.safe_text import visible
from firsttoken.units import readable

COLUMNS = (
    "bundle", "plan", "size", "mean KLD", "tokens", "state", "TTFT ms", "best", "p90",
    "load", "tokenize", "prefill", "sample", "detokenize", "render", "tokens/s", "peak MiB", "cached tokens", "tokens/call",
)  # fmt: skip
STAGES = ("load", "tokenize", "prefill", "sample", "detokenize", "render")
CSV_COLUMNS = (
    "bundle", "plan", "target", "artifact", "artifact_sha256", "mean_kld", "same_top", "runtime", "threads", "prompt_tokens", "state", "page_cache", "at_seconds",
    "first_token_ns", *(f"{stage}_ns" for stage in STAGES), "decode_tokens", "decode_ns", "tokens_per_second", "peak_memory_bytes", "other_load", "turn", "cached_tokens",
    "draft", "calls", "drafted_tokens", "accepted_tokens", "process",
)  # fmt: skip


def rows(measurement: Measurement) -> list[tuple[str, ...]]:
    """One row per bundle, prompt length and state."""
    return [_row(result, tokens, state, runs) for result in measurement.results for (tokens, state), runs in groups(result).items()]


def _row(result: Result, tokens: int, state: str, runs: list[Run]) -> tuple[str, ...]:
    summary: RunSummary = summarize_runs(runs)
    middle = middle_stages(runs)
    proof = result.proof
    return (
        visible(result.title),
        visible(result.bundle.plan),
        readable(result.ran_bytes),
        f"{proof.mean_kld:.1e}" if proof else "no proof",
        str(tokens),
        state,
        _milliseconds(summary.first_token.median),
        _milliseconds(summary.first_token.minimum),
        _milliseconds(summary.first_token.p90),
        *(_milliseconds(middle[stage]) if stage in middle else "" for stage in STAGES),
        f"{summary.decode_speed.median:.1f}" if summary.decode_speed else "",
        f"{summary.peak_memory.maximum / (1 << 20):.0f}" if summary.peak_memory else "",
        _cached(runs),
        _per_call(runs),
    )


def _cached(runs: list[Run]) -> str:
    """How many of a conversation's tokens were in the cache, in the middle of the runs; empty for prompts by themselves."""
    known = [run.cached_tokens for run in runs if run.cached_tokens is not None]
    return str(sorted(known)[len(known) // 2]) if known else ""


def _per_call(runs: list[Run]) -> str:
    """Tokens that a call gave over all runs; empty without drafts."""
    known = [run.drafts for run in runs if run.drafts is not None]
    calls = sum(drafts.calls for drafts in known)
    return f"{1 + sum(drafts.accepted_tokens for drafts in known) / calls:.2f}" if calls else ""


def _milliseconds(nanoseconds: float) -> str:
    value = nanoseconds / 1e6
    return f"{value:.0f}" if value >= 1000 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def _shown(measurement: Measurement) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Columns and rows, without the columns that are empty everywhere."""
    body = rows(measurement)
    kept = [number for number in range(len(COLUMNS)) if any(row[number] for row in body) or not body]
    return tuple(COLUMNS[n] for n in kept), [tuple(row[n] for n in kept) for row in body]


def terminal_table(measurement: Measurement) -> Table:
    """The table for the terminal."""
    columns, body = _shown(measurement)
    return table(None, columns, body, left=2)


def markdown_text(measurement: Measurement) -> str:
    """The table and its notes as Markdown."""
    columns, body = _shown(measurement)
    lines = [columns, (":--", ":--", *("--:" for _ in columns[2:])), *body]
    return (
        "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
        + "\n\n"
        + "\n".join(notes(measurement))
    )


def csv_text(measurement: Measurement) -> str:
    """Every run as a line of comma-separated values, warm-ups included; times in nanoseconds."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for result in measurement.results:
        bundle, proof = result.bundle, result.proof
        for run in result.runs:
            speed = decode_speed(run)
            writer.writerow((
                bundle.name, bundle.plan, bundle.target, result.processor.lower(), result.ran_sha256, proof and proof.mean_kld, proof and proof.same_top,
                result.runtime_version, result.threads, run.prompt_tokens, run.state, run.page_cache, f"{run.at_seconds:.3f}",
                run.stages.first_token, *(getattr(run.stages, stage) for stage in STAGES),
                run.decode and run.decode.tokens, run.decode and run.decode.nanoseconds, speed and f"{speed:.2f}",
                run.peak_memory_bytes, None if run.other_load is None else f"{run.other_load:.2f}", run.turn, run.cached_tokens,
                result.draft, *(run.drafts and getattr(run.drafts, name) for name in ("calls", "drafted_tokens", "accepted_tokens")), run.process,
            ))  # fmt: skip
    return out.getvalue()


def notes(measurement: Measurement) -> list[str]:
    """What was measured, in words, and what a reader must know about these runs."""
    device, runs = measurement.device, [run for result in measurement.results for run in result.runs]
    counts = sorted({len(group) for result in measurement.results for group in groups(result).values()})
    versions = ", ".join(sorted({result.runtime_version for result in measurement.results}))
    flags = f", {' '.join(device.cpu.flags)}" if device.cpu.flags else ""
    threads = ", ".join(sorted({str(result.threads) for result in measurement.results}))
    lines = [
        f"{device.cpu.model}, {device.cpu.cores} cores{flags}; {threads} threads; {versions}.",
        f"TTFT: from the prompt's text to the first token's text; median, best and 90th percentile of {' or '.join(map(str, counts)) or 'no'} runs{_of_processes(measurement)}.",
        "Stages: of the run in the middle, in ms, adding up to its TTFT; no rendering on this machine. tokens/s: decoding after the first token.",
    ]
    cold = [run for run in runs if run.state == "cold"]
    if cold:
        lines.append(
            f"Cold: a fresh process; load is opening tokenizer and model (Python's imports not counted); {_page_cache(cold)}; packed weights are those of an earlier start."
        )
    busiest = max((run.other_load for run in runs if run.other_load is not None), default=None)
    if busiest is not None and busiest > 0.25:
        lines.append(f"Not a quiet machine: up to {busiest:.1f} cores were busy with other work during a run.")
    return lines + reading_notes(measurement)


def reading_notes(measurement: Measurement) -> list[str]:
    """What a reader must know about the bundles and prompts of any measurement, of this machine or a phone."""
    lines = []
    if not any(result.chat for result in measurement.results):
        lines.append("Prompts are plain text, without a chat template.")
    elif not all(result.chat for result in measurement.results):
        lines.append("Prompts go through the chat template where the bundle has one, so bundles with and without one got different text.")
    if any(result.proof is None for result in measurement.results):
        lines.append("A bundle without a proof may be fast and wrong: run `firsttoken prove` on it.")
    if any(result.proof and not result.proof.passed for result in measurement.results):
        lines.append("A bundle here missed its proof's gate: its speed is that of a wrong model.")
    if any(result.draft for result in measurement.results):
        lines.append("Drafts by lookup: tokens/s is that of these answers, and higher the more of an answer was said before it.")
    turns = [run for result in measurement.results for run in result.runs if run.turn is not None]
    if turns:
        cached, asked = (sum(tokens) for tokens in ((run.cached_tokens or 0 for run in turns), (run.prompt_tokens for run in turns)))
        lines.append(
            f"Turns of a conversation: {len(turns)} of the runs; {cached} of their {asked} prompt tokens were in the KV cache and not run again."
        )
    lines += [
        f"{visible(result.bundle.name)}: run by the Java runner, not the native one: {visible(result.runner.fallback)}."
        for result in measurement.results
        if result.runner and result.runner.fallback
    ]
    lines += [
        f"{visible(result.bundle.name)}: run without the bundle's packed weights: {visible(result.runner.unpacked)}."
        for result in measurement.results
        if result.runner and result.runner.unpacked
    ]
    return lines + [
        f"{visible(result.bundle.name)}: ran {visible(result.artifact.place)}."
        for result in measurement.results
        if result.artifact and result.artifact.fallback
    ]


def _of_processes(measurement: Measurement) -> str:
    """How many processes the warm runs are of, where they say it."""
    counts = {len({run.process for run in result.runs if run.state == "warm" and run.process}) for result in measurement.results} - {0}
    return (
        f", the warm ones in {' or '.join(map(str, sorted(counts)))} {'process' if counts == {1} else 'processes'} of each bundle"
        if counts
        else ""
    )


def _page_cache(cold: list[Run]) -> str:
    dropped = sum(run.page_cache == "dropped" for run in cold)
    if dropped == len(cold):
        return "its files dropped from the page cache first"
    return f"in {len(cold) - dropped} of {len(cold)} runs the files could NOT be dropped from the page cache (a memory file system, or another process has them open), so they did not come from the disk"
