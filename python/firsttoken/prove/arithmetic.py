"""What numbers a linear layer and an attention core are computed with on the host: in FP32, or as a plan and a runtime's kernels have them.

The second is the arithmetic of the *twin*: it holds the weights as the plan rounds them and rounds activations where kernels do, so an
artifact that was built right differs from it by its kernels' own rounding alone. It is written from the formats' definitions, apart from
every backend's lowering.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from firsttoken.bundle.integer_facts import Range, StaticLayer
from firsttoken.precisions import BLOCK, OUTLIER, PRECISIONS, WeightGrid
from firsttoken.prove.blocks import round_blocks, round_tokens_in_blocks
from firsttoken.weight_source import Source

UNIT_FP16, UNIT_FP32 = 2.0**-11, 2.0**-24  # unit roundoff: half the distance from 1 to the next number
# Adding k products one after the other rounds k partial sums, which grow like a random walk to the result: each leaves an error
# of about 0.4 units of its own size, up to sqrt(k) * 0.4 together where they cancel (Higham and Mary 2019, SIAM J. Sci. Comput. 41(5), on probabilistic bounds).
GROWTH = 0.4
SCALE_ERROR = 1.5 * UNIT_FP32  # three roundings, each evenly spread over a unit
RESCALED = 2.0**-17  # as a part: a sum is multiplied by scales' quotient, of which kernels for int16 keep 15 bits
SMALLEST = np.float32(1e-9)  # of a row's or group's largest weight; all zeros would have no scale
SMALLEST_INT4_SCALE = np.float32(6e-8)  # the smallest float16 above zero

BLOCKS = (16, 32, 64, 128, 256)  # columns of a block, where weights are kept in blocks

STEPS = {"int8-static": 255, "int16x8": 65534}  # between the integers at the ends of a calibrated range


class Fp32:
    """The checkpoint's own arithmetic."""

    def weight(self, source: Source, matrix: np.ndarray, scales: np.ndarray | None = None) -> np.ndarray:
        """A weight ``[rows, columns]`` as the layer holds it; ``scales`` where it is integers times them already."""
        return matrix

    def linear(self, source: Source, states: np.ndarray, weight: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
        """``states @ weight^T + bias``, ``[tokens, columns]`` to ``[tokens, rows]``."""
        product = states @ weight.T
        return product if bias is None else product + bias

    def activation(self, name: str, exact: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
        """An MLP's activation of this name as it is computed."""
        return exact

    def core(self, name: str) -> Callable[[np.ndarray, int], np.ndarray]:
        """What a core rounds each of its results by; the number is how many products were added up for one."""
        return lambda values, added: values

    def plain(self, values: np.ndarray, added: int) -> np.ndarray:
        """What a kernel that no plan addresses, always in FP32, gave of sums of ``added`` products."""
        return values

    def cache(self, name: str, states: np.ndarray) -> np.ndarray:
        """Keys or values as a core's KV cache holds them."""
        return states

    def fp32_sums(self, values: np.ndarray, added: int) -> np.ndarray:
        """Sums of ``added`` products that no plan addresses."""
        return values


@dataclass(frozen=True)
class Planned(Fp32):
    """A plan's arithmetic. ``names`` gives a linear layer's name by its weight, ``precisions`` a layer's precision by its name.

    ``activations`` says for each precision what a kernel rounds its input to: "fp32", "fp16" (its result too), "fp16-input", "int8" with a scale
    and zero point for each token, "int8-blocks" or "int8-float-blocks" with scales for blocks of it. ``noise`` adds what the kernels' own sums may be off by, from a seeded generator: two runs with and without it are as far
    apart as a well-built artifact may be.
    """

    names: Mapping[Source, str]
    precisions: Mapping[str, str]
    activations: Mapping[str, str]
    grid: WeightGrid
    group: Callable[[str, int], int]
    """How many columns of a row share one scale in a layer, by its name and its columns (`Plan.group`)."""
    noise: np.random.Generator | None = None
    apart: Callable[[str], bool] = lambda name: False
    """Whether a layer's outliers are rounded by themselves, by its name (`Plan.apart`)."""
    static: Mapping[str, StaticLayer] = field(default_factory=dict)
    """What the activations of layers with calibrated scales cover, by the layer's name; those are of the kind "static"."""
    half_floats: bool = False
    """Whether what is no integer is float16."""
    half_gelu: bool = False
    """Whether GELU is looked up in a table, its input and result in float16."""
    overflow: list[str] = field(default_factory=list)
    """Layers in which a float16 ran over, in the order of computation."""

    def weight(self, source: Source, matrix: np.ndarray, scales: np.ndarray | None = None) -> np.ndarray:
        return self.rounded(self.names[source], matrix, scales)

    def rounded(self, name: str, matrix: np.ndarray, scales: np.ndarray | None = None) -> np.ndarray:
        """Rows ``[rows, columns]`` of the layer of this name as it holds them; ``scales`` as in `weight`."""
        if self.grid.blocks and PRECISIONS[self.precisions[name]].scales:
            return round_blocks(matrix, self.precisions[name], self.grid.blocks, round_half, scales)
        return round_weight(matrix, self.precisions[name], self.grid, self.group(name, matrix.shape[1]), scales)

    def linear(self, source: Source, states: np.ndarray, weight: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
        name = self.names[source]
        kind = self.activations[self.precisions[name]]
        states = self._off(states, 1, UNIT_FP32)
        if kind == "static":
            return self._static(name, states, weight, bias)
        if kind == "int8-float-blocks":
            states = round_float_blocks(
                states, block_of(self.precisions[name], self.group(name, weight.shape[1]), weight.shape[1]), self.noise
            )
        elif kind == "int8":
            states = round_apart(states, self.noise) if self.apart(name) else round_tokens(states, self.noise)
        elif kind == "int8-blocks":
            assert self.grid.blocks, "a backend with blocks of activations has blocks of weights"
            states = round_tokens_in_blocks(states, self.grid.blocks, round_half, lambda scale: self._off(scale, 1, SCALE_ERROR))
        elif kind in ("fp16", "fp16-input"):
            states = self._half(name, states)
        product = states @ weight.T
        if bias is not None:
            product += self._half(name, bias) if kind == "fp16" else bias
        return self._half(name, self._off(product, weight.shape[1], UNIT_FP16)) if kind == "fp16" else product

    def _static(self, name: str, states: np.ndarray, weight: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
        """Input and product rounded with one scale each; the bias is added to floats."""
        ranges, steps = self.static[name], STEPS[self.precisions[name]]
        if self.half_floats:
            states = self._half(name, states)
        product = round_static(states, ranges.input, steps) @ weight.T
        product = round_static(self._off(product, 1, RESCALED), ranges.output, steps)
        if self.half_floats:
            product = self._half(name, product)
        return product if bias is None else product + bias

    def activation(self, name: str, exact: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
        if name != "gelu_tanh" or not self.half_gelu:
            return exact
        return lambda values: round_half(exact(round_half(values)))

    def core(self, name: str) -> Callable[[np.ndarray, int], np.ndarray]:
        if self.activations[self.precisions[name]] != "fp16":
            return lambda values, added: self._off(values, added, UNIT_FP32)
        return lambda values, added: self._half(name, self._off(values, added, UNIT_FP16))

    def plain(self, values: np.ndarray, added: int) -> np.ndarray:
        return self._off(values, added, UNIT_FP32)

    def cache(self, name: str, states: np.ndarray) -> np.ndarray:
        # Where FP16 is storage alone, a call sees its own tokens unrounded, and those of earlier calls rounded: which are which is not said here.
        stored_only = self.activations[self.precisions[name]] != "fp16" and self.precisions[name] == "fp16"
        return self._half(name, states) if stored_only and self.noise is not None else states

    def fp32_sums(self, values: np.ndarray, added: int) -> np.ndarray:
        return self._off(values, added, UNIT_FP32)

    def _half(self, name: str, values: np.ndarray) -> np.ndarray:
        """Values rounded to float16; notes the layer's name where that makes an infinity."""
        rounded = round_half(values)
        if name not in self.overflow and not np.isfinite(rounded).all():
            self.overflow.append(name)
        return rounded

    def _off(self, values: np.ndarray, added: int, unit: float) -> np.ndarray:
        """Values as they are, or off by what adding up ``added`` products may cost."""
        if self.noise is None:
            return values
        size = np.sqrt(np.mean(np.square(values), axis=-1, keepdims=True)) * np.float32(GROWTH * unit * np.sqrt(added))
        return values + size * self.noise.standard_normal(values.shape, np.float32)


def round_half(values: np.ndarray) -> np.ndarray:
    """Values rounded to float16 (ties to even), as float32; beyond its 65504 they are infinite.

    A float that is large enough pushes all but 10 bits of the fraction out when it is added; numpy's own conversion takes up to twenty
    times as long, where numbers are small.
    """
    exponent = np.maximum(np.abs(values), np.float32(2**-14)).view(np.uint32) & np.uint32(0x7F800000)
    pusher = exponent.view(np.float32)
    pusher *= np.float32(1.5 * 2**13)
    with np.errstate(invalid="ignore", over="ignore"):
        rounded = values + pusher
        rounded -= pusher
    if not (np.abs(rounded, out=pusher) <= np.float32(65504)).all():
        with np.errstate(over="ignore", invalid="ignore"):
            return values.astype(np.float16).astype(np.float32)
    return rounded


def round_bfloat16(values: np.ndarray) -> np.ndarray:
    """Values rounded to bfloat16 (ties to even), as float32."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def round_weight(matrix: np.ndarray, precision: str, grid: WeightGrid, group: int, scales: np.ndarray | None = None) -> np.ndarray:
    """A weight ``[rows, columns]`` rounded as the format defines it, float32: symmetric, one scale a row or for ``group`` columns of it, ties to even.

    With ``scales`` ``[rows, groups]`` those are taken, and the format's own rounding of them shows in what comes out.
    """
    if precision == "fp32":
        return matrix
    if precision == "fp16":
        return round_half(matrix)
    precision = PRECISIONS[precision].weight
    steps = {"int8": grid.int8, "int4": grid.int4}[precision]
    most = 127 if precision == "int8" else 7
    given = scales is not None  # integers are there already, which may be the lowest
    least = -most if precision == "int8" and not (grid.lowest or given) else -most - 1
    columns = matrix.shape[1]
    whole = precision == "int8" or group == columns  # such scales are float32 on both runtimes
    in_blocks = grid.float_blocks and precision == "int8" and not given
    size = BLOCK if in_blocks else columns if whole else group
    grouped = np.pad(matrix, ((0, 0), (0, -columns % size))).reshape(len(matrix), -1, size)
    scale = np.maximum(np.abs(grouped).max(2, keepdims=True), SMALLEST) / np.float32(steps) if scales is None else scales[:, :, None]
    if grid.float_blocks and precision == "int4" and not given:
        scale = at_lowest(grouped)
    stored = scale if whole or grid.float_blocks else np.maximum(round_bfloat16(scale), SMALLEST_INT4_SCALE)
    # torchao finds the integers with the scale itself, before it is stored rounded
    integers = grouped * (np.float32(1) / scale) if grid.lowest else grouped / stored
    return (np.clip(np.rint(integers), least, most) * stored).reshape(len(matrix), -1)[:, :columns]


def at_lowest(grouped: np.ndarray) -> np.ndarray:
    """Scales ``[rows, groups, 1]`` by which the largest weight of every group, of either sign, is -8."""
    low, high = grouped.min(2, keepdims=True), grouped.max(2, keepdims=True)
    largest = np.where(np.abs(grouped).argmax(2)[:, :, None] == grouped.argmin(2)[:, :, None], low, high)
    return np.where(np.abs(largest) < SMALLEST, SMALLEST, largest) / np.float32(-8)


def block_of(precision: str, group: int, columns: int) -> int:
    """How many columns of a row onnxruntime keeps in a block: as many as there are in a group, if that is a power of two up to 256, or the largest such that divides it."""
    if PRECISIONS[precision].scales != "group" or group == columns:
        return BLOCK
    return max(size for size in BLOCKS if group % size == 0)


def round_float_blocks(states: np.ndarray, block: int, noise: np.random.Generator | None = None) -> np.ndarray:
    """Activations rounded to int8 with a scale for each ``block`` columns of a token, as onnxruntime's MatMulNBits does: the largest value is 127, and 0 is 0."""
    columns = states.shape[-1]
    padded = np.pad(states, [(0, 0)] * (states.ndim - 1) + [(0, -columns % block)])
    grouped = padded.reshape(*states.shape[:-1], -1, block)
    largest = np.abs(grouped).max(-1, keepdims=True)
    inverse = np.where(largest == 0, np.float32(0), np.float32(127) / np.where(largest == 0, np.float32(1), largest)).astype(np.float32)
    if noise is not None:
        inverse = inverse * (1 + np.float32(SCALE_ERROR) * noise.standard_normal(inverse.shape, np.float32))
    rounded = np.rint(grouped * inverse) * (largest / np.float32(127))
    return rounded.reshape(*states.shape[:-1], -1)[..., :columns]


def round_apart(states: np.ndarray, noise: np.random.Generator | None = None) -> np.ndarray:
    """What lies within `OUTLIER` times each token's root mean square, rounded to int8, and what is left of outliers, rounded too; their sum."""
    limit = np.float32(OUTLIER) * np.sqrt(np.square(states).mean(-1, keepdims=True))
    inner = np.clip(states, -limit, limit)
    return round_tokens(inner, noise) + round_tokens(states - inner, noise)


def round_tokens(states: np.ndarray, noise: np.random.Generator | None = None) -> np.ndarray:
    """Activations rounded to int8 with a scale and zero point for each token, as dynamic kernels do: the range always holds 0.

    The formula is the one of XNNPACK's and PyTorch's asymmetric parameters: ``scale = (max - min) / 255``, and the zero point rounds
    the end of the range at which the error is smaller. With ``noise``, the scale is off by its own rounding and that of its reciprocal.
    """
    low, high = np.minimum(states.min(-1, keepdims=True), 0), np.maximum(states.max(-1, keepdims=True), 0)
    span = high - low
    inverse = np.where(span == 0, np.float32(1), np.float32(255) / np.where(span == 0, np.float32(1), span)).astype(np.float32)
    if noise is not None:
        inverse = inverse * (1 + np.float32(SCALE_ERROR) * noise.standard_normal(inverse.shape, np.float32))
    nearer_low = (-128 + low * inverse) + (127 + high * inverse) > 0
    zero = np.clip(np.rint(np.where(nearer_low, -128 - low * inverse, 127 - high * inverse)), -128, 127)
    return ((np.clip(np.rint(states * inverse) + zero, -128, 127) - zero) / inverse).astype(np.float32)


def scale_and_zero(covered: Range, steps: int) -> tuple[np.float32, int]:
    """The scale of integers that cover a range, and which of them is 0: of 255 steps from -128 to 127 any, of more the middle one."""
    reach = max(covered.high, 0.0), min(covered.low, 0.0)
    if steps > 255:
        return np.float32(2 * max(reach[0], -reach[1]) / steps or 1.0), 0
    scale = np.float32((reach[0] - reach[1]) / steps or 1.0)
    return scale, round(-128 - reach[1] / float(scale))


def round_static(values: np.ndarray, covered: Range, steps: int) -> np.ndarray:
    """Activations rounded, ties to even, to the integers of a range that was calibrated beforehand; what lies beyond becomes the last one."""
    scale, zero = scale_and_zero(covered, steps)
    least, most = (-128, 127) if steps == 255 else (-32768, 32767)
    return (np.clip(np.rint(values * (np.float32(1) / scale)) + zero, least, most) - zero).astype(np.float32) * scale
