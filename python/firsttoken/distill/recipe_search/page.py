"""``search.html``: every trial's scores, what mattered, and the recipe that was found, on one page that needs nothing else."""

from __future__ import annotations

import html
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from firsttoken.distill.recipe_search.space import Space
from firsttoken.distill.training_page import STYLE, as_svg

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

ENOUGH = 8  # trials; of fewer it cannot be said what mattered


def search_page(name: str, space: Space, record: dict, trials: list[FrozenTrial], recipe_text: str) -> str:
    """Returns the page of a search: pictures, the table of trials, and the best recipe's text."""
    title = html.escape(f"{name or 'distillation'}: search over the recipe")
    early = same_step(trials)
    pictures = [("Trials", scores(trials, record["score"]))]
    if early is not None and len(early[0].trials) >= ENOUGH:
        study, step = early
        of = f"{record['score']} after {step} steps, which {len(study.trials)} trials reached"
        pictures += [(f"What mattered for {of}", importances(study)), (f"Values and {of}", parallel(study, record["score"]))]
    drawn = "".join(f"<h2>{html.escape(head)}</h2>{picture}" for head, picture in pictures)
    left_out = "".join(f"<li>{html.escape(f'{what}: {why}')}</li>" for what, why in record["not searched"].items())
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style><h1>{title}</h1>{drawn}'
        f"<h2>All trials</h2>{table(space, record)}<h2>Not searched</h2><ul>{left_out}</ul>"
        f"<h2>The recipe of trial {record['best']}</h2><pre>{html.escape(recipe_text)}</pre></html>\n"
    )


def table(space: Space, record: dict) -> str:
    """Trials as rows, whole ones first, best first."""
    names = [d.name for d in space.dimensions]
    head = "".join(f"<th>{html.escape(each)}</th>" for each in ("trial", *names, "steps", record["score"], ""))
    rows = []
    for trial in sorted(record["trials"], key=lambda each: (each["score"] is None, each["score"] or 0, -each["steps"], each["number"])):
        last = next(reversed(trial["scores"].values()), None)
        cells = [trial["number"], *(f"{trial['values'][each]:g}" for each in names), trial["steps"], "" if last is None else f"{last:.4f}"]
        rows.append("".join(f"<td>{html.escape(str(each))}</td>" for each in (*cells, trial["stopped because"] or "")))
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"


def scores(trials: list[FrozenTrial], name: str) -> str:
    """One SVG: the score of every trial at the steps where it was compared, and the best so far over all steps trained."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    curves, best = figure.subplots(1, 2)
    used, lowest, at, low = 0, None, [], []
    for trial in trials:
        steps, values = zip(*sorted(trial.intermediate_values.items()), strict=True) if trial.intermediate_values else ((), ())
        own = trial.number == 0
        curves.plot(
            steps,
            values,
            marker="o",
            markersize=3,
            linewidth=2 if own else 1,
            color="black" if own else None,
            label="the recipe's own" if own else None,
        )
        used += trial.user_attrs["steps"]
        if trial.value is not None and "stopped because" not in trial.user_attrs:
            lowest = trial.value if lowest is None else min(lowest, trial.value)
            at.append(used)
            low.append(lowest)
    curves.set_title(f"held-out {name} of every trial")
    curves.set_xlabel("step of the trial")
    curves.legend(fontsize="small")
    best.step(at, low, where="post", marker="o", markersize=3)
    best.set_title("best of the whole trials so far")
    best.set_xlabel("training steps of all trials")
    for axis in (curves, best):
        axis.grid(alpha=0.3)
    return as_svg(figure)


def same_step(trials: list[FrozenTrial]) -> tuple[Study, int] | None:
    """A study of all trials by their score at the first rung, where stopped and whole ones can be compared, and that rung's step."""
    import optuna

    reached = [trial for trial in trials if trial.intermediate_values]
    if not reached:
        return None
    step = min(min(trial.intermediate_values) for trial in reached)
    study = optuna.create_study(direction="minimize")
    study.add_trials(
        optuna.trial.create_trial(params=trial.params, distributions=trial.distributions, value=trial.intermediate_values[step])
        for trial in reached
    )
    return study, step


def importances(study: Study) -> str:
    """One SVG: how much each value mattered, as Optuna has it (PED-ANOVA, arXiv:2304.10255)."""
    from optuna.visualization.matplotlib import plot_param_importances

    return drawn_by_optuna(lambda: plot_param_importances(study))


def parallel(study: Study, name: str) -> str:
    """One SVG: a line for every trial through its values."""
    from optuna.visualization.matplotlib import plot_parallel_coordinate

    return drawn_by_optuna(lambda: plot_parallel_coordinate(study, target_name=name))


def drawn_by_optuna(draw: Callable[[], Any]) -> str:
    """What Optuna draws with matplotlib, as SVG; the style that it sets for everything is taken back."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from optuna.exceptions import ExperimentalWarning

    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        figure = draw().figure
        try:
            figure.set_size_inches(10, 4)
            figure.tight_layout()
            return as_svg(figure)
        finally:
            pyplot.close(figure)
