"""Whether every layer of the written file is what the plan asked."""

from collections.abc import Mapping, Sequence

from firsttoken.bundle.manifest import AuditRow
from firsttoken.modules.layers import ModuleLayer
from firsttoken.precisions import PRECISIONS, without_group

LISTED = 3  # layers named in full in one message
DELEGATED = ("linear", "conv", "depthwise")  # kinds that a delegate leaves out only where it has no kernel for what was asked


def missed_structure(rows: Sequence[AuditRow], layers: Sequence[ModuleLayer], precisions: Mapping[str, str]) -> list[str]:
    """One line for every way in which layers are stored, computed or delegated otherwise than asked, or are absent, twice or unknown."""
    wrong: dict[str, list[str]] = {}
    known = {layer.name: layer for layer in layers}
    found = [row.layer for row in rows]
    for name in known:
        if (count := found.count(name)) != 1:
            wrong.setdefault("not in the artifact's audit" if not count else "twice in the artifact's audit", []).append(name)
    for row in rows:
        if row.layer not in known:
            wrong.setdefault("in the artifact, but not in the module", []).append(row.layer)
            continue
        for problem in problems_of(row, known[row.layer], precisions[row.layer]):
            wrong.setdefault(problem, []).append(row.layer)
    return [
        f"{', '.join(names[:LISTED])}{f' and {len(names) - LISTED} more' if len(names) > LISTED else ''}: {problem}"
        for problem, names in wrong.items()
    ]


def problems_of(row: AuditRow, layer: ModuleLayer, asked: str) -> list[str]:
    """What is wrong with a layer. A core stores nothing; a table is looked up, and no delegate takes it."""
    problems = []
    stored = without_group(row.stored)
    # int8-weight stores what int8 does: what it is computed in tells them apart
    if layer.kind != "core" and stored not in {asked, "int8" if asked == "int8-weight" else asked}:
        problems.append(f"asked {asked}, stored {row.stored}")
    if layer.kind == "embedding":
        return problems
    allowed = PRECISIONS[asked].computed | ({"fp32"} if asked == "fp16" else set())
    if row.computed not in allowed:
        problems.append(f"asked {asked}, computed in {row.computed}")
    if layer.kind in DELEGATED and not row.delegated:
        problems.append("not taken by the delegate")
    return problems
