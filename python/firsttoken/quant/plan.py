"""Plans: an ordered list of rules, layer-name pattern -> precision; the first match wins.

A rule that matches nothing or comes too late, a layer that no rule matches and a precision that the target cannot give are errors
before any work is done. Nothing is silently skipped.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from firsttoken.declarations import declaration_names, declaration_path, parse_declaration, read_declaration
from firsttoken.decoder.walk import Layer, is_table
from firsttoken.errors import FirstTokenError, nearest
from firsttoken.precisions import PRECISIONS, STATIC, PrecisionName, closest, with_group

Method = Literal["round", "gptq", "stored"]
Group = Literal["row", 32, 64, 128, 256]
Outliers = Literal["apart"]
RangeMethod = Literal["min-max", "percentile", "mse"]
DEFAULT_RANGE: RangeMethod = "mse"
NUMBERS = "32, 64, 128 or 256"  # the numbers of `Group`, in words


class Rule(BaseModel):
    """One line of a plan: a glob over our dotted layer names, the precision its layers get, and how their integers are chosen.

    ``method`` "round" takes the nearest, "gptq" those that change least of what the layer gives on a calibration text, "stored" the checkpoint's own,
    with their precision and group, and the nearest of this precision where it has floats (`quantized.stored_plan`). What matches ``embedding`` takes other embeddings of the model (``per_layer.embedding``) too.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    match: str = Field(min_length=1)
    precision: PrecisionName
    method: Method = "round"
    group: Group | None = None
    """Columns of a row that share one int4 scale; None: the plan's ``group_size``."""
    outliers: Outliers | None = None
    """"apart": what of a layer's input lies beyond `precisions.OUTLIER` times its root mean square is rounded to int8 by itself, with a scale of its own."""
    range: RangeMethod | None = None
    """How the ranges of a static precision's input and output follow from what they were on the calibration text (`range_histogram`); None: `DEFAULT_RANGE`."""

    @model_validator(mode="after")
    def _group_of_what_has_one(self) -> Self:
        """Raises `ValueError` for a group of a precision that has none."""
        if self.group is not None and PRECISIONS[self.precision].scales != "group":
            has = "always one scale a row" if PRECISIONS[self.precision].scales == "row" else "no scales"
            grouped = ", ".join(name for name, one in PRECISIONS.items() if one.scales == "group")
            raise ValueError(f"rule {self.match!r}: group is for {grouped}, {self.precision} has {has}; leave group out")
        return self

    @model_validator(mode="after")
    def _outliers_of_what_is_rounded(self) -> Self:
        """Raises `ValueError` for outliers of inputs that are not rounded to int8."""
        if self.outliers is not None and PRECISIONS[self.precision].scales is None:
            raise ValueError(
                f"rule {self.match!r}: outliers are kept apart where a layer's input is rounded to int8, which {self.precision} does not do; leave outliers out"
            )
        if self.outliers is not None and self.precision in STATIC:
            raise ValueError(
                f"rule {self.match!r}: outliers are told apart token by token, and {self.precision} has one scale for all tokens; leave outliers out, or give int8"
            )
        return self

    @model_validator(mode="after")
    def _range_of_what_is_calibrated(self) -> Self:
        """Raises `ValueError` for a range of a precision whose activations have none."""
        if self.range is not None and self.precision not in STATIC:
            raise ValueError(
                f"rule {self.match!r}: range is for {' and '.join(STATIC)}, {self.precision} has no calibrated ranges; leave range out"
            )
        return self

    def takes(self, layer: str) -> bool:
        return fnmatchcase(layer, self.match) or (is_table(layer) and fnmatchcase("embedding", self.match))


class Gate(BaseModel):
    """Bounds of the proof; an artifact that misses one is rejected. KL divergence is in nats per token."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    mean_kld: float = Field(gt=0)
    p99_kld: float = Field(gt=0)
    same_top: float = Field(gt=0, le=1)  # share of positions with the same most likely token
    magnitude: float = Field(gt=0, lt=1)  # |rms(logits) / rms(reference logits) - 1|


class Plan(BaseModel):
    """A precision plan as its TOML file says it."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)
    name: str = ""
    summary: str
    group_size: int = Field(default=32, ge=32, multiple_of=32)  # columns of a row that share one int4 scale, where a rule says nothing else
    smooth: bool = Field(
        default=False, strict=True
    )  # outliers of activations moved into weights on a calibration text, where that brings the model nearer
    rules: tuple[Rule, ...] = Field(alias="rule", min_length=1)
    gate: Gate

    @field_validator("group_size")
    @classmethod
    def _group_that_kernels_have(cls, size: int) -> int:
        """Raises `ValueError` for a group that a rule could not have either."""
        if size not in get_args(Group):
            raise ValueError(f'input should be {NUMBERS} (a rule\'s group may be "row" too)')
        return size

    @model_validator(mode="after")
    def _smoothed_before_it_is_calibrated(self) -> Self:
        """Raises `ValueError` for a plan that asks for both: which smoothing helps is not measured with calibrated ranges."""
        if self.smooth and (rule := next((rule for rule in self.rules if rule.precision in STATIC), None)):
            raise ValueError(f"rule {rule.match!r}: {rule.precision} does not go together with smooth = true; leave one of the two out")
        return self

    def resolve(
        self,
        layers: list[Layer],
        target: str,
        possible: Mapping[str, tuple[str, ...]],
        group_scales: bool = True,
        outliers_apart: bool = True,
    ) -> dict[str, str]:
        """Returns the precision of every layer, in the layers' order; ``possible`` are the precisions that ``target``'s backend
        can give, by kind of part, ``group_scales`` whether it takes more than one scale a row, ``outliers_apart`` whether it
        can keep a layer's outliers apart.

        Raises `FirstTokenError` for a rule that matches nothing, an unmatched layer, or a precision the target
        cannot give for that layer (naming the nearest it can).
        """
        names = [layer.name for layer in layers]
        for rule in self.rules:
            if not any(rule.takes(name) for name in names):
                raise FirstTokenError(
                    f"plan {self.name!r}: rule {rule.match!r} matches no layer{nearest(rule.match, names)}; print the names with --audit"
                )
        resolved = {}
        for layer in layers:
            matching = [rule for rule in self.rules if rule.takes(layer.name)]
            if not matching:
                raise FirstTokenError(f"plan {self.name!r}: no rule matches layer {layer.name!r}; end the plan with a rule for '*'")
            try:
                check_supported(self, matching[0], layer, target, possible[layer.kind])
                check_group(self, layer, target, group_scales)
            except StoredFormError as error:
                taken = [
                    name
                    for name in plan_names()
                    if name != self.name and _takes(name, layers, target, possible, group_scales, outliers_apart)
                ]
                raise FirstTokenError(
                    f"{error}; give a plan that it takes and that rounds these weights again: {', '.join(taken)}"
                ) from None
            check_outliers(self, matching[0], layer, target, outliers_apart)
            resolved[layer.name] = matching[0].precision
        self._refuse_shadowed(names)
        return resolved

    def rule(self, layer: str) -> Rule | None:
        """The rule that a layer of this name goes by; None where there is none."""
        return next((rule for rule in self.rules if rule.takes(layer)), None)

    def method(self, layer: str) -> Method:
        """How the integers of a layer of this name are chosen."""
        rule = self.rule(layer)
        return "round" if rule is None else rule.method

    def group(self, layer: str, columns: int) -> int:
        """How many columns of a row of ``columns`` share one scale, in the layer of this name: of int4 what its rule or the plan says, else all."""
        rule = self.rule(layer)
        if rule is None or PRECISIONS[rule.precision].scales != "group" or rule.group == "row":
            return columns
        return self.group_size if rule.group is None else rule.group

    def apart(self, layer: str) -> bool:
        """Whether outliers of this layer's input are kept apart."""
        rule = self.rule(layer)
        return rule is not None and rule.outliers is not None

    def range(self, layer: str) -> RangeMethod:
        """How the ranges of this layer's input and output are chosen, where its precision is static."""
        rule = self.rule(layer)
        return DEFAULT_RANGE if rule is None or rule.range is None else rule.range

    def written(self, layers: list[Layer], precisions: Mapping[str, str]) -> dict[str, str]:
        """Every layer's precision as an audit writes it, with its group ("int4/32"); ``precisions`` are those of `resolve`."""
        by_name = {layer.name: layer for layer in layers}
        return {name: self._written(by_name[name], precision) for name, precision in precisions.items()}

    def _written(self, layer: Layer, precision: str) -> str:
        return precision if layer.shape is None else with_group(precision, self.group(layer.name, layer.shape[1]), layer.shape[1])

    @property
    def statics(self) -> bool:
        """Whether a rule asks for calibrated ranges."""
        return any(rule.precision in STATIC for rule in self.rules)

    @property
    def calibrated(self) -> bool:
        """Whether anything is chosen on a calibration text: integers or ranges by a rule, or what is smoothed."""
        return self.smooth or self.statics or any(rule.method == "gptq" for rule in self.rules)

    def _refuse_shadowed(self, names: list[str]) -> None:
        """Raises `FirstTokenError` for a rule all of whose layers earlier rules take: it says something that does not happen."""
        taken: set[str] = set()
        for number, rule in enumerate(self.rules):
            own = {name for name in names if rule.takes(name)}
            if own <= taken:
                before = next(earlier for earlier in self.rules[:number] if any(earlier.takes(name) for name in own))
                raise FirstTokenError(
                    f"plan {self.name!r}: rule {rule.match!r} never counts, earlier rules like {before.match!r} take all its {len(own)} layers "
                    "(the first match wins); put it before them, or take it out"
                )
            taken |= own


def check_supported(plan: Plan, rule: Rule, layer: Layer, target: str, possible: tuple[str, ...]) -> None:
    """Raises `FirstTokenError` if ``target`` cannot give ``layer`` the precision that ``rule`` asks."""
    if rule.precision not in possible:
        refuse_stored(plan, rule, layer, target, rule.precision)
        raise FirstTokenError(
            f"plan {plan.name!r}, rule {rule.match!r}: {rule.precision} is not possible for {layer.name!r} on target {target!r}; "
            f"expected one of {', '.join(possible)} (nearest: {closest(rule.precision, possible)}); put a rule for it before this one"
        )
    if rule.method == "gptq" and (layer.kind != "linear" or PRECISIONS[rule.precision].scales is None):
        what = f"{layer.name!r} is no linear layer" if layer.kind != "linear" else f"{rule.precision} has no integers to choose"
        raise FirstTokenError(
            f"plan {plan.name!r}, rule {rule.match!r}: method {rule.method!r} chooses the integers of linear layers, but {what}; "
            "put a rule without a method for it before this one"
        )


def check_outliers(plan: Plan, rule: Rule, layer: Layer, target: str, outliers_apart: bool) -> None:
    """Raises `FirstTokenError` for outliers of what is no linear layer's input, or of a target that cannot keep them apart."""
    if rule.outliers is None:
        return
    if layer.kind != "linear":
        raise FirstTokenError(
            f"plan {plan.name!r}, rule {rule.match!r}: outliers are kept apart of linear layers' inputs, but {layer.name!r} is none; put a rule without outliers for it before this one"
        )
    if not outliers_apart:
        raise FirstTokenError(
            f"plan {plan.name!r}, rule {rule.match!r}: target {target!r} cannot keep the outliers of {layer.name!r} apart; leave outliers out of the rule"
        )


def check_group(plan: Plan, layer: Layer, target: str, group_scales: bool) -> None:
    """Raises `FirstTokenError` for a group that does not divide the layer's rows, or that ``target``'s kernels do not take."""
    rule = plan.rule(layer.name)
    if rule is None or layer.shape is None or PRECISIONS[rule.precision].scales != "group":
        return
    columns, group = layer.shape[1], plan.group(layer.name, layer.shape[1])
    if columns % group:
        fitting = [str(one) for one in get_args(Group) if one != "row" and columns % one == 0]
        better = " or ".join([*fitting, '"row"'])
        raise FirstTokenError(
            f"plan {plan.name!r}, rule {rule.match!r}: {rule.precision} needs rows that divide into groups of {group}, but {layer.name!r} has {columns} columns; "
            f"put a rule for it before this one with group = {better}, or with int8"
        )
    if group != columns and not group_scales:
        refuse_stored(plan, rule, layer, target, f"{rule.precision} in groups of {group}")
        raise FirstTokenError(
            f"plan {plan.name!r}, rule {rule.match!r}: target {target!r} takes {rule.precision} with one scale a row only, and {layer.name!r} would have "
            f'one for {group} columns; put group = "row" into the rule'
        )


def refuse_stored(plan: Plan, rule: Rule, layer: Layer, target: str, form: str) -> None:
    """Raises `StoredFormError` for a rule that is the checkpoint's, not the plan's: what can be changed is the plan."""
    if rule.method == "stored":
        raise StoredFormError(
            f"plan {plan.name!r}: {layer.name!r} would keep what the checkpoint stores, {form}, which target {target!r} does not take"
        )


class StoredFormError(FirstTokenError):
    """A target does not take the integers that a checkpoint stores; `Plan.resolve` adds the plans that it takes."""


def _takes(name: str, layers: list[Layer], target: str, possible: Mapping[str, tuple[str, ...]], *more: bool) -> bool:
    """Whether ``target`` takes a built-in plan that keeps nothing; the arguments after the name are those of `Plan.resolve`."""
    plan = load_plan(name)
    try:
        plan.resolve(layers, target, possible, *more)
    except FirstTokenError:
        return False
    return all(rule.method != "stored" for rule in plan.rules)


def load_plan(name_or_path: str | Path) -> Plan:
    """Reads a built-in plan by name or a user's ``.toml`` by path. Raises `FirstTokenError`."""
    if str(name_or_path) in declaration_names("quant/modules"):
        raise FirstTokenError(
            f"plan {str(name_or_path)!r} is for modules (classifiers, encoders, series), and this is a decoder; give one of {', '.join(plan_names())}, or your own .toml"
        )
    refuse_of_modules(declaration_path("quant", name_or_path))
    name, plan = read_declaration("quant", "plan", name_or_path, Plan)
    return plan.model_copy(update={"name": name})


def refuse_of_modules(path: Path) -> None:
    """Raises `FirstTokenError` for a file that says it is for modules (`quant.module_plan`); what cannot be read is said elsewhere."""
    try:
        says = "for" in parse_declaration(path)
    except (OSError, ValueError, RecursionError):
        return
    if says:
        raise FirstTokenError(
            f'plan file {path}: says for = "module": it is for classifiers, encoders and series, and this is a decoder; give one of {", ".join(plan_names())}'
        )


def plan_names() -> list[str]:
    """Names of the built-in plans."""
    return declaration_names("quant")
