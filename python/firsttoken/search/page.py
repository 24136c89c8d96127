"""``plan search``'s and ``plan sensitivity``'s pages: which layers cost what, and what can be had at which size, on one page that needs nothing else."""

import html
import io
from collections.abc import Callable, Mapping
from typing import Any

from firsttoken.search.budget import mostly
from firsttoken.search.candidates import Candidate
from firsttoken.search.plan_file import kind_of
from firsttoken.search.search import Found
from firsttoken.search.sensitivity import Measured
from firsttoken.units import readable

STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}"
    "table{border-collapse:collapse}td,th{padding:.1rem 1rem .1rem 0;text-align:right}td:first-child,th:first-child,td:last-child,th:last-child{text-align:left}"
    "figure{margin:1rem 0;overflow-x:auto}svg{max-width:100%;height:auto}pre{background:#f5f5f5;padding:1rem;overflow:auto}"
)
MIB = 1 << 20
FLOOR = 1e-9  # nats: what a logarithmic axis can show of nothing


def page(title: str, *parts: str) -> str:
    """The whole page."""
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{html.escape(title)}</title><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body><h1>{html.escape(title)}</h1>{"".join(parts)}</body></html>\n'


def sensitivity_page(title: str, damages: Measured, facts: list[tuple[str, str]]) -> str:
    """Damages as a picture, one panel for each place in a block, and as a table."""
    labels = labels_of(damages)
    rows = [[name, *("" if one is None else f"{own[one]:.2e}" for one in by_label(own, labels))] for name, own in damages.items()]
    return page(
        title,
        facts_table(facts),
        "<h2>Damage by layer</h2><p>Mean KL divergence from the checkpoint in FP32, nats a token, with this layer alone in the precision.</p>",
        figure(
            lambda made: draw_damages(made, damages, labels),
            (11, 2.4 * -(-len(panels_of(damages)) // 3)),
            "Damage of every layer by precision",
        ),
        html_table(["layer", *labels], rows),
    )


def search_page(title: str, found: Found, damages: Measured, facts: list[tuple[str, str]]) -> str:
    """The Pareto front with the found plan on it, its points as a table, the plan and the damages behind it."""
    rows = [
        [
            readable(int(cost.bytes)),
            f"{cost.damage:.2e}",
            *(
                [f"{cost.prefill / found.base_predicted.prefill:.2f}", f"{cost.decode / found.base_predicted.decode:.2f}"]
                if found.timed
                else []
            ),
            mostly(choice),
        ]
        for choice, cost in found.front
    ]
    times = ["first token / INT8's", "decode / INT8's"] if found.timed else []
    return page(
        title,
        facts_table(facts),
        "<h2>Quality by size</h2><p>Every point is the plan of least damage at its size, as predicted from single layers.</p>",
        figure(lambda made: draw_front(made, found), (10, 4.6), "Damage by size of the best plans"),
        html_table(["size", "damage, nats", *times, "layers"], rows),
        f"<h2>The plan</h2><pre>{html.escape(found.text)}</pre>",
        "<h2>Damage by layer</h2>",
        figure(
            lambda made: draw_damages(made, damages, labels_of(damages)),
            (11, 2.4 * -(-len(panels_of(damages)) // 3)),
            "Damage of every layer by precision",
        ),
    )


def labels_of(damages: Measured) -> list[str]:
    """Every candidate's label, in the order in which they are offered."""
    return list(dict.fromkeys(one.label for own in damages.values() for one in own))


def by_label(own: Mapping[Candidate, float], labels: list[str]) -> list[Candidate | None]:
    return [next((one for one in own if one.label == label), None) for label in labels]


def panels_of(damages: Measured) -> list[str]:
    """The places in a block that have several candidates."""
    return list(dict.fromkeys(kind_of(name) for name, own in damages.items() if len(own) > 1))


def draw_damages(made: Any, damages: Measured, labels: list[str]) -> None:
    kinds = panels_of(damages)
    axes = list(made.subplots(-(-len(kinds) // 3), 3, squeeze=False, sharey=True).flat)
    known: dict[str, Any] = {}
    for axis, kind in zip(axes, kinds, strict=False):
        names = [name for name in damages if kind_of(name) == kind]
        for number, label in enumerate(labels):
            points = [(at, damages[name][one]) for at, name in enumerate(names) if (one := by_label(damages[name], [label])[0])]
            if points:
                axis.plot(
                    *zip(*((at, max(value, FLOOR)) for at, value in points), strict=True),
                    marker="o",
                    markersize=3,
                    linewidth=1,
                    label=label,
                    color=f"C{number}",
                )
        axis.set_yscale("log")
        axis.set_title(kind.replace("layers.*.", ""), fontsize="medium")
        axis.grid(alpha=0.3)
        if len(names) > 1:
            axis.set_xlabel("layer")
        else:
            axis.set_xticks([])
        known |= dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    for axis in axes[len(kinds) :]:
        axis.set_visible(False)
    shown = [label for label in labels if label in known]
    made.legend([known[label] for label in shown], shown, loc="outside upper center", ncols=len(shown), fontsize="small")
    made.supylabel("nats a token", fontsize="medium")


def draw_front(made: Any, found: Found) -> None:
    axis = made.subplots()
    sizes = [cost.bytes / MIB for _, cost in found.front]
    axis.plot(sizes, [max(cost.damage, FLOOR) for _, cost in found.front], color="0.6", zorder=1)
    if found.timed:
        ratios = [cost.prefill / found.base_predicted.prefill for _, cost in found.front]
        shown = axis.scatter(
            sizes, [max(cost.damage, FLOOR) for _, cost in found.front], c=ratios, cmap="viridis", zorder=2, label="best plans"
        )
        made.colorbar(shown, label="first token, times INT8's")
    else:
        axis.scatter(sizes, [max(cost.damage, FLOOR) for _, cost in found.front], zorder=2, label="best plans")
    axis.scatter(
        [found.base_predicted.bytes / MIB], [found.base_predicted.damage], marker="s", color="C1", zorder=3, label="INT8, predicted"
    )
    axis.scatter([found.predicted.bytes / MIB], [found.predicted.damage], marker="D", color="C3", zorder=3, label="found, predicted")
    if found.real is not None and found.figures is not None:
        axis.scatter(
            [found.real.bytes / MIB],
            [found.figures.mean_kld],
            marker="*",
            s=120,
            color="C3",
            zorder=4,
            label="found, measured in its proof",
        )
    axis.set_yscale("log")
    axis.set_xlabel("MiB")
    axis.set_ylabel("mean KL divergence, nats a token")
    axis.grid(alpha=0.3)
    axis.legend()


def figure(draw: Callable[[Any], None], size: tuple[float, float], caption: str) -> str:
    """One SVG; the same numbers give the same bytes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    made = Figure(figsize=size, layout="constrained")
    draw(made)
    out = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "firsttoken"}):
        made.savefig(out, format="svg", metadata={"Date": None})
    drawn = out.getvalue()[out.getvalue().index("<svg") :]
    return f'<figure role="img" aria-label="{html.escape(caption)}">{drawn}</figure>'


def facts_table(facts: list[tuple[str, str]]) -> str:
    return html_table(["", ""], [[name, value] for name, value in facts])


def html_table(columns: list[str], rows: list[list[str]]) -> str:
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(value)}</td>" for value in row) + "</tr>" for row in rows)
    return f"<figure><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></figure>"
