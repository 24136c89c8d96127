"""What a written .pte really holds: per layer the stored dtype, the dtype it is computed in, and who computes it.

Stored comes from the file: the payloads that the XNNPACK delegate gets. Computed and delegated come from the runtime's
own event trace of one call, in which XNNPACK names every kernel it ran, such as "Fully Connected (NC, QDU8, F32, QC8W)
GEMM": QDU8 activations, quantized as they come, times int8 rows.

A trace has no layer names. Payload nodes carry their place in the traced graph, which is the order of computation, and
the kernels of one payload run in the payload's order, so both lead to the plan's order; shapes have to agree.
"""

import re
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from firsttoken.bundle.manifest import AuditRow
from firsttoken.decoder.parts import Cutoff, Decoder, Router
from firsttoken.decoder.walk import Layer, coefficients, leaves, norms, owners, plan_layers, routers, states
from firsttoken.errors import FirstTokenError
from firsttoken.precisions import with_group

if TYPE_CHECKING:
    from firsttoken.backends.executorch.program_file import Product, Step

T = TypeVar("T")
FLOATS = {"F32": "fp32", "F16": "fp16"}
WEIGHTS = {"QC8W": "int8", "QB4W": "int4", "QC4W": "int4"}
TRACED_TOKENS = 4


def audit(artifact: Path, decoder: Decoder, precisions: Mapping[str, str]) -> list[AuditRow]:
    """Returns a row for every layer of the plan, in order. It loads the artifact and runs one short call.

    An embedding is a table lookup on ExecuTorch's own kernel: computed in FP32 whatever it is stored in. Raises
    `FirstTokenError` for a file that is not such a program, or one whose products do not map on the layers.
    """
    from firsttoken.backends.executorch.program_file import read_steps

    steps = read_steps(Path(artifact))
    constants = constant_keys(decoder)
    products = [found for found in computed_products(steps, trace(Path(artifact)), artifact) if found[0].key not in constants]
    small = {(rows, part.columns) for _, part in coefficients(decoder) for rows in (part.rows, part.first)}
    linears = Sequence([found for found in products if found[0].kind == "XNNFullyConnected" and found[0].shape not in small])
    others = around_softmax([found for found in products if found[0].kind != "XNNFullyConnected"])
    caches = grouped([step.first_stored for step in steps if step.operator == "aten::index_put_"], 2)
    lookups = iter([step for step in steps if step.operator and "::embedding" in step.operator])
    owner, kept = owners(decoder), dict[str, str]()
    chosen = {f"{name.removesuffix('router')}down": router for name, router in routers(decoder)}  # it is computed before that layer
    rows = []
    for layer in plan_layers(decoder):
        if layer.kind == "embedding":
            rows.append(embedding_row(next(lookups, None), layer.name, artifact, precisions[layer.name]))
            continue
        if layer.kind == "core":
            if owner[layer.name] == layer.name:
                kept[layer.name] = "/".join(sorted(set(next(caches, []))))
            found, stored = next(others, []), kept[owner[layer.name]]
        else:
            if layer.name in chosen:
                take_router(chosen[layer.name], layer.name, linears, others, artifact)
            found = linears.take(layer)
            stored = found[0][0].stored or "unknown" if found else ""
        kinds = [product.kind for product, _ in found]
        if not stored or kinds not in (["XNNFullyConnected"], ["XNNBatchMatrixMultiply", "XNNSoftmax", "XNNBatchMatrixMultiply"]):
            raise FirstTokenError(f"{artifact}: nothing in its event trace fits layer {layer.name!r}; it is not this model's program")
        computed = "/".join(sorted({how for _, how in found}))
        delegated = all(product.delegated for product, _ in found)
        rows.append(AuditRow(layer=layer.name, asked=precisions[layer.name], stored=stored, computed=computed, delegated=delegated))
    if linears.left:
        raise FirstTokenError(f"{artifact}: has {linears.left} linear layers more than the model; it is not this model's program")
    return rows


def take_router(router: Router, before: str, linears: "Sequence", others: "Iterator[list[tuple[Product, str]]]", artifact: Path) -> None:
    """Takes what chooses the experts before the layer ``before``. Raises `FirstTokenError` where it is absent, or not in FP32."""
    found = linears.take(Layer("router", "linear", (router.experts, router.columns)))
    found += [pair for pair in next(others, []) if pair[0].kind == "XNNSoftmax"] if router.scores == "softmax" else []
    kinds, computed = [product.kind for product, _ in found], {how for _, how in found}
    if kinds != ["XNNFullyConnected", "XNNSoftmax"][: len(kinds)] or not found or computed != {"fp32"}:
        raise FirstTokenError(
            f"{artifact}: before {before!r} its event trace has {kinds} in {sorted(computed)}, expected the choice of experts in fp32; it is not this model's program"
        )


class Sequence:
    """The program's linear layers, taken in the plan's order.

    ExecuTorch's own kernels have no place in the traced graph: a layer whose shape the next delegated one does not have
    is theirs. Of two neighbours of one shape (k and v, gate and up) it may thus be the later one that is named.
    """

    def __init__(self, found: "list[tuple[Product, str]]") -> None:
        self.delegated = [pair for pair in found if pair[0].delegated]
        self.own = [pair for pair in found if not pair[0].delegated]

    @property
    def left(self) -> int:
        return len(self.delegated) + len(self.own)

    def take(self, layer: Layer) -> "list[tuple[Product, str]]":
        """Returns the next product with the layer's shape in a list, or an empty one."""
        if self.delegated and self.delegated[0][0].shape == layer.shape:
            return [self.delegated.pop(0)]
        fits = [pair for pair in self.own if pair[0].shape in (None, layer.shape)]
        if not fits:
            return []
        self.own.remove(fits[0])
        return [fits[0]]


def around_softmax(found: "list[tuple[Product, str]]") -> "Iterator[list[tuple[Product, str]]]":
    """Yields every softmax between the two products beside it, which are its core's where it is no router's; other batched products are those of
    streams or a delta rule."""
    for number, (product, _) in enumerate(found):
        if product.kind == "XNNSoftmax":
            yield found[max(0, number - 1) : number + 2]


def grouped(found: list[T], size: int) -> Iterator[list[T]]:
    """Yields the list in parts of ``size``; the last may be shorter."""
    for start in range(0, len(found), size):
        yield found[start : start + size]


def embedding_row(lookup: "Step | None", name: str, artifact: Path, asked: str) -> AuditRow:
    if lookup is None:
        raise FirstTokenError(f"{artifact}: no row of {name!r} is looked up; it is not this model's program")
    return AuditRow(layer=name, asked=asked, stored=looked_up(lookup), computed="fp32", delegated=False)


def looked_up(lookup: "Step") -> str:
    """A table's precision, and of int4, two values a byte, how many columns share a scale by the shape of its scales."""
    table, scales = (*lookup.tensors, None, None)[:2]
    if lookup.first_stored != "int4" or table is None or scales is None:
        return lookup.first_stored
    columns = 2 * table[1][1]
    return with_group("int4", columns // (scales[1][1] if len(scales[1]) == 2 else 1), columns)


def computed_products(steps: "list[Step]", events: dict[int, list[str]], artifact: Path) -> "list[tuple[Product, str]]":
    """Returns ``(product, precision it was computed in)`` in the order of computation."""
    from firsttoken.backends.executorch.program_file import EVENTS

    found: list[tuple[Product, str]] = []
    for step in steps:
        if step.operator is not None:
            # ExecuTorch's own kernels compute in what they are given.
            found += [(product, product.stored or "unknown") for product in step.products]
            continue
        names = [name for name in events.get(step.number, []) if name.startswith(tuple(EVENTS.values()))]
        wanted = [EVENTS[product.kind] for product in step.products]
        if len(names) != len(wanted) or not all(name.startswith(want + " (") for name, want in zip(names, wanted, strict=True)):
            raise FirstTokenError(
                f"{artifact}: instruction {step.number} ran {names}, but its payload holds {wanted}; the trace does not fit the file"
            )
        found += [(product, computed_in(name)) for product, name in zip(step.products, names, strict=True)]
    ordered = sorted((pair for pair in found if pair[0].delegated), key=lambda pair: place(pair[0]))
    # Own kernels know no place in the graph; they stay where they ran.
    return [pair if not pair[0].delegated else ordered.pop(0) for pair in found]


def place(product: "Product") -> int:
    """The place in the traced graph of a product that the delegate computes."""
    assert product.order is not None, f"a delegated {product.kind} has a place"
    return product.order


def computed_in(name: str) -> str:
    """Returns the precision of a kernel from its name in the trace, as in "Fully Connected (NC, QDU8, F32, QC8W) GEMM #1"."""
    listed = re.search(r"\((.*?)\)", name)
    assert listed is not None, f"{name!r} lists its types, as `computed_products` has checked"
    types = [part for part in listed[1].split(", ") if part not in ("NC", "ND")]
    if types[0].startswith("Q"):  # quantized activations: the kernel multiplies integers, by these weights
        return WEIGHTS.get(types[-1], types[-1])
    return FLOATS.get(types[0], types[0])


def constant_keys(decoder: Decoder) -> set[str]:
    """SHA-256 of the constants that the decoder multiplies by as if by a weight: the rotation, the means of norms, cutoffs and outliers' limits, sums over experts."""
    import torch

    from firsttoken.backends.executorch.core import rotation_matrix
    from firsttoken.backends.executorch.experts import summing_row
    from firsttoken.backends.executorch.modules import outlier_row
    from firsttoken.backends.executorch.norm import RmsNorm

    rotations = [rotation_matrix(dim) for dim in {state.head_dim for state in states(decoder)}]
    sizes = {norm.size for _, norm in norms(decoder)} | {part.size for _, part in leaves(decoder) if isinstance(part, Cutoff)}
    means = [RmsNorm(size, 0.0).mean_row for size in sizes]
    sums = [summing_row(count) for count in {router.experts for _, router in routers(decoder)}]
    limits = [outlier_row(columns) for columns in {layer.shape[1] for layer in plan_layers(decoder) if layer.shape}]
    constants = [*rotations, *(rotation.half() for rotation in rotations), *means, *sums, *limits]
    return {sha256(constant.contiguous().view(torch.uint8).numpy().tobytes()).hexdigest() for constant in constants}


def trace(artifact: Path) -> dict[int, list[str]]:
    """Runs one short prompt and returns the events' names by instruction. Raises `FirstTokenError` if it cannot be run."""
    from executorch.devtools import Inspector

    from firsttoken.backends.executorch.runner import import_runtime

    torch, portable_lib = import_runtime()
    try:
        program = portable_lib._load_for_executorch(str(artifact), enable_etdump=True)
        length = min(TRACED_TOKENS, program.method_meta("forward").input_tensor_meta(0).sizes()[1])
        program.forward([torch.zeros(1, length, dtype=torch.int64), torch.arange(length)])
        with tempfile.TemporaryDirectory() as folder:
            dump = str(Path(folder, "trace.etdp"))
            program.write_etdump_result_to_file(dump)
            inspector = Inspector(etdump_path=dump)
    except RuntimeError as error:
        raise FirstTokenError(f"{artifact}: cannot be run for the audit ({error}); export it again") from None
    events: dict[int, list[str]] = defaultdict(list)
    for block in inspector.event_blocks:
        if block.name == "Execute":
            for event in block.events:
                if event.is_delegated_op:
                    events[event._instruction_id].append(event.name)
    return events
