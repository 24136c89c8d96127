"""Instruction counts of whole plans, as ratios to the fp32 plan, and whether they are still what they were.

The committed baseline (tests/arm/instruction_baseline.json) has the ratios by target, core, plan and step. A plan that
falls off its fast kernel, or a change that makes one work more, is told in words.
"""

import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from firsttoken.arm.cores import Core, find_core
from firsttoken.arm.emulator import Runtime, check_parts, runtimes_of
from firsttoken.arm.instruction_kinds import KINDS, PATTERNS
from firsttoken.arm.instructions import Counts, InstructionCounter
from firsttoken.atomic_file import write_text
from firsttoken.backends.registry import resolve
from firsttoken.bundle.figures import Figures
from firsttoken.bundle.manifest import read_manifest
from firsttoken.checkpoint import Checkpoint, read_json
from firsttoken.decoder.walk import open_decoder
from firsttoken.errors import FirstTokenError
from firsttoken.pipeline import export
from firsttoken.quant.plan import load_plan
from firsttoken.targets.target import load_target

YARDSTICK = "fp32"
TOLERANCE = 0.03  # counts repeat within 0.1 %; what a release of a runtime changes is usually more than this
SEEN = 0.01  # of the fp32 plan's instructions: a kind below that is not looked at
MEANING = {
    "sdot": "INT8 is no longer multiplied by dot products",
    "smmla": "INT8 is no longer multiplied by matrix products",
    "smull": "INT8 is no longer multiplied by widening products",
    "fmla.8h": "FP16 is no longer multiplied in FP16",
    "fmla.4s": "FP32 is no longer multiplied four lanes at a time",
}


@dataclass(frozen=True)
class GuardRow:
    """One plan on one target and core: counts by step, and on request its divergence from the checkpoint on the host."""

    target: str
    core: str
    plan: str
    runtime: Runtime
    steps: dict[str, Counts]
    figures: Figures | None = None


def count_plans(
    checkpoint: Path,
    scratch: Path,
    targets: Iterable[str],
    plans: Iterable[str],
    cores: Iterable[str],
    tokens: int,
    prove: bool = False,
    jobs: int = 1,
    say: Callable[[str], None] = lambda line: None,
) -> list[GuardRow]:
    """Exports a checkpoint with every plan and target into ``scratch`` and counts each on every core, ``jobs`` at a time.

    A plan that a target cannot give is left out, with a line to ``say``. The compatible form is counted on the oldest
    runtime that it is for. ``prove`` adds each bundle's figures on the host, whatever the plan's bounds.
    """
    chosen, bundles = [find_core(name) for name in cores], []
    for target in targets:
        check_parts(runtimes_of(load_target(target).cpu_backend))
    counter = InstructionCounter()
    for target in targets:
        for plan in plans:
            if (reason := impossible(checkpoint, plan, target)) is not None:
                say(f"left out: {reason}")
                continue
            say(f"exporting {plan} for {target}")
            [bundle] = export(checkpoint, scratch / Path(plan).stem, plan, (target,), prove=False)
            bundles.append((target, plan, bundle, figures_of(bundle, checkpoint) if prove else None))

    def count(job: tuple[str, str, Path, Figures | None, Core]) -> GuardRow:
        target, plan, bundle, figures, core = job
        runtime = runtimes_of(read_manifest(bundle).cpu.backend)[-1]
        row = GuardRow(target, core.name, plan, runtime, counter.count(bundle, core, runtime, tokens), figures)
        say(
            f"counted {plan} for {target} on {core.name}: {row.steps['prefill'].total / 1e6:.1f} M, {row.steps['decode'].total / 1e6:.2f} M"
        )
        return row

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(count, [(*bundle, core) for bundle in bundles for core in chosen]))


def impossible(checkpoint: Path, plan: str, target: str) -> str | None:
    """Returns why a target cannot give a plan, or None where it can."""
    with Checkpoint(checkpoint) as source:
        try:
            resolve(load_plan(plan), open_decoder(source), load_target(target))
        except FirstTokenError as error:
            return str(error)
    return None


def figures_of(bundle: Path, checkpoint: Path) -> Figures:
    from firsttoken.prove.prove import prove

    return prove(bundle, checkpoint)[0].all


def ratios(rows: Iterable[GuardRow]) -> dict:
    """Returns target → core → plan → step → figures: the total and each kind as ratios to the fp32 plan's total.

    The fp32 plan's own total is also given as it is ("instructions"). Raises `FirstTokenError` where it was not counted.
    """
    rows = list(rows)
    yardsticks = {(row.target, row.core): row.steps for row in rows if row.plan == YARDSTICK}
    found: dict = {}
    for row in rows:
        if (row.target, row.core) not in yardsticks:
            raise FirstTokenError(
                f"{row.target} on {row.core}: the plan {YARDSTICK} was not counted, so there is nothing to relate to; add it"
            )
        for step, counts in row.steps.items():
            whole = yardsticks[row.target, row.core][step].total
            values = {"total": counts.total / whole, **{kind: counts.kinds[kind] / whole for kind in KINDS}}
            place = found.setdefault(row.target, {}).setdefault(row.core, {}).setdefault(row.plan, {}).setdefault(step, {})
            place.update({name: round(value, 4) for name, value in values.items()})
            if row.plan == YARDSTICK:
                place["instructions"] = counts.total
    return found


def compare(measured: dict, baseline: dict, tolerance: float = TOLERANCE) -> list[str]:
    """Returns one sentence for everything that is not as the baseline says; both are what `ratios` returns."""
    problems = []
    for target, cores in measured.items():
        for core, plans in cores.items():
            for plan, steps in plans.items():
                for step, now in steps.items():
                    try:
                        before = baseline[target][core][plan][step]
                    except KeyError:
                        problems.append(f"plan {plan} for {target} on {core}: the baseline has no {step} for it; write it anew")
                        continue
                    problems += [f"plan {plan} for {target} on {core}, {step}: {text}" for text in changes(now, before, tolerance)]
    return problems


def changes(now: dict, before: dict, tolerance: float) -> list[str]:
    """Returns what is different between one step's figures, in words."""
    texts = []
    for kind in PATTERNS:
        if before[kind] >= SEEN and now[kind] < before[kind] / 2:
            share = "gone" if now[kind] == 0 else f"down to {now[kind] / before[kind]:.0%}"
            texts.append(f"{kind} is {share}: {MEANING[kind]}, it fell off its fast kernel")
        elif max(before[kind], now[kind]) >= SEEN and abs(now[kind] - before[kind]) > tolerance * max(before[kind], SEEN):
            texts.append(f"{kind} is {now[kind]:.4f} of all of fp32's instructions instead of {before[kind]:.4f}")
    if abs(now["total"] / before["total"] - 1) > tolerance:
        texts.append(
            f"it takes {now['total']:.3f} of fp32's instructions instead of {before['total']:.3f} ({now['total'] / before['total'] - 1:+.1%})"
        )
    if "instructions" in before and "instructions" in now and abs(now["instructions"] / before["instructions"] - 1) > tolerance:
        change = now["instructions"] / before["instructions"] - 1
        texts.append(
            f"it takes {now['instructions'] / 1e6:.2f} M instructions instead of {before['instructions'] / 1e6:.2f} M ({change:+.1%})"
        )
    return texts


def read_baseline(path: Path, tokens: int) -> dict:
    """Reads a baseline's ratios. Raises `FirstTokenError` if it is for another number of prefill tokens."""
    values = read_json(path, "write one with scripts/arm_instructions --write-baseline")
    if values.get("tokens") != tokens:
        raise FirstTokenError(
            f"{path}: is for a prefill of {values.get('tokens')} tokens, not {tokens}; give --tokens {values.get('tokens')}"
        )
    return values["ratios"]


def write_baseline(path: Path, tokens: int, versions: dict[str, str], measured: dict) -> None:
    """Writes ratios as the new baseline; what was not measured now is dropped."""
    write_text(path, json.dumps({"tokens": tokens, "versions": versions, "ratios": measured}, indent=1) + "\n")
