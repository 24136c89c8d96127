"""``plan ranges``: what layers meet and give on a text, and what rounding to ranges of it costs by every method."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from firsttoken.backends.registry import open_target, resolve
from firsttoken.bundle.integer_facts import Range, StaticLayer
from firsttoken.calibration.ranges import activations, by_method, check_static, static_layers
from firsttoken.calibration.text import CalibrationText
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import plan_layers
from firsttoken.errors import FirstTokenError
from firsttoken.precisions import STATIC
from firsttoken.progress import Report, silent
from firsttoken.quant.plan import RangeMethod, load_plan
from firsttoken.search.page import figure, html_table, page
from firsttoken.search.plan_file import kind_of

Ranges = Mapping[str, Mapping[RangeMethod, StaticLayer]]
METHODS: tuple[RangeMethod, ...] = get_args(RangeMethod)
SIDES: tuple[Literal["input", "output"], ...] = ("input", "output")
COLUMNS = (
    "layer",
    "of",
    "low",
    "high",
    *(column for method in METHODS for column in (f"{method}: beyond", "error")),
    "outlier channels",
)
LISTED = 4  # outlier channels in a table's line


def asked_layers(decoder: Decoder, plan: str | Path | None, target: str | Path, precision: str) -> dict[str, str]:
    """The layers to look at and their static precisions: those of a plan on a target, or all linear ones in ``precision``. Raises `FirstTokenError`."""
    if plan is None:
        found = {layer.name: precision for layer in plan_layers(decoder) if layer.kind == "linear"}
    else:
        chosen = load_plan(plan)
        precisions = resolve(chosen, decoder, open_target(target))
        found = {name: precisions[name] for name in static_layers(precisions)}
        if not found:
            raise FirstTokenError(
                f"plan {chosen.name!r}: gives no layer {' or '.join(STATIC)}; leave --plan out to look at all linear layers"
            )
    check_static(decoder, found)
    return found


def measured(
    source: Checkpoint, decoder: Decoder, precisions: Mapping[str, str], text: CalibrationText, report: Report = silent
) -> dict[str, dict[RangeMethod, StaticLayer]]:
    """Every layer's ranges by every method, in the order of computation; the weights are the checkpoint's own. Raises `FirstTokenError`."""
    seen = activations(source, decoder, precisions, text, report)
    return {name: by_method(name, precision, seen[name]) for name, precision in precisions.items()}


def lines(ranges: Ranges) -> Iterator[tuple[str, ...]]:
    """The table's lines, two a layer."""
    for layer, ways in ranges.items():
        for side in SIDES:
            whole = side_of(ways["min-max"], side)
            costs = [
                figure
                for method in METHODS
                for figure in (f"{side_of(ways[method], side).saturated:.1e}", f"{side_of(ways[method], side).error:.4f}")
            ]
            channels = ways["min-max"].outlier_channels if side == "input" else []
            named = " ".join(map(str, channels[:LISTED])) + (f" and {len(channels) - LISTED} more" if len(channels) > LISTED else "")
            yield layer, side, f"{whole.low:.4g}", f"{whole.high:.4g}", *costs, named


def side_of(ranges: StaticLayer, side: Literal["input", "output"]) -> Range:
    return ranges.input if side == "input" else ranges.output


def document(ranges: Ranges) -> dict[str, object]:
    """The same for ``--json``: everything, outlier channels in full."""
    found: dict[str, object] = {}
    for layer, ways in ranges.items():
        one = ways["min-max"]
        sides: dict[str, object] = {side: {method: side_of(ways[method], side).model_dump() for method in METHODS} for side in SIDES}
        found[layer] = {"precision": one.precision, "outlier_channels": one.outlier_channels, **sides}
    return found


def ranges_page(title: str, ranges: Ranges, text: str) -> str:
    """Errors as pictures, one panel for each place in a block, and the table. Needs matplotlib."""
    kinds = list(dict.fromkeys(kind_of(layer) for layer in ranges))
    return page(
        title,
        html_table(
            ["", ""], [["text", text], ["outlier channels", "inputs whose largest magnitude is more than 6 times the median channel's"]]
        ),
        "<h2>What rounding changes</h2><p>Root mean square of the rounding error of a layer's input (lines) and product (dashes), as a part of the values' own, by the method that "
        "chose the range.</p>",
        figure(lambda made: draw(made, ranges, kinds), (11, 2.4 * -(-len(kinds) // 3)), "Rounding error of every layer by method"),
        html_table(list(COLUMNS), [list(line) for line in lines(ranges)]),
    )


def draw(made: Any, ranges: Ranges, kinds: list[str]) -> None:
    """The panels."""
    axes = list(made.subplots(-(-len(kinds) // 3), 3, squeeze=False, sharey=True).flat)
    for axis, kind in zip(axes, kinds, strict=False):
        names = [name for name in ranges if kind_of(name) == kind]
        for number, method in enumerate(METHODS):
            for side, style in zip(SIDES, ("-", "--"), strict=True):
                errors = [side_of(ranges[name][method], side).error for name in names]
                axis.plot(errors, style, marker="o", markersize=3, linewidth=1, color=f"C{number}", label=f"{method}, {side}")
        axis.set_title(kind.replace("layers.*.", ""), fontsize="medium")
        axis.set_yscale("log")
        axis.grid(alpha=0.3)
        if len(names) > 1:
            axis.set_xlabel("layer")
        else:
            axis.set_xticks([])
    for axis in axes[len(kinds) :]:
        axis.set_visible(False)
    handles, labels = axes[0].get_legend_handles_labels()
    made.legend(handles, labels, loc="outside upper center", ncols=len(METHODS) * len(SIDES), fontsize="small")
    made.supylabel("error, as a part", fontsize="medium")
