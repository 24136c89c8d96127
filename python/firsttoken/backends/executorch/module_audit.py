"""What every layer of a written module is stored and computed in: found by the bytes of its weights, for a .pte has no names."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from firsttoken.backends.executorch.module_file import Use, read_uses
from firsttoken.backends.module_backend import LoweredModule
from firsttoken.bundle.integer_facts import IntegerScale
from firsttoken.bundle.manifest import AuditRow
from firsttoken.errors import FirstTokenError
from firsttoken.modules.layers import ModuleLayer
from firsttoken.precisions import PRECISIONS, without_group

PATTERN = ["XNNBatchMatrixMultiply", "XNNSoftmax", "XNNBatchMatrixMultiply"]
DYNAMIC, STATIC = "rounded as they come", "rounded to fixed ranges"


def audit_module(path: Path, lowered: LoweredModule, layers: Sequence[ModuleLayer], precisions: Mapping[str, str]) -> list[AuditRow]:
    """Returns a row for every layer. Raises `FirstTokenError` for a file without the weights of a layer, or with other ones."""
    uses = read_uses(path)
    by_key: dict[str, list[Use]] = {}
    for use in uses:
        if use.key:
            by_key.setdefault(use.key, []).append(use)
    cores = iter(cores_of(uses, path, sum(layer.kind == "core" for layer in layers)))
    rows = []
    for layer in layers:
        asked = precisions[layer.name]
        found = next(cores) if layer.kind == "core" else weighted(path, layer, lowered, by_key)
        stored = "/".join(sorted({use.stored or use.computed for use in found})) or "fp32"
        computed = "/".join(sorted({computed_in(use, asked) for use in found})) or "fp32"
        scales = scales_of(path, layer, lowered, found) if asked == "int8-static" else []
        delegated = bool(found) and all(use.delegated for use in found)
        rows.append(AuditRow(layer=layer.name, asked=asked, stored=stored, computed=computed, delegated=delegated, scales=scales))
    return rows


def weighted(path: Path, layer: ModuleLayer, lowered: LoweredModule, by_key: Mapping[str, list[Use]]) -> list[Use]:
    """The operators that have a layer's weights; none of kind "other", which no precision but FP32 is offered for."""
    if layer.name not in lowered.layers:
        raise FirstTokenError(f"{path}: nothing is known of layer {layer.name!r}; it is another module's program")
    found: list[Use] = []
    for key in lowered.layers[layer.name]["keys"]:
        uses = next((by_key[one] for one in key.split("|") if one in by_key), [])
        if not uses:
            raise FirstTokenError(
                f"{path}: no operator has the weights of layer {layer.name!r} as they were written; it is another module's program, or was changed"
            )
        found += uses
    return found


def computed_in(use: Use, asked: str) -> str:
    """The precision, and more where inputs are rounded in another way than was asked."""
    if use.computed not in ("int8", "int4"):
        return use.computed
    return use.computed if use.dynamic != (asked == "int8-static") else f"{use.computed} ({DYNAMIC if use.dynamic else STATIC})"


def scales_of(path: Path, layer: ModuleLayer, lowered: LoweredModule, found: Sequence[Use]) -> list[IntegerScale]:
    """Of a static layer's input and output. Raises `FirstTokenError` where they are not those that were calibrated."""
    wanted = [IntegerScale(**lowered.layers[layer.name][side]) for side in ("input", "output")]
    for use in found:
        same = len(use.scales) == len(wanted) and all(
            got.scale == want.scale and got.zero_point == want.zero_point for got, want in zip(use.scales, wanted, strict=True)
        )
        if not same:
            got = ", ".join(f"{one.scale:.6g} and {one.zero_point}" for one in use.scales) or "none"
            raise FirstTokenError(
                f"{path}: layer {layer.name!r} has scales and zero points {got}, expected {wanted[0].scale:.6g} and {wanted[0].zero_point}, {wanted[1].scale:.6g} and {wanted[1].zero_point}"
            )
    return wanted


def cores_of(uses: Sequence[Use], path: Path, wanted: int) -> list[list[Use]]:
    """The products around each softmax that stands between two. Raises `FirstTokenError` where there are others than attention's."""
    if not wanted:
        return []
    found = [list(uses[n - 1 : n + 2]) for n in range(1, len(uses) - 1) if [use.kind for use in uses[n - 1 : n + 2]] == PATTERN]
    if len(found) != wanted:
        raise FirstTokenError(
            f"{path}: XNNPACK has {len(found)} softmaxes between two products, expected the {wanted} of the module's attention; it is another module's program"
        )
    return found


def missed(rows: Sequence[AuditRow], kinds: Mapping[str, str]) -> list[str]:
    """A line for every layer that is stored, computed, or placed otherwise than was asked; ``kinds`` by the layer's name."""
    lines = []
    for row in rows:
        stored = PRECISIONS[row.asked].weight if row.asked != "int8-weight" else "int8"
        if kinds[row.layer] == "other":
            continue
        if without_group(row.stored) != stored:
            lines.append(f"{row.layer}: asked {row.asked}, stored {row.stored}")
        elif kinds[row.layer] == "embedding":
            continue
        elif row.computed not in PRECISIONS[row.asked].computed:
            lines.append(f"{row.layer}: asked {row.asked}, computed in {row.computed}")
        elif not row.delegated and row.asked != "fp32":
            lines.append(f"{row.layer}: asked {row.asked}, not taken by XNNPACK")
    return lines
