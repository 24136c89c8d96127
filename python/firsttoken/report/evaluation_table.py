"""Scores of several models as one table for the terminal, Markdown, or JSON."""

import json

from rich.table import Table

from firsttoken.evaluate.evaluate import Score
from firsttoken.report.tables import table

MOST_COLUMNS = 4  # with more figures, every figure gets a row and every model a column


def columns_of(scores: dict[str, list[Score]]) -> list[tuple[str, str]]:
    """``(task, measure)`` of every figure, in the order they first appear, those of a task together."""
    found = list(dict.fromkeys((score.task, score.measure) for each in scores.values() for score in each))
    tasks = list(dict.fromkeys(task for task, _ in found))
    return sorted(found, key=lambda figure: tasks.index(figure[0]))


def shown(score: Score | None, first: Score | None) -> str:
    """A figure; after the first model's, how much of it is left or lost."""
    if score is None:
        return ""
    if score.low is not None and score.high is not None:
        change = "" if first is None or first is score else f" {100 * (score.value - first.value):+.1f}"
        return f"{100 * score.value:.1f} %{change} ({100 * score.low:.0f}-{100 * score.high:.0f})"
    if score.measure == "perplexity":
        change = "" if first is None or first is score else f" {score.value / first.value - 1:+.2%}"
        return f"{score.value:.3f}{change}"
    return f"{score.value:.2%}" if score.measure == "same top" else f"{score.value:.3g}"


def cells(scores: dict[str, list[Score]]) -> tuple[list[str], list[tuple[str, ...]]]:
    """Header and rows: a row a model, or, of many figures, a row a figure."""
    columns = columns_of(scores)
    found = {name: {(score.task, score.measure): score for score in each} for name, each in scores.items()}
    first = next(iter(found.values()))
    rows = [(name, *(shown(by.get(column), first.get(column)) for column in columns)) for name, by in found.items()]
    header = ["", *(f"{task}: {measure}" for task, measure in columns)]
    if len(columns) > MOST_COLUMNS:
        names, *figures = zip(header, *rows, strict=True)
        return list(names), figures
    return header, rows


def terminal_table(scores: dict[str, list[Score]]) -> Table:
    """For the terminal; see `cells`."""
    header, rows = cells(scores)
    return table(None, header, rows)


def markdown_text(scores: dict[str, list[Score]]) -> str:
    """The same as Markdown."""
    header, rows = cells(scores)
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def json_text(scores: dict[str, list[Score]]) -> str:
    """Every figure, for programs."""
    return json.dumps({name: [vars(score) for score in each] for name, each in scores.items()}, indent=1) + "\n"
