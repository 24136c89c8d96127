"""``training.html``: the curves of a run on one page that needs nothing else."""

import html
import io
from pathlib import Path
from typing import TYPE_CHECKING

from firsttoken import plain_file
from firsttoken.distill.students import Stage

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}td,th{padding:.1rem 1rem .1rem 0;text-align:left}svg{max-width:100%;height:auto}pre{background:#f5f5f5;padding:1rem;overflow:auto}"


def training_page(name: str, summary: str, stages: list[Stage], facts: list[tuple[str, str]], recipe_text: str) -> str:
    """Returns the page of a recipe's run: what came out, curves of every stage's ``history`` (the Trainer's log), and the recipe."""
    rows = "".join(f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>" for name, value in facts)
    pictures = "".join(f"<h2>{html.escape(stage.name)}</h2>{curves(stage.history)}" for stage in stages if stage.history)
    title = html.escape(f"{name or 'distillation'}: {summary}")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style><h1>{title}</h1><table>{rows}</table>'
        f"{pictures}<h2>Recipe</h2><pre>{html.escape(recipe_text)}</pre></html>\n"
    )


def curves(history: list[dict]) -> str:
    """Returns one SVG with the loss and its parts, the held-out score, temperature and learning rate, gradient norm."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    steps = [entry for entry in history if "loss" in entry]
    scores = [entry for entry in history if "eval_cross_entropy" in entry]
    figure = Figure(figsize=(10, 6.5), layout="constrained")
    loss, score, rates, norm = figure.subplots(2, 2).flat
    at = [entry["step"] for entry in steps]
    names = [name for name in (steps[0] if steps else {}) if name.startswith("part_")]
    for name in names:
        loss.plot(at, [entry.get(name) for entry in steps], label=name.removeprefix("part_"), linewidth=1)
    loss.plot(at, [entry["loss"] for entry in steps], label="loss", color="black", linewidth=1.5)
    loss.set_title("training loss and its unweighted parts")
    score.plot(
        [e["step"] for e in scores],
        [e["eval_cross_entropy"] for e in scores],
        marker="o",
        markersize=3,
        label="cross-entropy, nats",
    )
    if scores and "eval_kld" in scores[0]:
        score.plot(
            [e["step"] for e in scores], [e["eval_kld"] for e in scores], marker="o", markersize=3, label="KL divergence from the teacher"
        )
    score.set_title("held-out score")
    rates.plot(at, [entry["learning_rate"] for entry in steps], label="learning rate")
    warmth = rates.twinx()
    warmth.plot(at, [entry["temperature"] for entry in steps], color="tab:red", label="temperature (right)")
    warmth.legend(loc="upper right", fontsize="small")
    rates.set_title("schedules")
    norm.plot(at, [entry.get("grad_norm") for entry in steps], label="before clipping", linewidth=1)
    norm.set_title("gradient norm")
    for axis in (loss, score, rates, norm):
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
        if axis.lines:
            axis.legend(fontsize="small", loc="lower left" if axis is rates else "best")
    return as_svg(figure)


def as_svg(figure: "Figure") -> str:
    """A matplotlib figure as the text of one SVG."""
    import matplotlib

    out = io.StringIO()
    # fixed identifiers and no date: the same run gives the same page
    with matplotlib.rc_context({"svg.hashsalt": "firsttoken"}):
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()[out.getvalue().index("<svg") :]


def read_recipe_text(path: str | Path) -> str:
    """The recipe as the user wrote it, or nothing for one made in Python."""
    path = Path(path)
    return plain_file.read_text(path) if path.is_file() else ""
