"""A table of figures over seeds, for the scripts beside it."""

from firsttoken.distill.classifiers.run import interval


def print_table(title: str, rows: list[dict[str, float]]) -> None:
    """Markdown: a line a figure, mean over ``rows`` (one a seed) and 95 % interval by Student's t."""
    print(f"{title}, {len(rows)} seeds.\n\n| | |\n|---|---|")
    for name in rows[0]:
        print(f"| {name} | {interval([row[name] for row in rows])} |")
