"""A checkpoint as it is exported: smoothed, with its own integers or those that a plan's method chooses, and the ranges of its activations."""

from collections.abc import Callable, Mapping
from pathlib import Path

from firsttoken.backends.registry import find_backend
from firsttoken.bundle.integer_facts import CalibrationFacts
from firsttoken.calibration.integers import facts_of, with_integers
from firsttoken.calibration.ranges import check_static, saturation_lines, with_ranges
from firsttoken.calibration.text import CalibrationText, read_text, refuse_overlap, windows_of
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.parts import Decoder
from firsttoken.errors import FirstTokenError
from firsttoken.progress import Report
from firsttoken.quant.plan import Plan
from firsttoken.quantized.kept import Integers, lost_by_smoothing, with_kept
from firsttoken.targets.target import Target
from firsttoken.tokenizer import Tokenizer


def check_calibrated(decoder: Decoder, plan: Plan, precisions: Mapping[str, str], target: Target) -> None:
    """Raises `FirstTokenError` where nothing can be smoothed, or ranges cannot be calibrated, though the plan asks for it."""
    check_static(decoder, precisions)
    if plan.smooth:
        from firsttoken.prove.smoothing import sites_for

        sites_for(decoder, precisions, find_backend(target.cpu_backend))


def prepared(
    source: Checkpoint,
    decoder: Decoder,
    plan: Plan,
    target: Target,
    precisions: Mapping[str, str],
    text: CalibrationText | None,
    report: Report,
    say: Callable[[str], None],
) -> tuple[Checkpoint, Integers]:
    """The checkpoint with the weights that are exported, and what the manifest says of its integers and ranges. Raises `FirstTokenError`."""
    facts = facts_of(plan, decoder, precisions, text)
    smoothed, facts = smooth_here(source, decoder, plan, target, precisions, facts, text, report, say)
    with_own, kept = with_kept(smoothed, decoder, plan, precisions)
    for line in [*lost_by_smoothing(source, smoothed, decoder), *kept.lines]:
        say(f"{target.name}: {line}")
    rounded = with_integers(with_own, decoder, plan, precisions, facts, text, report, say)
    facts = with_ranges(rounded, decoder, plan, precisions, facts, text, report)
    for line in [] if facts is None else saturation_lines(facts):
        say(f"{target.name}: {line}")
    return rounded, Integers(facts, kept.facts)


def smooth_here(
    source: Checkpoint,
    decoder: Decoder,
    plan: Plan,
    target: Target,
    precisions: Mapping[str, str],
    facts: CalibrationFacts | None,
    text: CalibrationText | None,
    report: Report,
    say: Callable[[str], None],
) -> tuple[Checkpoint, CalibrationFacts | None]:
    """The checkpoint smoothed as far as that helps, where the plan asks for it, and what the manifest says of it. Raises `FirstTokenError`."""
    if not plan.smooth or facts is None or text is None:
        return source, facts
    from firsttoken.prove.smoothing import choose, described, with_smoothing

    backend = find_backend(target.cpu_backend)
    facts = facts.model_copy(update={"smoothing": choose(source, decoder, plan, precisions, backend, facts, text, report)})
    say(f"{target.name}: {described(facts)}")
    return with_smoothing(source, decoder, precisions, backend, facts, text, report), facts


def calibration_text(
    source: Checkpoint, plan: Plan, calibration: str | Path | None, held_out: str | Path | None, say: Callable[[str], None]
) -> CalibrationText | None:
    """Reads the text for the plan's method; None where it has none. Raises `FirstTokenError` for one that the proof's text overlaps."""
    from firsttoken.prove.prove import held_out_text

    if not plan.calibrated:
        if calibration is not None:
            raise FirstTokenError(
                f"--calibration {calibration}: plan {plan.name!r} chooses no integers on a text; give a plan with a method, such as int4-gptq, "
                "with smooth = true, such as int8-apart, or with a static precision"
            )
        return None
    text = read_text(calibration)
    name, proof_text = held_out_text(source.folder, held_out)
    refuse_overlap(text, proof_text, name)
    windows_of(text, Tokenizer(source.folder))  # refuses a text that is too short
    say(
        f"{' and '.join(what_for(plan))} on {text.name}; what is found is kept in the cache folder, and the next export of the same kind takes it from there"
    )
    return text


def what_for(plan: Plan) -> list[str]:
    """What a plan takes a calibration text for, in words."""
    chosen = any(rule.method == "gptq" for rule in plan.rules)
    asked = {"smoothing is tried": plan.smooth, "integers are chosen": chosen, "ranges are taken": plan.statics}
    return [words for words, wanted in asked.items() if wanted]
