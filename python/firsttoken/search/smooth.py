"""Smoothing before anything is measured: damages are then those of the checkpoint that the plan's ``smooth = true`` makes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from firsttoken.bundle.integer_facts import CalibrationFacts
from firsttoken.calibration.smoothed import NOT_SMOOTHED, places, smoothed_for
from firsttoken.decoder.features import features
from firsttoken.progress import Report, silent
from firsttoken.prove.smoothing import choose, described, with_smoothing
from firsttoken.search.candidates import Candidate, candidates, integer_choice
from firsttoken.search.damage import UNASKED
from firsttoken.search.plan_file import plan_of
from firsttoken.search.sensitivity import Subject

APART = Candidate("int8", outliers="apart")


def smoothed(
    subject: Subject, asked: Sequence[str] = (), report: Report = silent, say: Callable[[str], None] = lambda line: None
) -> Subject:
    """Returns the subject with what smoothing helps its INT8 plan, or itself where none does; ``asked`` are the candidates' labels as `candidates` takes them. Raises `FirstTokenError`."""
    decoder, backend, text = subject.decoder, subject.backend, subject.text
    if left := [name for name in features(decoder) if name in NOT_SMOOTHED]:
        say(f"nothing is smoothed: that does not take {left[0]}, which {decoder.family} has")
        return subject
    uniform, offered = integer_choice(candidates(decoder, backend)), candidates(decoder, backend, asked)
    # Nearly every plan found has the head's outliers apart, and a smoothed table gives it more of them.
    if APART in offered["head"]:
        uniform["head"] = APART
    precisions = {name: one.precision for name, one in uniform.items()}
    facts = CalibrationFacts(text=text.name, sha256=text.sha256)
    plan = plan_of(uniform, "INT8", UNASKED)
    found = facts.model_copy(update={"smoothing": choose(subject.source, decoder, plan, precisions, backend, facts, text, report)})
    say(described(found))
    if found.smoothing is None or not found.smoothing.kept:
        return subject
    return replace(
        subject, source=with_smoothing(subject.source, decoder, precisions, backend, found, text, report), smoothing=found.smoothing
    )


def smooths(subject: Subject, choice: Mapping[str, Candidate]) -> bool:
    """Whether a choice has layers whose inputs the subject's smoothing makes smaller outliers in; others are not asked for it."""
    precisions = {name: one.precision for name, one in choice.items()}
    return subject.smoothing is not None and bool(places(subject.decoder, smoothed_for(subject.decoder, precisions, subject.backend)))
