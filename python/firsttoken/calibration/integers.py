"""A checkpoint with the integers that a plan's method chooses, made once and kept in the user's cache."""

import errno
import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from firsttoken.bundle.integer_facts import CalibrationFacts
from firsttoken.cache_folder import cache_folder
from firsttoken.calibration.rounded import IntegerFiles, RoundedCheckpoint
from firsttoken.calibration.text import TOKENS, WINDOW, CalibrationText, check_words, tokens_key, windows_of
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import Layer, plan_layers
from firsttoken.errors import FirstTokenError
from firsttoken.extras import need
from firsttoken.precisions import PRECISIONS, STATIC
from firsttoken.progress import Report, silent
from firsttoken.quant.plan import Plan
from firsttoken.tokenizer import Tokenizer

VERSION = 1  # of what is computed: another one makes the integers anew


def chosen_layers(plan: Plan, decoder: Decoder, precisions: Mapping[str, str]) -> list[Layer]:
    """The layers whose integers the plan's method chooses. Raises `FirstTokenError` for a head that is the embedding's own tensor."""
    chosen = [layer for layer in plan_layers(decoder) if plan.method(layer.name) == "gptq" and PRECISIONS[precisions[layer.name]].scales]
    if decoder.tied_head and any(layer.name == "head" for layer in chosen):
        raise FirstTokenError(
            f"plan {plan.name!r}: the head of this model is the embedding's own table, whose rows are looked up too, so method 'gptq' cannot choose "
            'other integers for it; put a rule match = "head" without a method before'
        )
    return chosen


def facts_of(plan: Plan, decoder: Decoder, precisions: Mapping[str, str], text: CalibrationText | None) -> CalibrationFacts | None:
    """What the manifest says of it; None where nothing is chosen on a text."""
    static = any(precision in STATIC for precision in precisions.values())
    if text is None or not (plan.smooth or static or chosen_layers(plan, decoder, precisions)):
        return None
    return CalibrationFacts(text=text.name, sha256=text.sha256)


def with_integers(
    source: Checkpoint,
    decoder: Decoder,
    plan: Plan,
    precisions: Mapping[str, str],
    facts: CalibrationFacts | None,
    text: CalibrationText | None,
    report: Report = silent,
    say: Callable[[str], None] = lambda line: None,
) -> Checkpoint:
    """Returns ``source`` with the integers of the plan's method, calibrated on ``text`` where they are not kept from an earlier run.

    ``facts`` names the text that they are of; ``text`` may be another or None as long as they are kept; ``say`` is told of layers for which the
    text said too little. Raises `FirstTokenError`.
    """
    layers = chosen_layers(plan, decoder, precisions)
    if not layers or facts is None:
        return source
    wanted = {layer.name: (PRECISIONS[precisions[layer.name]].bits, plan.group(layer.name, layer.matrix[1][1])) for layer in layers}
    files = IntegerFiles(folder_of(source, wanted, facts))
    if not all(files.has(name) for name in wanted):
        if text is None or text.sha256 != facts.sha256:
            raise FirstTokenError(
                f"the integers of this bundle were chosen on {facts.text} (SHA-256 {facts.sha256[:12]}…) and are no longer in the cache folder; give the same export again, with that text as --calibration"
            )
        calibrate(source, decoder, wanted, files, text, report, say)
    return RoundedCheckpoint(source, files, {layer.matrix[0]: layer.name for layer in layers})


def folder_of(source: Checkpoint, wanted: Mapping[str, tuple[int, int]], facts: CalibrationFacts) -> Path:
    """Where the integers are kept: by all that decides them."""
    decides: list[object] = [VERSION, TOKENS, WINDOW, source.fingerprint(), tokens_key(source), sorted(wanted.items()), facts.sha256]
    if facts.smoothing is not None and facts.smoothing.kept:
        decides.append(sorted(facts.smoothing.kept.items()))
    key = hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:32]
    return kept_under("integers") / key


def kept_under(name: str) -> Path:
    """The folder of this name in the user's cache, or with the system's temporary files where there is none."""
    kept = cache_folder()
    return (Path(tempfile.gettempdir()) / "firsttoken" if kept is None else kept) / name


def calibrate(
    source: Checkpoint,
    decoder: Decoder,
    wanted: Mapping[str, tuple[int, int]],
    files: IntegerFiles,
    text: CalibrationText,
    report: Report,
    say: Callable[[str], None],
) -> None:
    """Writes what is missing, and says for which layers more damping was needed than usual. Raises `FirstTokenError`."""
    need("executorch", 'method "gptq"')
    import torch

    from firsttoken.calibration.blocks import Calibration, surprise, watch

    windows = [torch.from_numpy(window) for window in windows_of(text, Tokenizer(source.folder))]
    if not any(files.has(name) for name in wanted):  # at the start, not where a run goes on
        [states] = watch(source, decoder, windows[:1], lambda name, x: None)
        check_words(source, decoder.vocab_size, text, surprise(source, decoder, windows[0], states))
    calibration = Calibration(source, decoder, wanted, files)
    try:
        calibration.run(windows, report)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise FirstTokenError(
            f"{files.folder}: the disk is full ({error.strerror}); the integers need a byte a weight there, free some space and give the same command again"
        ) from None
    if damped := calibration.damped:
        most = max(damped, key=lambda name: damped[name])
        say(
            f"the inputs of {len(damped)} layers on {text.name} are too much alike to choose by them alone (damped by up to {damped[most]:g} of their mean, {most}): "
            "those integers are nearer to rounding; more or other text helps"
        )
