"""Whether an artifact passes: the plan's bounds on the figures, and the structure that was asked for."""

from collections.abc import Mapping

import numpy as np

from firsttoken.backends.interface import Backend
from firsttoken.bundle.figures import Figures
from firsttoken.bundle.integer_facts import CalibrationFacts
from firsttoken.bundle.manifest import AuditRow
from firsttoken.decoder.walk import is_table
from firsttoken.precisions import without_group
from firsttoken.prove.arithmetic import STEPS, scale_and_zero
from firsttoken.prove.divergence import Divergence
from firsttoken.quant.plan import Gate

WORST = 6.0  # how far past the bound for the 99th percentile a single position may be
LISTED = 3  # layers named in full in one message


def missed_figures(gate: Gate, all_: Figures, parts: dict[str, Figures]) -> list[str]:
    """Returns one line for every bound that the figures miss.

    ``parts`` are the kinds of call and the parts of the cache. One that is wrong alone would drown in the mean over all,
    so each one's own mean has to keep within the bound for single positions (p99).
    """
    misses = []
    for name, got, bound in (
        ("mean KL divergence", all_.mean_kld, gate.mean_kld),
        ("99th percentile KL divergence", all_.p99_kld, gate.p99_kld),
    ):
        if not got <= bound:
            misses.append(f"{name} {got:.3g} nats; the plan allows {bound:g}{_where(all_)}")
    if not all_.same_top >= gate.same_top:
        misses.append(f"same top token at {all_.same_top:.2%} of positions; the plan asks {gate.same_top:.2%}{_where(all_)}")
    if not abs(all_.magnitude_ratio - 1) <= gate.magnitude:
        misses.append(f"logit magnitude {all_.magnitude_ratio:.4f} of the checkpoint's; the plan allows 1 ± {gate.magnitude:g}")
    for kind, part in parts.items():
        if part.tokens and not part.mean_kld <= gate.p99_kld:
            misses.append(f"mean KL divergence {part.mean_kld:.3g} nats over {kind} alone; at most {gate.p99_kld:g}")
    return misses


def missed_worst(gate: Gate, divergence: Divergence, places: list[str]) -> list[str]:
    """Returns a line if any single position is absurd: `WORST` times the bound for the 99th percentile."""
    worst = int(np.argmax(divergence.kld))
    if divergence.kld[worst] <= WORST * gate.p99_kld:
        return []
    return [f"KL divergence {divergence.kld[worst]:.3g} nats at one position ({places[worst]}); at most {WORST * gate.p99_kld:g} at any"]


def _where(figures: Figures) -> str:
    return f" (first diverging: {figures.first_diverging})" if figures.first_diverging else ""


def missed_structure(rows: list[AuditRow], precisions: Mapping[str, str], backend: Backend, partial: bool = False) -> list[str]:
    """Returns one line for every way in which layers are not what the plan asked: stored, computed, delegated, or absent.

    ``precisions`` are the plan's, by layer name, as `Plan.written` writes them; ``backend`` says what may be computed in what and who takes it. With
    ``partial`` layers may be left to the CPU.
    """
    wrong: dict[str, list[str]] = {}
    found = {row.layer: row for row in rows}
    for layer in precisions:
        if layer not in found:
            wrong.setdefault("not in the artifact's audit", []).append(layer)
    for layer, row in found.items():
        asked = precisions.get(layer)
        for problem in _problems(row, asked, backend, partial) if asked else ["in the artifact, but not in the plan"]:
            wrong.setdefault(problem, []).append(layer)
    return [f"{_named(layers)}: {problem}" for problem, layers in wrong.items()]


def missed_scales(rows: list[AuditRow], calibration: CalibrationFacts | None) -> list[str]:
    """Returns one line for every layer whose integers do not have the scales and zero points of the ranges that it was calibrated to."""
    misses = []
    for row in rows:
        if not row.scales:
            continue
        ranges = None if calibration is None else calibration.ranges.get(row.layer)
        if ranges is None:
            misses.append(f"{row.layer}: computes between integers, but the bundle has no calibrated ranges of it")
            continue
        steps = STEPS[ranges.precision]
        for which, covered, found in zip(("input", "output"), (ranges.input, ranges.output), row.scales, strict=True):
            scale, zero = scale_and_zero(covered, steps)
            if (float(scale), zero) != (found.scale, found.zero_point):
                misses.append(
                    f"{row.layer}: the integers of its {which} have scale {found.scale:.6g} and zero point {found.zero_point}; "
                    f"{float(scale):.6g} and {zero} by the calibrated range {covered.low:.4g} to {covered.high:.4g}"
                )
    return misses


def _problems(row: AuditRow, asked: str, backend: Backend, partial: bool) -> list[str]:
    problems = []
    kept = (row.layer.endswith(".core") and backend.cache_precision) or asked  # a core stores its KV cache
    if row.stored != kept:
        problems.append(f"asked {kept}, stored {row.stored}")
    if is_table(row.layer):  # a table look-up: nothing is computed, and no delegate takes it
        return problems
    if row.computed not in backend.computed(without_group(asked)):
        problems.append(f"asked {asked}, computed in {row.computed}")
    if backend.delegate is not None and not row.delegated and not partial:
        problems.append(f"not taken by the {backend.takes_layers}")
    return problems


def _named(layers: list[str]) -> str:
    shown = ", ".join(layers[:LISTED])
    return shown if len(layers) <= LISTED else f"{shown} and {len(layers) - LISTED} more"
