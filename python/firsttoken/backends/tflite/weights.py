"""The decoder's weights as streamed buffers: stored once, used by every subgraph."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from firsttoken.backends.interface import LoweringJob
from firsttoken.backends.tflite.graph import Graph, Type
from firsttoken.backends.tflite.model_file import ModelFile, RowScales
from firsttoken.backends.tflite.quantize import quantize_int4, quantize_int8
from firsttoken.bundle.integer_facts import StaticLayer
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.walk import Layer, coefficients, convolutions, delta_rules, factors, norms, plan_layers, routers
from firsttoken.precisions import PRECISIONS

CHUNK_BYTES = 8 << 20  # float32 rows held at once while streaming
STORED_TYPES = {"fp32": Type.FLOAT32, "fp16": Type.FLOAT16, "int8": Type.INT8, "int4": Type.INT4}


class Weight:
    """One weight matrix: its buffer in the file, and the scales that become known as it is streamed."""

    def __init__(self, file: ModelFile, checkpoint: Checkpoint, layer: Layer, precision: str, group: int | None = None) -> None:
        """``group``: how many columns of a row share one scale; None for all of them."""
        self.file, self.checkpoint, self.layer, self.precision = file, checkpoint, layer, precision
        self.source, (self.rows, self.columns) = layer.matrix
        self.group = group or self.columns
        self.scales = np.ones(self.rows, np.float32)
        if self.grouped:
            self.group_scales = np.ones((self.rows, self.columns // self.group), np.float16)
        self._row_scales = RowScales(self.scales, file.zeros)
        self.buffer = file.stream(layer.name, self.rows * self.columns * PRECISIONS[precision].bits // 8, self._chunks)
        self._scale_buffer: int | None = None

    @property
    def grouped(self) -> bool:
        """Whether a row has several scales."""
        return self.precision == "int4" and self.group != self.columns

    def _chunks(self) -> Iterator[np.ndarray]:
        step = max(1, CHUNK_BYTES // (4 * self.columns))
        for start in range(0, self.rows, step):
            stop = min(start + step, self.rows)
            rows, given = self.checkpoint.rows(self.source, start, stop), self.checkpoint.scales(self.source, start, stop)
            if self.precision == "int8":
                values, self.scales[start:stop] = quantize_int8(rows, None if given is None else given[:, 0])
            elif self.precision == "int4":
                values, scales = quantize_int4(rows, self.group, given)
                if self.grouped:
                    self.group_scales[start:stop] = scales
                else:
                    self.scales[start:stop] = scales[:, 0]
            else:
                values = rows if self.precision == "fp32" else to_float16(rows, self.layer.name)
            yield np.ascontiguousarray(values)

    def _scales_buffer(self) -> int:
        # Streamed after the weight itself, when the scales are known.
        if self._scale_buffer is None:
            scales = self.group_scales if self.grouped else self.scales
            self._scale_buffer = self.file.stream(f"{self.layer.name}.scales", scales.nbytes, lambda: iter([scales]))
        return self._scale_buffer

    def tensor(self, graph: Graph, name: str | None = None) -> int:
        """Adds this weight, with its quantization parameters, to ``graph`` and returns its tensor ``[rows, columns]``; ``name`` is by default the layer's."""
        index = graph.tensor((self.rows, self.columns), STORED_TYPES[self.precision], name or self.layer.name, self.buffer)
        if self.grouped:
            details = schema.BlockwiseQuantizationT()
            details.scales = graph.tensor(self.group_scales.shape, Type.FLOAT16, f"{self.layer.name}.scales", self._scales_buffer())
            details.zeroPoints, details.blockSize = -1, self.group
            parameters = schema.QuantizationParametersT()
            parameters.detailsType, parameters.details = schema.QuantizationDetails.BlockwiseQuantization, details
            graph.subgraph.tensors[index].quantization = parameters
        elif PRECISIONS[self.precision].scales:
            graph.subgraph.tensors[index].quantization = self._row_scales
        return index

    def raw_tensor(self, graph: Graph, dtype: int | None = None) -> int:
        """Adds the stored numbers without quantization parameters (read as ``dtype`` if given), for GATHER and our own scaling."""
        return graph.tensor((self.rows, self.columns), dtype or STORED_TYPES[self.precision], f"{self.layer.name}.raw", self.buffer)

    def scales_tensor(self, graph: Graph) -> int:
        """Adds the int8 scales as a float32 table ``[rows, 1]``."""
        return graph.tensor((self.rows, 1), Type.FLOAT32, f"{self.layer.name}.scales", self._scales_buffer())


@dataclass
class DecoderWeights:
    """Everything the graphs share: streamed matrices by layer name, and what is small (norms, biases, kernels of convolutions, coefficients of streams) read into memory."""

    precisions: Mapping[str, str]
    native_fp16: bool  # True: FP16 layers compute in FP16; False: FP16 is storage, dequantized to FP32
    matrices: dict[str, Weight]
    vectors: dict[str, np.ndarray]
    cache_precision: str | None = None
    apart: frozenset[str] = frozenset()
    """Layers whose inputs' outliers are rounded by themselves."""
    static: Mapping[str, StaticLayer] = field(default_factory=dict)
    """Layers with calibrated scales, by name."""

    def cache_type(self, core: str) -> int:
        """What the KV cache of this core comes and goes as."""
        return STORED_TYPES[self.cache_precision or self.precisions[core]]

    def core_type(self, core: str) -> int:
        """What the core of this name is asked in."""
        return STORED_TYPES[self.precisions[core]]


def read_weights(
    file: ModelFile, job: LoweringJob, native_fp16: bool, embedding: bool = True, cache_precision: str | None = None
) -> DecoderWeights:
    """Plans every matrix as a streamed buffer and reads biases and norms; ``embedding`` false leaves the embedding to the host.

    A tied head shares the embedding's buffer where both have the same precision and group.
    """
    checkpoint, precisions = job.checkpoint, job.precisions
    matrices: dict[str, Weight] = {}
    vectors: dict[str, np.ndarray] = {}
    for name, norm in norms(job.decoder):
        vectors |= {key: checkpoint.vector(source) for key, source in ((name, norm.weight), (f"{name}.bias", norm.bias)) if source}
    vectors |= {name: checkpoint.vector(factor.weight) for name, factor in factors(job.decoder)}
    vectors |= {name: checkpoint.matrix(small.weight) for name, small in coefficients(job.decoder)}
    for name, kernel in convolutions(job.decoder):
        vectors[name] = checkpoint.matrix(kernel.weight)
        vectors[f"{name}.bias"] = checkpoint.vector(kernel.bias) if kernel.bias else np.zeros(kernel.channels, np.float32)
    vectors |= {name: checkpoint.vector(rule.decay) for name, rule in delta_rules(job.decoder)}
    for name, router in routers(job.decoder):
        layer = Layer(name, "linear", (router.experts, router.columns), router.weight)
        matrices[name] = Weight(file, checkpoint, layer, "fp32")
        if router.bias is not None:
            vectors[f"{name}.bias"] = checkpoint.vector(router.bias)
    for layer in plan_layers(job.decoder):
        if layer.weight is None or (layer.kind == "embedding" and not embedding):
            continue
        form = PRECISIONS[precisions[layer.name]].weight, job.group(layer)
        shared = next((w for w in matrices.values() if w.layer.weight == layer.weight and (w.precision, w.group) == form), None)
        matrices[layer.name] = shared or Weight(file, checkpoint, layer, *form)
        if layer.bias:
            vectors[f"{layer.name}.bias"] = checkpoint.vector(layer.bias)
    apart = frozenset(name for name in matrices if job.plan.apart(name))
    return DecoderWeights(precisions, native_fp16, matrices, vectors, cache_precision, apart, job.static)


def to_float16(values: np.ndarray, name: str) -> np.ndarray:
    """Casts to float16. Raises `FirstTokenError` when a value does not fit (it would become infinite)."""
    from firsttoken.errors import FirstTokenError

    largest = float(np.abs(values).max(initial=0))
    if largest > 65504:
        raise FirstTokenError(f"{name}: weight {largest:g} does not fit FP16 (largest 65504); give this layer int8 or fp32 in the plan")
    return values.astype(np.float16)
