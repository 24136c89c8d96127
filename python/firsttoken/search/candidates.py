"""What a layer may be: the precisions that a target's backend gives its kind, and how their integers may be chosen."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from firsttoken.backends.interface import Backend
from firsttoken.decoder.features import CHOSEN_EXPERTS, PER_LAYER, SHARED_CACHE, STREAMS, features
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import Layer, plan_layers
from firsttoken.errors import FirstTokenError, nearest
from firsttoken.precisions import PRECISIONS, STATIC
from firsttoken.quant.plan import Group, Method, Outliers


@dataclass(frozen=True, order=True)
class Candidate:
    """One way of holding a layer's weight: ``group`` is a number of columns or "row" for integers in groups, else None."""

    precision: str
    method: Method = "round"
    group: Group | None = None
    outliers: Outliers | None = None

    @property
    def stored(self) -> tuple[str, Method, Group | None]:
        """What decides the bytes in the file: not what is done with a layer's input."""
        return self.precision, self.method, self.group

    @property
    def label(self) -> str:
        """As tables and files name it: "fp16", "int8 gptq", "int4/32 gptq", "int8 apart"."""
        group = "" if self.group is None else f"/{self.group}"
        return f"{self.precision}{group}{'' if self.method == 'round' else f' {self.method}'}{'' if self.outliers is None else f' {self.outliers}'}"


NOT_CALIBRATED = (PER_LAYER, SHARED_CACHE, STREAMS, CHOSEN_EXPERTS)  # what `calibration.blocks` does not take
# Wider first. Rounding alone is offered for four bits only where nothing else can be had: it costs two to three times the damage.
LINEAR = (
    Candidate("fp32"),
    Candidate("fp16"),
    Candidate("int8"),
    Candidate("int8", outliers="apart"),
    Candidate("int8", "gptq"),
    Candidate("int4", "gptq", 32),
    Candidate("int4", "gptq", 128),
    Candidate("int4", "gptq", "row"),
    Candidate("int4", "round", 32),
)
OTHER = (Candidate("fp32"), Candidate("fp16"), Candidate("int8"), Candidate("int4", "round", 32))


def candidates(decoder: Decoder, backend: Backend, asked: Sequence[str] = ()) -> dict[str, list[Candidate]]:
    """Returns what every layer may be on ``backend``, by name in the order of computation; ``asked`` are the labels to keep (default: all).

    FP32 is left out where FP16 is no worse: of weights, not of cores, whose scores it decides. Raises `FirstTokenError` for a label that
    is unknown, and for a layer that none is left for.
    """
    labels = {one.label for one in LINEAR}
    for label in asked:
        if label in STATIC:
            raise FirstTokenError(
                f"precision {label!r} is none that damages are measured of: its error is that of calibrated ranges, which `firsttoken plan ranges` lists; "
                "write a plan with it and export that"
            )
        if label not in labels:
            raise FirstTokenError(
                f"precision {label!r} is unknown{nearest(label, labels)}; expected one of {', '.join(one.label for one in LINEAR)}"
            )
    calibrated = not any(name in NOT_CALIBRATED for name in features(decoder))
    found: dict[str, list[Candidate]] = {}
    linear: dict[str, list[Candidate]] = {}
    for layer in plan_layers(decoder):
        possible = [one for one in (LINEAR if layer.kind == "linear" else OTHER) if fits(one, layer, decoder, backend, calibrated)]
        kept = [one for one in possible if one.label in asked] if asked and layer.kind == "linear" else possible
        if not kept:
            raise FirstTokenError(
                f"layer {layer.name!r} can have none of {', '.join(asked)} here; expected one of {', '.join(one.label for one in possible)} among them"
            )
        found[layer.name] = kept[:1] if layer.kind == "core" and backend.one_cache else kept
        if layer.kind == "linear":
            linear[layer.name] = possible
    for label in asked:
        check_taken(label, asked, linear)
    return found


def check_taken(label: str, asked: Sequence[str], linear: Mapping[str, Sequence[Candidate]]) -> None:
    """Raises `FirstTokenError` for a label that no linear layer can have, or the head alone while the others' with chosen integers is not asked;
    ``linear`` is what linear layers can have."""
    having = [name for name, possible in linear.items() if label in {one.label for one in possible}]
    others = list(dict.fromkeys(one.label for name, possible in linear.items() if name not in having for one in possible))
    chosen = next((other for other in others if other.split()[0] == label and other != label), None)
    if not having:
        raise FirstTokenError(
            f"precision {label!r} is none that a layer can have here{nearest(label, others)}; expected one of {', '.join(others)}"
        )
    if having == ["head"] and len(linear) > 1 and label not in others and chosen is not None and chosen not in asked:
        raise FirstTokenError(
            f"precision {label!r} is none that a layer but the head can have here: the others' integers are chosen, which is {chosen!r}; "
            f"give --precision {chosen!r}, and {label!r} besides for the head"
        )


def fits(one: Candidate, layer: Layer, decoder: Decoder, backend: Backend, calibrated: bool) -> bool:
    """Whether the backend's kernels, the layer's shape and the method allow it."""
    possible = backend.precisions[layer.kind]
    if one.precision not in possible or (one.precision == "fp32" and layer.kind != "core" and "fp16" in possible):
        return False
    if one.outliers is not None and not (backend.outliers_apart and backend.activations(one.precision) == "int8"):
        return False
    if one.precision == "int4" and backend.weight_grid.blocks and one.group != backend.weight_grid.blocks:
        return False  # the format's own blocks are all it has
    tied = decoder.tied_head and layer.name == "head"
    if one.method != "round" and (tied or not calibrated):
        return False
    if one.precision == "int4" and one.method == "round" and layer.kind == "linear":
        return (tied or not calibrated) and divides(one, layer)
    return PRECISIONS[one.precision].scales != "group" or divides(one, layer)


def divides(one: Candidate, layer: Layer) -> bool:
    """Whether the groups fill the layer's rows; one group that is the whole row is "row"."""
    _, (_, columns) = layer.matrix
    return one.group == "row" or (isinstance(one.group, int) and columns % one.group == 0 and columns > one.group)


def integer_choice(offered: Mapping[str, Collection[Candidate]]) -> dict[str, Candidate]:
    """Every layer in INT8 without a method where it may be, cores in FP32: what others are held against."""
    return {name: Candidate("int8") if Candidate("int8") in own else next(iter(own)) for name, own in offered.items()}
