"""Times from elsewhere: of whole bundles, on a phone or counted on an emulated core, what a weight takes in each precision.

A bundle's time is taken for a sum: for each precision its weights times what one takes. What is there whatever the plan is shared out over the weights,
which are as many in every plan. Bundles of the same checkpoint in different plans give one equation each; the numbers, none below 0, are those that
leave the least (scipy's `nnls`).
"""

import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from firsttoken.arm.cores import find_core
from firsttoken.arm.emulator import Runtime, check_parts, runtimes_of
from firsttoken.arm.instructions import InstructionCounter
from firsttoken.backends.registry import resolve
from firsttoken.decoder.walk import Layer, parameter_count, plan_layers
from firsttoken.errors import FirstTokenError
from firsttoken.measure.measurement import Result, Run, read_measurement
from firsttoken.progress import Report
from firsttoken.quant.plan import load_plan
from firsttoken.search.candidates import Candidate
from firsttoken.search.sensitivity import Subject
from firsttoken.search.times import Shape, Time

COUNTED_MOST = 40e6  # weights of a model whose instructions are counted: an emulated core takes minutes for each bundle
COUNTED_TOKENS = 64  # of the prompt
Kind = tuple[str, str]  # precision, and group as a number or "row"


@dataclass(frozen=True)
class Observed:
    """A bundle: every linear layer's shape, and nanoseconds (or instructions) of a prompt and of a token."""

    name: str
    shapes: Mapping[str, Shape]
    prefill: float
    decode: float


@dataclass(frozen=True)
class Fitted:
    """What a weight takes in each kind of precision, in a prompt of ``prompt`` tokens and in a token."""

    each: Mapping[Kind, Time]
    prompt: int

    def time(self, shape: Shape) -> Time:
        """A layer's. Raises `FirstTokenError` for a precision that no bundle had."""
        kind = kind_of(shape)
        if kind not in self.each:
            raise FirstTokenError(
                f"--times: no bundle has layers in {' in groups of '.join(kind)}; measure one that has, or leave it out with --precision (measured: {', '.join('/'.join(one) for one in self.each)})"
            )
        one, weights = self.each[kind], shape.rows * shape.columns
        return Time(one.prefill * weights, one.decode * weights)


def kind_of(shape: Shape) -> Kind:
    return f"{shape.precision} apart" if shape.apart else shape.precision, "row" if shape.group >= shape.columns else str(shape.group)


def fit(observed: Sequence[Observed], prompt: int) -> Fitted:
    """Solves for what each kind takes. Raises `FirstTokenError` where the bundles do not tell kinds apart."""
    from scipy.optimize import nnls

    kinds = list(dict.fromkeys(kind_of(shape) for one in observed for shape in one.shapes.values()))
    found = []
    for which in ("prefill", "decode"):
        rows = np.array([[weights_of(one, kind, which, prompt) for kind in kinds] for one in observed])
        scale = np.maximum(rows.max(0), 1.0)
        if np.linalg.matrix_rank(rows / scale, tol=1e-6) < len(kinds):
            raise FirstTokenError(
                f"--times: {len(observed)} bundles ({', '.join(one.name for one in observed)}) do not tell apart what weights take in {', '.join('/'.join(kind) for kind in kinds)}; "
                f"give {len(kinds)} at least, of plans with different shares of them, such as int8, fp16 and int4"
            )
        taken = np.array([getattr(one, which) for one in observed])
        numbers, _ = nnls(rows / scale / taken[:, None], np.ones(len(taken)))  # errors count by ratio
        found.append(numbers / scale)
    each = {kind: Time(float(prefill), float(decode)) for kind, prefill, decode in zip(kinds, *found, strict=False)}
    return Fitted(each, prompt)


def weights_of(one: Observed, kind: Kind, which: str, prompt: int) -> float:
    """How many weights of a kind a bundle multiplies by; the head sees one token of a prompt."""
    sizes = {name: shape.rows * shape.columns for name, shape in one.shapes.items() if kind_of(shape) == kind}
    head = sizes.pop("head", 0)
    return sum(sizes.values()) + (head if which == "decode" else head / prompt)


def shapes_of(layers: Collection[Layer], one: Callable[[Layer], Candidate]) -> dict[str, Shape]:
    return {layer.name: Shape.of(layer, one(layer)) for layer in layers if layer.kind == "linear"}


def from_files(subject: Subject, paths: Sequence[Path], prompt: int) -> Fitted:
    """From `*.measurement.json` files of this checkpoint's bundles, at the measured prompt length that is nearest to ``prompt``. Raises `FirstTokenError`."""
    results = [(path, result) for path in paths for result in read_measurement(path).results]
    fingerprint = subject.source.fingerprint()
    for path, result in results:
        if result.bundle.fingerprint != fingerprint or result.bundle.runtime != subject.target.runtime:
            raise FirstTokenError(
                f"--times {path}: {result.bundle.name} is a bundle of {result.bundle.checkpoint} for {result.bundle.runtime}, expected one of this checkpoint for {subject.target.runtime}"
            )
    lengths = set.intersection(*({run.prompt_tokens for run in warm(result)} for _, result in results))
    if not lengths:
        raise FirstTokenError("--times: the bundles have no prompt length in common; measure all with the same --prompts")
    length = min(lengths, key=lambda tokens: abs(tokens - prompt))
    return fit([observed_run(subject, result, length) for _, result in results], length)


def warm(result: Result) -> list[Run]:
    """The runs that count."""
    return [run for run in result.runs if run.state == "warm" and run.decode is not None and not run.cached_tokens]


def observed_run(subject: Subject, result: Result, length: int) -> Observed:
    """One bundle's medians at one prompt length. Raises `FirstTokenError` for a plan that is not built in, whose layers are not known."""
    plan = load_plan(result.bundle.plan)
    precisions = resolve(plan, subject.decoder, subject.target)
    runs = [run for run in warm(result) if run.prompt_tokens == length]

    def candidate(layer: Layer) -> Candidate:
        _, (_, columns) = layer.matrix
        group = plan.group(layer.name, columns)
        return Candidate(precisions[layer.name], "round", "row" if group == columns else group)  # type: ignore[arg-type]  # a plan's groups

    return Observed(
        result.bundle.name,
        shapes_of(plan_layers(subject.decoder), candidate),
        statistics.median(run.stages.first_token for run in runs),
        statistics.median(run.decode.nanoseconds / run.decode.tokens for run in runs if run.decode),
    )


def check_arm(subject: Subject) -> Runtime:
    """The runtime that instructions are counted in. Raises `FirstTokenError` for a model that is too large, and where the machine is not set up."""
    if parameter_count(subject.decoder) > COUNTED_MOST:
        raise FirstTokenError(
            f"--times arm: {subject.source.name} has {parameter_count(subject.decoder) / 1e6:.0f} M weights; instructions are counted of models up to {COUNTED_MOST / 1e6:.0f} M, measure this one on a phone and give its files"
        )
    [runtime, *_] = runtimes_of(subject.backend.name)
    check_parts([runtime])
    return runtime


def from_arm(
    subject: Subject, offered: Mapping[str, Collection[Candidate]], core: str, export: Callable[[Candidate], Path], report: Report
) -> Fitted:
    """From instructions counted on an emulated ARM core, of a bundle for each precision (``export`` writes one that has it in all layers that may
    have it, the others in INT8). Raises `FirstTokenError` for a model that is too large, and where the machine is not set up.
    """
    runtime = check_arm(subject)
    counter, found, wanted = InstructionCounter(), [], distinct(offered)
    for number, one in enumerate(wanted):
        report("count instructions", number, len(wanted), "bundles")
        counts = counter.count(export(one), find_core(core), runtime, COUNTED_TOKENS)
        shapes = shapes_of(plan_layers(subject.decoder), lambda layer, one=one: one if one in offered[layer.name] else Candidate("int8"))  # type: ignore[misc]
        found.append(Observed(one.label, shapes, counts["prefill"].total, counts["decode"].total))
    report("count instructions", len(wanted), len(wanted), "bundles")
    return fit(found, COUNTED_TOKENS)


def distinct(offered: Mapping[str, Collection[Candidate]]) -> list[Candidate]:
    """One candidate for each kind of precision that linear layers have; how integers were chosen takes no time."""
    kinds: dict[tuple[str, object, object], Candidate] = {}
    for name, own in offered.items():
        for one in own if name.startswith("layers.") and not name.endswith(".core") else ():
            kinds.setdefault((one.precision, one.group, one.outliers), one)
    return list(kinds.values())
