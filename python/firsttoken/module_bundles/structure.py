"""Whether every layer of the written file is what the plan asked."""

from collections.abc import Mapping, Sequence

from torch.fx import Node

from firsttoken.bundle.manifest import AuditRow
from firsttoken.modules.layers import ModuleLayer
from firsttoken.modules.module import Module
from firsttoken.precisions import PRECISIONS, STATIC, without_group

LISTED = 3  # layers named in full in one message
DELEGATED = ("linear", "conv", "depthwise")  # kinds that a delegate leaves out only where it has no kernel for what was asked


def missed_structure(rows: Sequence[AuditRow], module: Module, layers: Sequence[ModuleLayer], precisions: Mapping[str, str]) -> list[str]:
    """One line for every way in which layers are stored, computed or delegated otherwise than asked, or are absent, twice or unknown."""
    wrong: dict[str, list[str]] = {}
    known = {layer.name: layer for layer in layers}
    found = [row.layer for row in rows]
    for name in known:
        if (count := found.count(name)) != 1:
            wrong.setdefault("not in the artifact's audit" if not count else "twice in the artifact's audit", []).append(name)
    for row in rows:
        if row.layer in known and row.layer not in precisions:
            wrong.setdefault("not among the layers of the manifest", []).append(row.layer)
            continue
        if row.layer not in known:
            wrong.setdefault("in the artifact, but not in the module", []).append(row.layer)
            continue
        for problem in problems_of(row, known[row.layer], precisions[row.layer], looked_up_at_fixed_places(module, known[row.layer])):
            wrong.setdefault(problem, []).append(row.layer)
    return [
        f"{', '.join(names[:LISTED])}{f' and {len(names) - LISTED} more' if len(names) > LISTED else ''}: {problem}"
        for problem, names in wrong.items()
    ]


def problems_of(row: AuditRow, layer: ModuleLayer, asked: str, folded: bool = False) -> list[str]:
    """What is wrong with a layer. A core stores nothing; a table is looked up, and no delegate takes it. ``folded``: its rows may be constants in FP32."""
    problems = []
    # int8-weight and int8-static store what int8 does: what they are computed in, and their scales, tell them apart
    same = {asked, "int8" if asked == "int8-weight" else PRECISIONS[asked].weight, *(("fp32",) if folded else ())}
    if layer.kind != "core" and without_group(row.stored) not in same:
        problems.append(f"asked {asked}, stored {row.stored}")
    if asked in STATIC and len(row.scales) != 2:
        problems.append(f"asked {asked}, and its input and result have no scales of their own")
    if layer.kind == "embedding":
        return problems
    allowed = PRECISIONS[asked].computed | ({"fp32"} if asked == "fp16" else set())
    if row.computed not in allowed:
        problems.append(f"asked {asked}, computed in {row.computed}")
    if layer.kind in DELEGATED and not row.delegated:
        problems.append("not taken by the delegate")
    return problems


def looked_up_at_fixed_places(module: Module, layer: ModuleLayer) -> bool:
    """Whether a table's rows are the same for all inputs of a length (positions, kinds of token): a converter may make constants of them."""
    if layer.kind != "embedding":
        return False
    asked = module.program.graph_signature.user_inputs
    nodes = {node.name: node for node in module.program.graph.nodes}
    waiting, seen = [nodes[name].args[1] for name in layer.nodes], set()
    while waiting:
        node = waiting.pop()
        if not isinstance(node, Node) or node in seen or "sym_size" in str(node.target):
            continue
        if node.name in asked:
            return False
        seen.add(node)
        waiting += node.all_input_nodes
    return True
