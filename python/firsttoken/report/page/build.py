"""The page: one HTML file without scripts, links or anything to load; what it shows is made in the modules beside this."""

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from firsttoken.measure.measurement import Run
from firsttoken.measure.summary import STAGES, RunSummary, decode_speed, first_token, summarize_runs
from firsttoken.report.page.against import Arena, against_baseline, plan_against_plan, runtime_against_runtime
from firsttoken.report.page.bars import WIDE, Panel, decode_panel, first_token_panels, memory_panel
from firsttoken.report.page.conditions import cautions, conditions_rows
from firsttoken.report.page.scale import bytes_text, plain, three_digits, time_text
from firsttoken.report.page.sources import Source
from firsttoken.report.page.subjects import DeviceGroup, Subject, device_groups, threads_text
from firsttoken.report.page.timeline import Timeline, timelines
from firsttoken.safe_text import visible

if TYPE_CHECKING:
    import jinja2

FOLDER = Path(__file__).parent
MOST_RUNS = 1500  # rows in the tables of single runs; more would make the page too large to mail


@dataclass(frozen=True)
class DeviceView:
    """Everything of one device that the page shows."""

    group: DeviceGroup
    cautions: list[tuple[str, list[str]]]
    first_token: list[Panel]
    decode: Panel | None
    memory: Panel | None
    timelines: list[Timeline]
    plans: Arena | None
    runtimes: Arena | None


@dataclass(frozen=True)
class SummaryRow:
    """A row of the tables: a subject's figures at one prompt length and state."""

    subject: Subject
    prompt_tokens: int
    state: str
    summary: RunSummary


def build_page(sources: list[Source], baseline: Source | None = None) -> str:
    """Returns the report of ``sources`` as HTML, compared with ``baseline`` where given.

    The page has no script and forbids itself, by its content security policy, to run one or to load anything; all text
    from the files is escaped besides.
    """
    groups = device_groups(sources)
    views = [
        DeviceView(
            g,
            cautions(g),
            first_token_panels(g),
            decode_panel(g),
            memory_panel(g),
            timelines(g),
            plan_against_plan(g),
            runtime_against_runtime(g),
        )
        for g in groups
    ]
    against, unmatched = against_baseline(sources, baseline) if baseline else (None, [])
    style = (FOLDER / "page.css").read_text(encoding="utf-8")
    return (
        _environment()
        .get_template("page.html.jinja")
        .render(
            sources=sources,
            baseline=baseline,
            against=against,
            unmatched=unmatched,
            views=views,
            style=_Style(style),
            style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
            headline=_headline(groups),
            stages=STAGES,
            summary_rows=summary_rows,
            conditions_rows=conditions_rows,
            run_rows=_limited_runs(groups),
            run_count=sum(len(subject.result.runs) for group in groups for subject in group.subjects),
            most_runs=MOST_RUNS,
            WIDE=WIDE,
            time=time_text,
            bytes=bytes_text,
            digits=three_digits,
            plain=plain,
            threads=threads_text,
            first_token=first_token,
            decode_speed=decode_speed,
        )
    )


def summary_rows(group: DeviceGroup) -> list[SummaryRow]:
    """Returns the figures of every subject, prompt length and state of a device."""
    return [SummaryRow(subject, *key, summarize_runs(runs)) for subject in group.subjects for key, runs in subject.groups.items()]


def _headline(groups: list[DeviceGroup]) -> dict:
    """The first table: every subject at the one prompt length that most of them share; the middle one of those."""
    counts: dict[int, int] = {}
    for group in groups:
        for subject in group.subjects:
            for tokens in {tokens for tokens, _ in subject.groups}:
                counts[tokens] = counts.get(tokens, 0) + 1
    if not counts:
        return {"tokens": None, "rows": []}
    shared = sorted(tokens for tokens, count in counts.items() if count == max(counts.values()))
    tokens = shared[len(shared) // 2]
    rows = []
    for group in groups:
        for subject in group.subjects:
            runs_of = {state: subject.groups.get((tokens, state)) for state in ("cold", "warm")}
            by_state = {state: summarize_runs(runs) if runs else None for state, runs in runs_of.items()}
            peak = max((run.peak_memory_bytes for run in subject.result.runs if run.peak_memory_bytes), default=None)
            rows.append((group, subject, by_state, peak))
    return {"tokens": tokens, "rows": rows}


def _limited_runs(groups: list[DeviceGroup]) -> dict[int, list[Run]]:
    """The single runs by subject, as many of each as the page's limit leaves when all get the same."""
    subjects = [subject for group in groups for subject in group.subjects]
    each = MOST_RUNS // max(len(subjects), 1)
    return {subject.number: subject.result.runs[:each] for subject in subjects}


class _Style(str):
    """The page's own style sheet, which is not escaped."""

    def __html__(self) -> str:
        return self


def _environment() -> "jinja2.Environment":
    import jinja2

    def shown(value: object) -> object:
        # str of the template itself is Markup; what comes from a file is str
        return visible(value, 2000) if type(value) is str else value

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=shown,
    )
