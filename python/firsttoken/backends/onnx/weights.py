"""The decoder's weights in the file beside the graph: where each lies is known before anything is read, then they are streamed in that order."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from firsttoken.backends.interface import LoweringJob
from firsttoken.backends.onnx.graph import Stored
from firsttoken.backends.onnx.quantize import block_of, blocks, quantize_blocks
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.walk import Layer, coefficients, convolutions, delta_rules, factors, norms, plan_layers, routers
from firsttoken.errors import FirstTokenError
from firsttoken.precisions import PRECISIONS
from firsttoken.progress import Report, silent

CHUNK_BYTES = 8 << 20  # float32 rows held at once while streaming
ALIGNED = 4096  # a page, so that a mapped weight begins at one
FLOATS = {"fp32": "float32", "fp16": "float16"}
LARGEST_HALF = 65504


@dataclass(frozen=True)
class Weight:
    """One matrix as it is stored. Integers have ``block`` columns to a scale, and lie in ``values [rows, blocks, bytes]``; floats ``[rows, columns]``."""

    layer: Layer
    precision: str
    group: int
    block: int
    values: Stored
    scales: Stored | None

    @property
    def bits(self) -> int:
        return PRECISIONS[self.precision].bits

    @property
    def columns(self) -> int:
        return self.layer.matrix[1][1]

    def form(self) -> tuple[object, ...]:
        """What two layers of one tensor share their place by."""
        return self.layer.weight, self.precision, self.group


@dataclass
class DecoderWeights:
    """``matrices`` by layer name, what is small (norms, biases, kernels) in memory by its part's name, ``.bias`` behind it for a bias."""

    matrices: dict[str, Weight] = field(default_factory=dict)
    vectors: dict[str, np.ndarray] = field(default_factory=dict)
    size: int = 0  # bytes of the file


def plan_weights(job: LoweringJob) -> DecoderWeights:
    """Gives every matrix its place and reads what is small. A tied head lies where the embedding does if both have one precision and group.

    Raises `FirstTokenError` for groups that no block fits, and for damaged weights.
    """
    found = DecoderWeights(vectors=small_weights(job))
    shared: dict[tuple[object, ...], Weight] = {}
    for layer in plan_layers(job.decoder):
        if layer.weight is None:
            continue
        weight = _placed(found, layer, job.precisions[layer.name], job.group(layer))
        if (same := shared.get(weight.form())) is not None:
            weight = Weight(
                layer, weight.precision, weight.group, weight.block, _at(weight.values, same.values), _at(weight.scales, same.scales)
            )
        else:
            shared[weight.form()] = weight
            last = weight.scales or weight.values
            found.size = last.offset + last.length
        found.matrices[layer.name] = weight
        if layer.bias:
            found.vectors[f"{layer.name}.bias"] = job.checkpoint.vector(layer.bias)
    return found


def _placed(found: DecoderWeights, layer: Layer, precision: str, group: int) -> Weight:
    rows, columns = layer.matrix[1]
    offset = _aligned(found.size)
    if precision in FLOATS:
        length = rows * columns * PRECISIONS[precision].bits // 8
        return Weight(layer, precision, columns, columns, Stored(layer.name, FLOATS[precision], (rows, columns), offset, length), None)
    block = block_of(precision, group, columns)
    if not block:
        raise FirstTokenError(
            f"{layer.name}: groups of {group} columns have no block that onnxruntime computes (16, 32, 64, 128 or 256 that divides them); give the plan group = 32"
        )
    count, size = blocks(columns, block), block * PRECISIONS[precision].bits // 8
    values = Stored(layer.name, "uint8", (rows, count, size), offset, rows * count * size)
    scales = Stored(f"{layer.name}.scales", "float32", (rows, count), _aligned(offset + values.length), rows * count * 4)
    return Weight(layer, precision, group, block, values, scales)


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNED) * ALIGNED


def _at(own: Stored | None, other: Stored | None) -> Stored:
    assert (own is not None and other is not None) or own is other
    return own if own is None or other is None else Stored(own.name, own.dtype, own.shape, other.offset, other.length)  # type: ignore[return-value]


def small_weights(job: LoweringJob) -> dict[str, np.ndarray]:
    """What no plan addresses, float32 by the part's name."""
    checkpoint, decoder = job.checkpoint, job.decoder
    vectors: dict[str, np.ndarray] = {}
    for name, norm in norms(decoder):
        vectors |= {key: checkpoint.vector(source) for key, source in ((name, norm.weight), (f"{name}.bias", norm.bias)) if source}
    vectors |= {name: checkpoint.vector(factor.weight) for name, factor in factors(decoder)}
    vectors |= {name: checkpoint.matrix(small.weight) for name, small in coefficients(decoder)}
    for name, kernel in convolutions(decoder):
        vectors[name] = checkpoint.matrix(kernel.weight).reshape(kernel.channels, 1, kernel.length)
        vectors[f"{name}.bias"] = checkpoint.vector(kernel.bias) if kernel.bias else np.zeros(kernel.channels, np.float32)
    vectors |= {name: checkpoint.vector(rule.decay) for name, rule in delta_rules(decoder)}
    for name, router in routers(decoder):
        vectors[name] = checkpoint.matrix(router.weight)
        if router.bias is not None:
            vectors[f"{name}.bias"] = checkpoint.vector(router.bias)
    return vectors


def write_weights(path: Path, weights: DecoderWeights, checkpoint: Checkpoint, report: Report = silent) -> str:
    """Streams every matrix to its place and returns the file's SHA-256. Raises `FirstTokenError` for a weight that does not fit FP16, `OSError` for a full disk."""
    digest, place = hashlib.sha256(), 0
    with path.open("wb") as file:

        def put(offset: int, array: np.ndarray) -> int:
            data = np.ascontiguousarray(array).tobytes()
            for piece in (bytes(offset - place), data):
                file.write(piece)
                digest.update(piece)
            return offset + len(data)

        for number, weight in enumerate(weights.matrices.values()):
            if weight.values.offset >= place:  # else it lies where another does
                scales, at = [], weight.values.offset
                for values, each in _chunks(weight, checkpoint):
                    at = place = put(at, values)
                    scales.append(each)
                if weight.scales is not None:
                    place = put(weight.scales.offset, np.concatenate(scales))
            report("writing weights", number + 1, len(weights.matrices), "layers")
    return digest.hexdigest()


def _chunks(weight: Weight, checkpoint: Checkpoint) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Stored values of so many rows as fit `CHUNK_BYTES`, and their scales, none of floats."""
    source, (count, columns) = weight.layer.matrix
    step = max(1, CHUNK_BYTES // (4 * columns))
    for start in range(0, count, step):
        stop = min(start + step, count)
        rows = checkpoint.rows(source, start, stop)
        if weight.scales is not None:
            given = checkpoint.scales(source, start, stop)
            yield quantize_blocks(rows, weight.precision, weight.block, weight.group, given)
        else:
            yield (rows if weight.precision == "fp32" else to_half(rows, weight.layer.name)), np.zeros(0, np.float32)


def to_half(values: np.ndarray, name: str) -> np.ndarray:
    """Casts to float16. Raises `FirstTokenError` where a value would become infinite."""
    largest = float(np.abs(values).max(initial=0))
    if largest > LARGEST_HALF:
        raise FirstTokenError(
            f"{name}: weight {largest:g} does not fit FP16 (largest {LARGEST_HALF}); give this layer int8 or fp32 in the plan"
        )
    return values.astype(np.float16)
