"""What the inputs and outputs of layers were on a calibration text, kept in the user's cache, and the ranges that a plan takes of it."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import get_args

import numpy as np

from firsttoken.bundle.integer_facts import CalibrationFacts, Range, StaticLayer
from firsttoken.calibration.integers import chosen_layers, kept_under
from firsttoken.calibration.largest import read_arrays
from firsttoken.calibration.text import TOKENS, WINDOW, CalibrationText, check_words, tokens_key, windows_of
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.features import CHOSEN_EXPERTS, PER_LAYER, SHARED_CACHE, STREAMS, features
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import plan_layers
from firsttoken.errors import FirstTokenError
from firsttoken.extras import need
from firsttoken.precisions import PRECISIONS, STATIC
from firsttoken.progress import Report, silent
from firsttoken.quant.plan import Plan, RangeMethod
from firsttoken.range_histogram import BINS, FRACTION, Histogram, Seen
from firsttoken.tokenizer import Tokenizer

WORSE_THAN_CHANCE = 0.5  # nats; ranges are wrong at once where tokens are others
VERSION = 1  # of what is computed: another one measures anew
NOT_TAKEN = (PER_LAYER, SHARED_CACHE, STREAMS, CHOSEN_EXPERTS)  # `calibration.blocks` does not watch these layers


def static_layers(precisions: Mapping[str, str]) -> list[str]:
    """The layers whose activations' ranges are calibrated."""
    return [name for name, precision in precisions.items() if precision in STATIC]


def check_static(decoder: Decoder, precisions: Mapping[str, str]) -> None:
    """Raises `FirstTokenError` for a decoder whose layers are not watched one after the other, where a layer is to be calibrated."""
    found = static_layers(precisions)
    left = [name for name in features(decoder) if name in NOT_TAKEN]
    if found and left:
        raise FirstTokenError(
            f"{precisions[found[0]]} of {found[0]!r}: ranges are not calibrated of a decoder with {left[0]}, which {decoder.family} has; give int8 in the plan"
        )


def with_ranges(
    source: Checkpoint,
    decoder: Decoder,
    plan: Plan,
    precisions: Mapping[str, str],
    facts: CalibrationFacts | None,
    text: CalibrationText | None,
    report: Report = silent,
) -> CalibrationFacts | None:
    """Returns ``facts`` with the ranges of all static layers; ``source`` holds the weights as they are exported. Raises `FirstTokenError`."""
    layers = static_layers(precisions)
    if not layers or facts is None or text is None:
        return facts
    chosen = chosen_layers(plan, decoder, precisions)
    integers = plan.written(chosen, {layer.name: precisions[layer.name] for layer in chosen}).items()
    seen = activations(source, decoder, layers, text, report, integers)
    static = [static_layer(name, precisions[name], plan.range(name), seen[name]) for name in layers]
    return facts.model_copy(update={"static": static})


def static_layer(name: str, precision: str, method: RangeMethod, seen: Seen) -> StaticLayer:
    """A layer's ranges by a method, and what they leave out."""
    kind = PRECISIONS[precision].static
    assert kind is not None, "a static precision"
    ends = {which: histogram.range(method, kind) for which, histogram in (("input", seen.input), ("output", seen.output))}
    input, output = (
        Range(low=low, high=high, saturated=histogram.saturated(low, high), error=histogram.error(low, high, kind))
        for (low, high), histogram in zip(ends.values(), (seen.input, seen.output), strict=True)
    )
    return StaticLayer(layer=name, precision=precision, method=method, input=input, output=output, outlier_channels=seen.outlier_channels)


def by_method(name: str, precision: str, seen: Seen) -> dict[RangeMethod, StaticLayer]:
    """A layer's ranges by every method."""
    return {method: static_layer(name, precision, method, seen) for method in get_args(RangeMethod)}


def saturation_lines(facts: CalibrationFacts) -> list[str]:
    """What was calibrated, in a line: how many layers, and the one whose input its range serves worst."""
    if not facts.static:
        return []
    worst = max(facts.static, key=lambda one: one.input.error)
    channels = f", {len(worst.outlier_channels)} outlier channels" if worst.outlier_channels else ""
    line = (
        f"ranges of {len(facts.static)} layers taken on {facts.text}; worst served is the input of {worst.layer}: {worst.input.low:.3g} to {worst.input.high:.3g} "
        f"({worst.method}), {worst.input.saturated:.2g} of its values beyond, rounding changes it by {worst.input.error:.2g} of its size{channels}"
    )
    return [line]


def activations(
    source: Checkpoint,
    decoder: Decoder,
    layers: Iterable[str],
    text: CalibrationText,
    report: Report = silent,
    integers: Iterable[tuple[str, str]] = (),
) -> dict[str, Seen]:
    """What every one of ``layers`` met and gave in FP32 on the text, by name, measured where it is not kept.

    ``integers`` are the layers of ``source`` with chosen integers, and how they are written. Raises `FirstTokenError` for a text too short, and, with
    the layer's name, for values that are no numbers.
    """
    asked = set(layers)
    # All of them, so that another plan's are kept already; the head, whose products are many, where it is asked.
    wanted = sorted(layer.name for layer in plan_layers(decoder) if layer.kind == "linear" and (layer.name != "head" or "head" in asked))
    decides = [VERSION, FRACTION, TOKENS, WINDOW, source.fingerprint(), tokens_key(source), wanted, sorted(integers), text.sha256]
    path = kept_under("ranges") / f"{hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:32]}.npz"
    if (kept := read(path, asked)) is not None:
        return kept
    need("executorch", "a static precision")
    import torch

    from firsttoken.calibration.blocks import surprise, watch, watch_head
    from firsttoken.calibration.watched import Watched

    windows = [torch.from_numpy(window) for window in windows_of(text, Tokenizer(source.folder))]
    watched = Watched(frozenset(wanted))
    states = watch(source, decoder, windows, watched.met, report, watched.gave)
    check_words(source, decoder.vocab_size, text, surprise(source, decoder, windows[0], states[0]), WORSE_THAN_CHANCE)
    if "head" in wanted:
        watch_head(source, decoder, states, watched.met, watched.gave)
    write(path, watched.found)
    return {name: watched.found[name] for name in asked}


def write(path: Path, found: Mapping[str, Seen]) -> None:
    """Writes the file whole or not at all; of bins only those that are not empty."""
    arrays = {}
    for name, seen in found.items():
        for which, histogram in (("input", seen.input), ("output", seen.output)):
            bins = np.flatnonzero(histogram.counts)
            arrays[f"{name}.{which}.bins"], arrays[f"{name}.{which}.counts"] = bins.astype(np.uint16), histogram.counts[bins]
            arrays[f"{name}.{which}.ends"] = np.array([histogram.low, histogram.high])
        arrays[f"{name}.largest"] = seen.largest
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".unfinished{os.getpid()}")
    with unfinished.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]  # numpy's stubs take every keyword for allow_pickle
    unfinished.replace(path)


def read(path: Path, layers: Iterable[str]) -> dict[str, Seen] | None:
    """What `write` wrote; None where there is no file, or one that is damaged."""
    arrays = read_arrays(path)
    return None if arrays is None else seen_in(arrays, layers)


def seen_in(kept: Mapping[str, np.ndarray], layers: Iterable[str]) -> dict[str, Seen]:
    """The layers' histograms out of the file's arrays."""

    def histogram(name: str) -> Histogram:
        counts = np.zeros(BINS, np.int64)
        counts[kept[f"{name}.bins"]] = kept[f"{name}.counts"]
        return Histogram(counts, *map(float, kept[f"{name}.ends"]))

    return {name: Seen(histogram(f"{name}.input"), histogram(f"{name}.output"), kept[f"{name}.largest"]) for name in layers}
