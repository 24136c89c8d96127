"""Plans for modules: the rules of a decoder's plan, by a layer's name or its kind, and bounds for what a classifier or an encoder gives.

What a kind of layer can have is a table with reasons, measured on six modules (docs/modules.md); each backend has its own part of it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from firsttoken.declarations import declaration_names, read_declaration
from firsttoken.errors import FirstTokenError, nearest
from firsttoken.precisions import STATIC, PrecisionName, closest
from firsttoken.quant.plan import DEFAULT_RANGE, RangeMethod

PLANS = "quant/modules"
LayerKind = Literal["linear", "conv", "depthwise", "embedding", "lstm", "other", "core"]
POSSIBLE: Mapping[str, tuple[str, ...]] = {
    "linear": ("fp32", "fp16", "int8", "int8-weight", "int8-static", "int4"),
    "conv": ("fp32", "fp16", "int8", "int8-weight", "int8-static"),
    "depthwise": ("fp32", "fp16", "int8-weight", "int8-static"),
    "embedding": ("fp32", "fp16", "int8-weight"),
    "lstm": ("fp32", "fp16", "int8", "int8-weight"),
    "other": ("fp32", "fp16", "int8-weight"),
    "core": ("fp32", "fp16"),
}
REASONS = {
    ("depthwise", "int8"): "it would run outside XNNPACK, 51 times slower than in floats (a MobileNetV3); int8-weight costs nothing",
    ("conv", "int4"): "it would run outside XNNPACK, 17 times slower than in floats (a ResNet-18)",
    ("depthwise", "int4"): "it would run outside XNNPACK, and a depthwise filter has too few weights to gain from it",
    ("embedding", "int8"): "a table is looked up and computes nothing; int8-weight stores it in INT8",
    ("core", "int8"): "it multiplies activations with each other, which dynamic ranges do not help",
}
INT16 = "XNNPACK takes next to nothing of it: 14 to 29 times slower than floats; it is for NPUs"
STATIC_REASON = "only convolution networks keep their answers with calibrated ranges (linear, conv, depthwise)"


class PlannedLayer(Protocol):
    """What a plan has to know of a layer (`modules.layers.ModuleLayer`)."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...


class ModuleRule(BaseModel):
    """One line: layers by a glob over their dotted names, by their ``kind``, or by both, and the precision they get.

    ``otherwise`` are precisions for layers that a target cannot give it, the first that it can; an export says where one was taken.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    match: str = Field(default="*", min_length=1)
    kind: tuple[LayerKind, ...] = ()
    precision: PrecisionName
    otherwise: tuple[PrecisionName, ...] = ()
    range: RangeMethod | None = None
    """How ranges follow from the samples, of a static precision; None: `quant.plan.DEFAULT_RANGE`."""

    @field_validator("kind", mode="before")
    @classmethod
    def _one_or_several(cls, kind: object) -> object:
        return (kind,) if isinstance(kind, str) else tuple(kind) if isinstance(kind, list) else kind

    @model_validator(mode="after")
    def _range_of_what_is_calibrated(self) -> Self:
        """Raises `ValueError` for a range of a precision whose activations have none."""
        if self.range is not None and self.precision not in STATIC:
            raise ValueError(f"range is for {' and '.join(STATIC)}, {self.precision} has no calibrated ranges; leave range out")
        return self

    def takes(self, layer: PlannedLayer) -> bool:
        return fnmatchcase(layer.name, self.match) and (not self.kind or layer.kind in self.kind)

    @property
    def words(self) -> str:
        """The rule as an error names it."""
        return repr(self.match) if not self.kind else f"{self.match!r} of {', '.join(self.kind)}"


class ModuleGate(BaseModel):
    """Bounds of the proof against the float module; an artifact that misses one is rejected.

    ``same_top``: share of samples with the same class. ``max_error``: the largest difference of a number, in parts of the root mean square of the
    float module's. ``cosine`` between both outputs, the mean over samples. ``magnitude``: by how much the root mean squares may differ.
    ``accuracy_drop``: how much of the share of right answers may be lost, where samples have labels.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    same_top: float = Field(gt=0, le=1)
    max_error: float = Field(gt=0)
    cosine: float = Field(gt=0, le=1)
    magnitude: float = Field(gt=0, lt=1)
    accuracy_drop: float = Field(ge=0, lt=1)


@dataclass(frozen=True)
class Resolved:
    """Every layer's precision in the layers' order, how the ranges of static ones are chosen, and what ``otherwise`` was taken, in words."""

    precisions: dict[str, str]
    ranges: dict[str, RangeMethod]
    notes: tuple[str, ...]


class ModulePlan(BaseModel):
    """A plan for modules as its TOML file says it: ``for = "module"``, rules of which the first that matches counts, and bounds."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)
    name: str = ""
    summary: str
    kind: Literal["module"] = Field(alias="for")
    rules: tuple[ModuleRule, ...] = Field(alias="rule", min_length=1)
    gate: ModuleGate

    def resolve(
        self,
        layers: Sequence[PlannedLayer],
        target: str,
        possible: Mapping[str, tuple[str, ...]],
        why_not: Callable[[Any, str], str] = lambda layer, precision: "",
    ) -> Resolved:
        """The precision of every layer; ``possible`` are those that ``target``'s backend can give, by kind of layer, ``why_not`` its reasons.

        Raises `FirstTokenError` for a name in a rule that matches nothing or only what earlier rules take, a layer without a rule, or a precision that
        the layer cannot have, with the reason.
        """
        self._refuse_idle(layers)
        precisions: dict[str, str] = {}
        ranges: dict[str, RangeMethod] = {}
        taken: dict[tuple[str, str, str], list[str]] = {}
        for layer in layers:
            rule = next((rule for rule in self.rules if rule.takes(layer)), None)
            if rule is None:
                raise FirstTokenError(
                    f"plan {self.name!r}: no rule matches layer {layer.name!r} ({layer.kind}); end the plan with a rule for '*'"
                )
            can = [one for one in POSSIBLE[layer.kind] if one in possible.get(layer.kind, ("fp32",))]
            got = next((one for one in (rule.precision, *rule.otherwise) if one in can), None)
            if got is None:
                raise FirstTokenError(self._refusal(rule, layer, target, can, why_not))
            if got != rule.precision:
                taken.setdefault((layer.kind, rule.precision, got), []).append(layer.name)
            precisions[layer.name] = got
            if got in STATIC:
                ranges[layer.name] = rule.range or DEFAULT_RANGE
        by_name = {layer.name: layer for layer in layers}
        notes = (
            f"{kind} in {got}, not {asked}: {', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
            + (f" ({why})" if (why := reason(by_name[names[0]], asked, why_not)) else "")
            for (kind, asked, got), names in taken.items()
        )
        return Resolved(precisions, ranges, tuple(notes))

    @property
    def statics(self) -> bool:
        """Whether a rule asks for calibrated ranges."""
        return any(rule.precision in STATIC for rule in self.rules)

    def _refusal(self, rule: ModuleRule, layer: PlannedLayer, target: str, can: list[str], why_not: Callable[[Any, str], str]) -> str:
        why = reason(layer, rule.precision, why_not)
        return (
            f"plan {self.name!r}, rule {rule.words}: {rule.precision} is not possible for {layer.name!r} ({layer.kind}) on target {target!r}"
            f"{f': {why}' if why else ''}; expected one of {', '.join(can)} (nearest: {closest(rule.precision, tuple(can))}); put a rule for it before this one"
        )

    def _refuse_idle(self, layers: Sequence[PlannedLayer]) -> None:
        """Raises `FirstTokenError` for a rule with a name that never counts. One by kinds alone may: not every module has every kind."""
        names = [layer.name for layer in layers]
        seen: set[str] = set()
        for rule in self.rules:
            own = {layer.name for layer in layers if rule.takes(layer)}
            if rule.match != "*" and not own:
                raise FirstTokenError(
                    f"plan {self.name!r}: rule {rule.words} matches no layer{nearest(rule.match, names)}; it has {', '.join(names[:8])}{' …' if len(names) > 8 else ''}"
                )
            if rule.match != "*" and own <= seen:
                raise FirstTokenError(
                    f"plan {self.name!r}: rule {rule.words} never counts, earlier rules take all its {len(own)} layers (the first match wins); put it before them, or take it out"
                )
            seen |= own


def reason(layer: PlannedLayer, precision: str, why_not: Callable[[Any, str], str]) -> str:
    """Why a layer cannot have a precision; empty where there is no more to say."""
    if precision in POSSIBLE[layer.kind]:
        return why_not(layer, precision)
    if precision == "int16x8":
        return INT16
    if precision in STATIC:
        return STATIC_REASON
    return REASONS.get((layer.kind, precision)) or why_not(layer, precision)


def load_module_plan(name_or_path: str | Path) -> ModulePlan:
    """Reads a built-in plan for modules by name or a user's ``.toml`` by path. Raises `FirstTokenError`, for a decoder's plan too."""
    if str(name_or_path) in declaration_names("quant"):
        raise FirstTokenError(
            f"plan {str(name_or_path)!r} is for decoders, and this is a module; give one of {', '.join(module_plan_names())}, or your own .toml"
        )
    name, plan = read_declaration(PLANS, "plan", name_or_path, ModulePlan)
    return plan.model_copy(update={"name": name})


def module_plan_names() -> list[str]:
    """Names of the built-in plans for modules."""
    return declaration_names(PLANS)
