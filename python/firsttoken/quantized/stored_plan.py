"""A plan that says "as it is stored", for one checkpoint: every rule with ``method = "stored"`` takes the precision and the groups of the layers' own integers."""

import re
from collections.abc import Iterator

from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import Layer, plan_layers
from firsttoken.quant.plan import Plan, Rule
from firsttoken.quantized.kept import Form, form
from firsttoken.quantized.recognise import is_lattice

# what is looked for in floats: the widest groups first, which need the fewest scales
TRIED: tuple[Form, ...] = (("int4", "row"), ("int4", 256), ("int4", 128), ("int4", 64), ("int4", 32), ("int8", None))


def for_checkpoint(plan: Plan, source: Checkpoint, decoder: Decoder) -> Plan:
    """Returns ``plan`` with a rule for every kind of integers that layers under "stored" have; layers without any keep their rule's precision."""
    rules: list[Rule] = []
    layers = plan_layers(decoder)
    for rule in plan.rules:
        own = [layer for layer in layers if rule.method == "stored" and plan.rule(layer.name) is rule]
        forms = {layer.name: form for layer in own if (form := form_of(source, layer)) is not None}
        rules += rules_of(rule, forms, [layer.name for layer in layers])
        if len(forms) < len(own) or not own:
            rules.append(rule)
    return plan.model_copy(update={"rules": tuple(rules)})


def form_of(source: Checkpoint, layer: Layer) -> Form | None:
    """Precision and group in which a layer's own integers can be kept; None where it has none that a kernel takes."""
    if layer.weight is None or layer.shape is None:
        return None
    columns = layer.shape[1]
    lattice = source.lattice(layer.weight)
    if lattice is not None:
        return form(lattice, columns)
    for precision, size in TRIED:
        group = size if isinstance(size, int) else columns
        if group <= columns and is_lattice(source, layer.weight, layer.shape, group, precision):
            return precision, size
    return None


def rules_of(rule: Rule, forms: dict[str, Form], names: list[str]) -> Iterator[Rule]:
    """Rules for layers by their forms: one for layers of all blocks where those agree, else one each. ``names`` are all layers of the model."""
    kinds: dict[str, set[Form | None]] = {}
    for name in names:
        kinds.setdefault(_pattern(name), set()).add(forms.get(name))
    done = set()
    for name, (precision, group) in forms.items():
        pattern = _pattern(name)
        match = pattern if len(kinds[pattern]) == 1 else name
        if match not in done:
            done.add(match)
            yield rule.model_copy(update={"match": match, "precision": precision, "group": group})


def _pattern(name: str) -> str:
    """The name with the number of its block left open."""
    return re.sub(r"^layers\.\d+\.", "layers.*.", name)
