"""What a stock .pte stores and what XNNPACK takes of it, from its instructions and its delegates' graphs."""

import math
from collections import Counter
from pathlib import Path

from firsttoken.backends.executorch.program_file import EVENTS, KERNELS, Step, read_steps
from firsttoken.foreign.structure import BITS, UNREAD, Graph, Matrix, Structure
from firsttoken.precisions import without_group
from firsttoken.quiet import quiet_runtime

EMBEDDINGS = {"aten::embedding": "", "quantized_decomposed::embedding_byte": "row", "quantized_decomposed::embedding_4bit": "row"}
PRODUCTS = {kind: EVENTS[kind].lower() for kind in KERNELS.values()}


def look_into(path: Path) -> Structure:
    """Reads the method ``forward``, which is the first. Raises `FirstTokenError` for a file that is not read by this ExecuTorch."""
    with quiet_runtime():
        steps = read_steps(path)
    products = [product for step in steps for product in step.products]
    taken = Counter(PRODUCTS[product.kind] for product in products if product.delegated)
    left = Counter(PRODUCTS[product.kind] for product in products if not product.delegated)
    attention = Counter(step.operator for step in steps if step.operator and "sdpa" in step.operator)
    outside = dict(left) | {name: count for name, count in attention.items() if name}
    return Structure(matrices_of(steps), {}, [Graph("forward", sum(taken.values()) + sum(outside.values()), outside, counted="products")])


def matrices_of(steps: list[Step]) -> list[Matrix]:
    """The weights of linear layers and embeddings, each once."""
    found: dict[object, Matrix] = {}
    for step in steps:
        for product in step.products:
            if product.shape is not None and product.stored is not None:
                key, stored = product.key or (step.number, product.order), without_group(product.stored)
                scales = UNREAD if stored in ("int8", "int4") else ""
                found[key] = Matrix(product.shape, stored, size_of(product.shape, stored), scales, frozenset({product.kind}))
        if step.operator in EMBEDDINGS and step.tensors and step.tensors[0] is not None:
            _, shape = step.tensors[0]
            stored = step.first_stored
            found["embedding", step.number] = Matrix(
                shape, stored, size_of(shape, "int8" if stored == "int4" else stored), EMBEDDINGS[step.operator], frozenset({step.operator})
            )
    return list(found.values())


def size_of(shape: tuple[int, ...], stored: str) -> int:
    return math.prod(shape) * BITS.get(stored, 8) // 8
