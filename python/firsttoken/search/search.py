"""The plan for a budget: damages and costs measured, the best choice, then an export and its proof, and another choice where the sum misled."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from firsttoken.backends.registry import backend_of, open_target
from firsttoken.bundle.figures import Figures
from firsttoken.bundle.manifest import read_manifest
from firsttoken.calibration.text import read_text, refuse_overlap
from firsttoken.checkpoint_sources.open import open_checkpoint
from firsttoken.decoder.walk import open_decoder, plan_layers
from firsttoken.errors import FirstTokenError
from firsttoken.extras import need
from firsttoken.progress import Report, silent
from firsttoken.prove.prove import held_out_text
from firsttoken.quant.plan import Gate
from firsttoken.search.budget import Budget, misses, mostly, ratio_of, tighter, told, unreachable
from firsttoken.search.candidates import Candidate
from firsttoken.search.choice import Cost, Costs, choose, front
from firsttoken.search.clock import clock_of
from firsttoken.search.costs import Real, export_choice, gather, real_costs
from firsttoken.search.plan_file import plan_text
from firsttoken.search.sensitivity import Subject, measured_damages
from firsttoken.search.smooth import smooths
from firsttoken.units import readable

TRIES = 4  # exports until a choice that was predicted to fit does
ROOM = 1.5  # times the measured figures: the bounds of the found plan's own proof
FIRST_GATE = Gate(mean_kld=100, p99_kld=1000, same_top=1e-6, magnitude=0.9)  # of the tries: what they measure decides, not a bound


@dataclass(frozen=True)
class Found:
    """A plan for a budget: its text, what was predicted, and what its export has (None where nothing was exported)."""

    choice: dict[str, Candidate]
    text: str
    predicted: Cost
    real: Real | None
    figures: Figures | None
    base: Real
    base_predicted: Cost
    front: list[tuple[dict[str, Candidate], Cost]]
    tries: int
    ratios: tuple[float, float] = (0.0, 0.0)
    """Of the exported plan's times to the INT8 plan's, run in turns: first token, decode."""

    @property
    def timed(self) -> bool:
        return self.base_predicted.prefill > 0


@contextmanager
def opened(
    checkpoint: str | Path,
    target: str | Path,
    calibration: Path | None,
    held_out: Path | None,
    adapter: str | Path | None,
    tokens: int,
    report: Report,
) -> Iterator[Subject]:
    """Opens what is to be measured. Raises `FirstTokenError` for what cannot be read, does not fit together, or overlaps the proof's text."""
    with open_checkpoint(checkpoint, adapter, report) as source:
        decoder, aim, text = open_decoder(source), open_target(target), read_text(calibration)
        backend = backend_of(aim)
        backend.check_model(decoder, aim)
        backend.check_installed(f"target {aim.name!r}")
        if aim.npu is not None:
            raise FirstTokenError(
                f"target {aim.name!r}: compiles for an NPU; damages are measured for what runs on the CPU, give a target without [npu]"
            )
        name, proof_text = held_out_text(source.folder, held_out)
        refuse_overlap(text, proof_text, name)
        yield Subject(source, decoder, aim, text, tokens, checkpoint, target, adapter, calibration, held_out)


def stored_note(subject: Subject) -> str | None:
    """A line where the checkpoint's layers are integers already: those are not offered."""
    lattices = [found for layer in plan_layers(subject.decoder) if layer.weight and (found := subject.source.lattice(layer.weight))]
    if not lattices:
        return None
    return (
        f"{len(lattices)} layers are stored as integers ({lattices[0]}), which a search rounds anew; --plan as-stored of export keeps them"
    )


def search(
    subject: Subject,
    budget: Budget,
    asked: tuple[str, ...] = (),
    prompt: int = 128,
    times: Sequence[str | Path] = (),
    prove: bool = True,
    report: Report = silent,
    say: Callable[[str], None] = lambda line: None,
) -> Found:
    """Finds the plan with the least damage within ``budget`` (or the least bytes within a damage). ``asked`` are the labels of
    `candidates` to choose among, ``prompt`` the tokens that times are for, measured here, or as ``times`` say: files of measurements, or "arm"; without ``prove`` nothing but the INT8 plan is exported.

    Raises `FirstTokenError` for a budget that nothing is within, saying what can be reached.
    """
    need("search", "searching a plan")
    subject.backend.check_search(subject.decoder, subject.target)
    damages = measured_damages(subject, asked, report)
    with tempfile.TemporaryDirectory(prefix="firsttoken-search-") as folder:
        clock = clock_of(subject, damages, budget, prompt, times, Path(folder), report)
        timed = clock.prompt if clock is not None and clock.here else None
        costs, base, uniform = gather(subject, damages, clock, Path(folder, "int8"), report)
        bounds, tightened = budget.bounds(base), budget.bounds(base)
        for number in range(1, TRIES + 1):
            choice, last = choose(costs, tightened, budget.least), number == TRIES
            if choice is None and number > 1 and bounds.hold(costs.total(uniform)):
                choice, last = uniform, True  # the bounds are tighter than asked by what an unquiet machine showed
            if choice is None:
                raise FirstTokenError(unreachable(costs, bounds, base, number > 1))
            predicted = costs.total(choice)
            if not prove:
                return found_plan(subject, choice, costs, predicted, None, None, None, base, uniform, number)
            bundle = export_choice(subject, choice, costs, Path(folder, f"try{number}"), True, report, FIRST_GATE)
            both = real_costs(bundle, timed, Path(folder, "int8") / subject.target.name if timed else None, report)
            proof = read_manifest(bundle).need_proof()
            real, again = both[0] if choice != uniform else both[-1], both[-1]  # the same plan takes the same time
            missed = misses(budget, real, again, proof.all.mean_kld)
            say(told(number, real, predicted, proof.all, missed, last))
            if not missed or last:
                if missed:
                    raise FirstTokenError(
                        f"no plan within the budget after {number} exports: the last one {', '.join(missed)}; give a wider budget, or --no-prove for the plan as predicted"
                    )
                return found_plan(subject, choice, costs, predicted, real, again, proof.all, base, uniform, number)
            tightened = tighter(tightened, bounds, budget, predicted, real, again, proof.all.mean_kld)
    raise AssertionError("the loop returns or raises")


def found_plan(
    subject: Subject,
    choice: dict[str, Candidate],
    costs: Costs,
    predicted: Cost,
    real: Real | None,
    again: Real | None,
    figures: Figures | None,
    base: Real,
    uniform: Mapping[str, Candidate],
    tries: int,
) -> Found:
    """The plan's text with what is known of it, and the front of all plans; ``again`` is what the INT8 artifact had beside ``real``."""
    size, kld = (real.bytes, figures.mean_kld) if real and figures else (int(predicted.bytes), predicted.damage)
    summary = f"Found for {subject.source.name} on {subject.target.name}: {readable(size)}, mean KL divergence {kld:.2g}, {mostly(choice)}"
    notes = [
        f"Damages: mean KL divergence in nats a token of one layer alone, on {subject.tokens} tokens of {subject.text.name}.",
        f"Together {predicted.damage:.2e} nats and {readable(int(predicted.bytes))} were predicted"
        + (f"; the export has {figures.mean_kld:.2e} nats and {readable(size)}." if figures else "; nothing was exported."),
    ]
    fronts = [(one, costs.total(one)) for one in front(costs)]
    text = plan_text(choice, costs, summary, gate_of(predicted, figures), notes, smooths(subject, choice))
    ratios = (ratio_of(real.first_token, again.first_token), ratio_of(real.decode, again.decode)) if real and again else (0.0, 0.0)
    return Found(choice, text, predicted, real, figures, base, costs.total(uniform), fronts, tries, ratios)


def gate_of(predicted: Cost, figures: Figures | None) -> Gate:
    """Bounds of the plan's own proof: `ROOM` times what was measured, or twice that of what was only predicted."""
    if figures is None:
        return Gate(mean_kld=2 * ROOM * predicted.damage + 1e-4, p99_kld=30 * predicted.damage + 1e-3, same_top=0.8, magnitude=0.05)
    return Gate(
        mean_kld=ROOM * figures.mean_kld + 1e-6,
        p99_kld=ROOM * figures.p99_kld + 1e-5,
        same_top=max(0.01, 1 - ROOM * (1 - figures.same_top) - 0.002),
        magnitude=min(0.5, 2 * abs(figures.magnitude_ratio - 1) + 0.005),
    )
