"""Plans: an ordered list of rules, layer-name pattern -> precision; the first match wins.

A rule that matches nothing or comes too late, a layer that no rule matches and a precision that the target cannot give are errors
before any work is done. Nothing is silently skipped.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from firsttoken.declarations import declaration_names, read_declaration
from firsttoken.decoder.walk import Layer, is_table
from firsttoken.errors import FirstTokenError, nearest
from firsttoken.precisions import PRECISIONS, PrecisionName, closest

Method = Literal["round", "gptq", "stored"]


class Rule(BaseModel):
    """One line of a plan: a glob over our dotted layer names, the precision its layers get, and how their integers are chosen.

    ``method`` "round" takes the nearest, "gptq" those that change least of what the layer gives on a calibration text. What matches ``embedding`` takes other embeddings of the model (``per_layer.embedding``) too.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    match: str = Field(min_length=1)
    precision: PrecisionName
    method: Method = "round"

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
    group_size: int = Field(default=32, ge=32, multiple_of=32)  # weights that share one int4 scale
    rules: tuple[Rule, ...] = Field(alias="rule", min_length=1)
    gate: Gate

    def resolve(self, layers: list[Layer], target: str, possible: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
        """Returns the precision of every layer, in the layers' order; ``possible`` are the precisions that ``target``'s backend
        can give, by kind of part.

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
            check_supported(self, matching[0], layer, target, possible[layer.kind])
            resolved[layer.name] = matching[0].precision
        self._refuse_shadowed(names)
        return resolved

    def method(self, layer: str) -> Method:
        """How the integers of a layer of this name are chosen."""
        return next((rule.method for rule in self.rules if rule.takes(layer)), "round")

    @property
    def calibrated(self) -> bool:
        """Whether any rule chooses integers on a calibration text."""
        return any(rule.method == "gptq" for rule in self.rules)

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
    if PRECISIONS[rule.precision].scales == "group" and layer.shape is not None and layer.shape[1] % plan.group_size:
        raise FirstTokenError(
            f"plan {plan.name!r}: {rule.precision} needs rows that divide into groups of {plan.group_size}, but {layer.name!r} has {layer.shape[1]} columns; give it int8"
        )


def load_plan(name_or_path: str | Path) -> Plan:
    """Reads a built-in plan by name or a user's ``.toml`` by path. Raises `FirstTokenError`."""
    name, plan = read_declaration("quant", "plan", name_or_path, Plan)
    return plan.model_copy(update={"name": name})


def plan_names() -> list[str]:
    """Names of the built-in plans."""
    return declaration_names("quant")
