"""A choice as an ordinary plan: few rules, each with its reason."""

import json
from collections import Counter
from collections.abc import Mapping

from firsttoken.decoder.walk import is_table
from firsttoken.quant.plan import Gate, Plan, Rule
from firsttoken.search.candidates import Candidate
from firsttoken.search.choice import Costs
from firsttoken.units import readable

MIB = 1 << 20


def kind_of(layer: str) -> str:
    """The pattern of all layers that stand in the same place of their block: "layers.3.mlp.up" to "layers.*.mlp.up"; others are their own."""
    parts = layer.split(".")
    return ".".join(["layers", "*", *parts[2:]]) if parts[0] == "layers" and len(parts) > 2 else layer


def rules_of(choice: Mapping[str, Candidate]) -> list[tuple[str, Candidate, list[str]]]:
    """Returns ``(pattern, candidate, layers that it decides)`` in their order: single layers that differ from most of their kind, the kinds
    that differ from most layers, and all others."""
    kinds: dict[str, list[str]] = {}
    for name in choice:
        kinds.setdefault(kind_of(name), []).append(name)
    usual = {kind: Counter(choice[name] for name in names).most_common(1)[0][0] for kind, names in kinds.items()}
    rest = Counter(candidate for kind, candidate in usual.items() if kind != "embedding").most_common(1)[0][0]
    found = [(name, choice[name], [name]) for name in choice if choice[name] != usual[kind_of(name)]]
    # A rule for the embedding takes other tables too, which then need one of their own before it.
    told = {kind for kind in kinds if usual[kind] != rest}
    told |= {kind for kind in kinds if is_table(kind) and "embedding" in told}
    ordered = sorted((kind for kind in kinds if kind in told), key=lambda kind: kind == "embedding")
    found += [(kind, usual[kind], [name for name in kinds[kind] if choice[name] == usual[kind]]) for kind in ordered]
    last = [name for name in choice if kind_of(name) not in told and choice[name] == rest]
    return [*found, ("*", rest, last)]


def plan_of(choice: Mapping[str, Candidate], summary: str, gate: Gate) -> Plan:
    """The plan that gives every layer what the choice has for it."""
    rules = tuple(
        Rule(match=match, precision=one.precision, method=one.method, group=one.group, outliers=one.outliers)
        for match, one, _ in rules_of(choice)
    )
    return Plan(summary=summary, rules=rules, gate=gate)


def plan_text(choice: Mapping[str, Candidate], costs: Costs, summary: str, gate: Gate, notes: list[str], smooth: bool = False) -> str:
    """The plan's .toml, with what each rule costs and what it damages; ``smooth``: as damages were measured with."""
    lines = [
        f"summary = {json.dumps(summary, ensure_ascii=False)}",
        *(["smooth = true"] if smooth else []),
        "",
        *(f"# {note}" for note in notes),
    ]
    whole = costs.total(choice)
    for match, one, names in rules_of(choice):
        lines += [
            "",
            f"# {reason(names, one, costs, whole.damage)}",
            "[[rule]]",
            f"match = {json.dumps(match)}",
            f'precision = "{one.precision}"',
        ]
        if one.method != "round":
            lines.append(f'method = "{one.method}"')
        if one.group is not None:
            lines.append(f"group = {json.dumps(one.group)}")
        if one.outliers is not None:
            lines.append(f'outliers = "{one.outliers}"')
    lines += ["", "# Bounds of the proof (KL divergence in nats per token, share of equal top tokens, logit magnitude).", "[gate]"]
    lines += [f"{name} = {value:.3g}" for name, value in gate.model_dump().items()]
    return "\n".join(lines) + "\n"


def reason(names: list[str], one: Candidate, costs: Costs, whole: float) -> str:
    """What a rule's layers add to damage and bytes, and what the next smaller candidate would have done."""
    own = [costs.layers[name][one] for name in names]
    damage, size = sum(cost.damage for cost in own), sum(cost.bytes for cost in own)
    text = f"{len(names)} layer{'' if len(names) == 1 else 's'}, {readable(int(size))}, {damage:.2g} of {whole:.2g} nats"
    smaller = {candidate for name in names for candidate, cost in costs.layers[name].items() if cost.bytes < costs.layers[name][one].bytes}
    common = [candidate for candidate in smaller if all(candidate in costs.layers[name] for name in names)]
    if not common:
        return text
    nearest = max(common, key=lambda candidate: sum(costs.layers[name][candidate].bytes for name in names))
    other = [costs.layers[name][nearest] for name in names]
    saved, more = size - sum(cost.bytes for cost in other), sum(cost.damage for cost in other) - damage
    return f"{text}; {nearest.label} would save {readable(int(saved))} and add {more:.2g} nats"
