"""Rotary position embedding: the frequencies of the scaling kinds the supported families use.

Every kind here is fixed once the configuration is known (it does not depend on the sequence), so it comes down
to a vector of inverse frequencies and one factor on cos and sin. Kinds that turn differently in a longer sequence
(``longrope``, ``dynamic``) are taken as they are up to the positions where that begins: `fixed_positions`, or all that the model was trained for.
Sources: RoPE, Su et al. 2021 (arXiv 2104.09864); YaRN, Peng et al. 2023 (arXiv 2309.00071); LongRoPE, Ding et al. 2024
(arXiv 2402.13753); the Llama 3.1 model card.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from firsttoken.decoder.config_json import Config
from firsttoken.errors import FirstTokenError
from firsttoken.safe_text import visible

# Kind of scaling -> its own parameters.
SUPPORTED: dict[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    "yarn": (
        "factor", "original_max_position_embeddings", "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate",
    ),
    "longrope": ("factor", "original_max_position_embeddings", "attention_factor", "short_factor", "long_factor"),
    "dynamic": ("factor", "original_max_position_embeddings", "alpha"),
}  # fmt: skip
COMMON = ("rope_type", "type", "rope_theta", "partial_rotary_factor")


@dataclass(frozen=True)
class Rope:
    """Inverse frequencies ``[head_dim / 2]`` in radians per position, 0 for values that are not turned, and the factor on cos and sin of the others."""

    inverse_frequencies: tuple[float, ...]
    factor: float = 1.0

    @property
    def factors(self) -> np.ndarray:
        """The factor on cos and sin of every frequency, float32 ``[head_dim / 2]``, or ``[1]`` where it is the same for all."""
        if self.factor == 1 or all(self.inverse_frequencies):
            return np.full(1, self.factor, np.float32)
        return np.where(np.array(self.inverse_frequencies) == 0, 1, self.factor).astype(np.float32)

    def angles(self, positions: np.ndarray) -> np.ndarray:
        """Angles in float32, ``[positions, head_dim / 2]``."""
        return positions.astype(np.float32)[:, None] * np.array(self.inverse_frequencies, np.float32)


def rope_from_config(
    config: Config,
    head_dim: int,
    max_positions: int,
    *,
    kind_of_layer: str | None = None,
    theta: float = 10_000.0,
    rotary: float = 1.0,
    own: Sequence[str] = (),
) -> Rope:
    """Builds the frequencies from a Hugging Face ``config.json`` (old ``rope_theta``/``rope_scaling`` or new ``rope_parameters``).

    ``kind_of_layer`` ("sliding_attention", …) picks the parameters of a model that has them by kind. ``theta`` and ``rotary`` (the
    part of a head that is turned) are the family's defaults, ``own`` the parameters that it reads itself. Where less than a whole
    head is turned, the other frequencies are 0: see `row_order` for where they stand.

    Raises `FirstTokenError` for a kind or a parameter that is not in `SUPPORTED`, or parameters that make no sense.
    """
    scaling = parameters(config, kind_of_layer)
    theta = _number(scaling, "rope_theta", config.get("rope_theta", theta))
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if not isinstance(kind, str) or kind not in SUPPORTED:
        raise FirstTokenError(f"config.json: rope scaling kind {kind!r} is not supported; expected one of {', '.join(SUPPORTED)}")
    expected = (*COMMON, *SUPPORTED[kind], *own)
    unknown = [key for key, value in scaling.items() if key not in expected and value not in (None, False, [], {})]
    if unknown:
        raise FirstTokenError(
            f"config.json: rope parameter {visible(unknown[0], 80)!r} is not one of the kind {kind!r}, so it may change what the model computes; "
            f"expected {', '.join(expected)}"
        )
    original = config.get("original_max_position_embeddings")
    if original is not None:  # transformers lets this place win
        scaling["original_max_position_embeddings"] = original
    if theta <= 1:
        raise FirstTokenError(f"config.json: rope_theta {theta} is absurd; expected a number above 1")
    turned = rotary_size(config, head_dim, rotary, kind_of_layer)
    if kind == "dynamic" and scaling.get("alpha"):  # a fixed stretch of the base (Hunyuan)
        theta *= _number(scaling, "alpha", minimum=1.0) ** (turned / (turned - 2))
    # float32 and this order of operations, so that the angles equal those the model was trained with
    base = (1.0 / (np.float32(theta) ** (np.arange(0, turned, 2, dtype=np.float32) / np.float32(turned)))).astype(np.float32)
    factor = 1.0
    if kind == "linear":
        base = base / np.float32(_number(scaling, "factor", minimum=1.0))
    elif kind == "llama3":
        base = _llama3(base, scaling, max_positions)
    elif kind == "yarn":
        base, factor = _yarn(scaling, turned, theta, max_positions)
    elif kind == "longrope":
        base, factor = _longrope(base, scaling, max_positions)
    return Rope((*(float(f) for f in base), *[0.0] * ((head_dim - turned) // 2)), factor)


def proportional_rope(scaling: dict, head_dim: int, theta: float) -> Rope:
    """Frequencies of Gemma 4's kind ``proportional``: the first part of a whole head's, the others do not turn.

    The pairs are those of a whole head, so rows stay in their order, unlike where `rope_from_config` turns part of a head.
    """
    unknown = [key for key, value in scaling.items() if key not in (*COMMON, "factor") and value not in (None, False, [], {})]
    if unknown:
        raise FirstTokenError(
            f"config.json: rope parameter {visible(unknown[0], 80)!r} is not one of the kind 'proportional'; expected {', '.join(COMMON)}, factor"
        )
    part, theta = _number(scaling, "partial_rotary_factor", 1.0), _number(scaling, "rope_theta", theta)
    turned = int(part * head_dim // 2)
    if not 0 < part <= 1 or not turned or theta <= 1:
        raise FirstTokenError(
            f"config.json: partial_rotary_factor {part} of a head of {head_dim} values with rope_theta {theta}; expected a part that is at "
            "least two values, and a base above 1"
        )
    powers = np.float32(theta) ** (np.arange(0, 2 * turned, 2, dtype=np.float32) / np.float32(head_dim))
    frequencies = (1.0 / powers).astype(np.float32) / np.float32(_number(scaling, "factor", 1.0, minimum=1.0))
    return Rope((*(float(f) for f in frequencies), *[0.0] * (head_dim // 2 - turned)))


def parameters(config: Config, kind_of_layer: str | None = None) -> dict:
    """The rope parameters of the kind of layer, or of all. Raises `FirstTokenError` for parameters by kind in a family that knows none."""
    scaling: dict = {}
    for key in ("rope_scaling", "rope_parameters"):
        values = config.get(key, {})
        if not isinstance(values, dict):
            raise FirstTokenError(f"config.json: {key} is {values!r}; expected an object or null")
        scaling.update(values)
    nested = [key for key, value in scaling.items() if isinstance(value, dict)]
    if kind_of_layer is not None and nested:
        return dict(scaling[kind_of_layer]) if kind_of_layer in nested else {}
    if nested:
        raise FirstTokenError(
            f"config.json: rope parameters of their own for {nested[0]!r} layers are not supported in a {config.get('model_type')} decoder"
        )
    return scaling


def fixed_positions(config: Config, most: int) -> int:
    """How many positions the rotation is the same for: ``most``, or those after which longrope takes other factors."""
    for scaling in (config.get("rope_scaling", {}), config.get("rope_parameters", {})):
        if isinstance(scaling, dict) and scaling.get("rope_type", scaling.get("type")) == "longrope":
            original = config.get("original_max_position_embeddings", scaling.get("original_max_position_embeddings"))
            most = min(most, int(_number({"original_max_position_embeddings": original}, "original_max_position_embeddings", minimum=1)))
    return most


def rotary_size(config: Config, head_dim: int, default: float = 1.0, kind_of_layer: str | None = None) -> int:
    """How many values of a head are turned, an even number. Raises `FirstTokenError` for an odd or absurd part."""
    part = _number(parameters(config, kind_of_layer), "partial_rotary_factor", config.get("partial_rotary_factor", default))
    turned = int(head_dim * part)
    if not 0 < part <= 1 or turned < 2 or turned % 2 or (head_dim - turned) % 2:
        raise FirstTokenError(
            f"config.json: partial_rotary_factor {part} of a head of {head_dim} values; expected a part that is an even number of values"
        )
    return turned


def row_order(head_dim: int, turned: int, pairs: bool) -> tuple[int, ...] | None:
    """In which order the rows of a query or key head are read, so that value i is turned with value ``i + head_dim / 2``; None: as they are.

    ``pairs``: the model turns neighbours, (0, 1), (2, 3), …; else value i with ``i + turned / 2``. Values that are not turned go
    behind the turned ones in each half, where the frequencies are 0.
    """
    first, second = (range(0, turned, 2), range(1, turned, 2)) if pairs else (range(turned // 2), range(turned // 2, turned))
    rest = range(turned, head_dim)
    order = (*first, *rest[: len(rest) // 2], *second, *rest[len(rest) // 2 :])
    return None if order == tuple(range(head_dim)) else order


def _number(values: dict, key: str, default: float | None = None, minimum: float | None = None) -> float:
    value = values.get(key)
    value = default if value is None else value
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if value is None or not number or (minimum is not None and value < minimum):
        wanted = "a number" if minimum is None else f"a number of at least {minimum:g}"
        raise FirstTokenError(f"config.json: rope parameter {key!r} is {value!r}; expected {wanted}")
    return float(value)


def _llama3(base: np.ndarray, scaling: dict, max_positions: int) -> np.ndarray:
    factor = _number(scaling, "factor", minimum=1.0)
    low, high = _number(scaling, "low_freq_factor"), _number(scaling, "high_freq_factor")
    original = _number(scaling, "original_max_position_embeddings", max_positions, minimum=1)
    if not 0 < low < high:
        raise FirstTokenError(f"config.json: llama3 rope needs 0 < low_freq_factor < high_freq_factor, got {low} and {high}")
    wavelength = 2 * math.pi / base
    smooth = (original / wavelength - low) / (high - low)
    blended = (1 - smooth) * base / factor + smooth * base
    scaled = np.where(wavelength > original / low, base / factor, base)
    medium = ~(wavelength < original / high) & ~(wavelength > original / low)
    return np.where(medium, blended, scaled).astype(np.float32)


def _yarn(scaling: dict, head_dim: int, theta: float, max_positions: int) -> tuple[np.ndarray, float]:
    original = _number(scaling, "original_max_position_embeddings", max_positions, minimum=1)
    factor = _number(scaling, "factor", max_positions / original, minimum=1.0)

    def scale(by: float, strength: float = 1.0) -> float:
        return 1.0 if by <= 1 else 0.1 * strength * math.log(by) + 1.0

    attention = scaling.get("attention_factor")
    if attention is None:
        strength, strength_all = _number(scaling, "mscale", 0), _number(scaling, "mscale_all_dim", 0)
        attention = scale(factor, strength) / scale(factor, strength_all) if strength and strength_all else scale(factor)
    fast, slow = _number(scaling, "beta_fast", 32), _number(scaling, "beta_slow", 1)

    def dimension(rotations: float) -> float:
        return head_dim * math.log(original / (rotations * 2 * math.pi)) / (2 * math.log(theta))

    low, high = dimension(fast), dimension(slow)
    if scaling.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    ramp = np.clip((np.arange(head_dim // 2, dtype=np.float32) - low) / max(high - low, 0.001), 0, 1)
    keep = 1 - ramp
    powers = np.float32(theta) ** (np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim))
    frequencies = (1.0 / (np.float32(factor) * powers)) * (1 - keep) + (1.0 / powers) * keep
    return frequencies.astype(np.float32), _number({"attention_factor": attention}, "attention_factor", minimum=0.0)


def _longrope(base: np.ndarray, scaling: dict, max_positions: int) -> tuple[np.ndarray, float]:
    """The frequencies of sequences up to the original length, and the factor that stands for the whole."""
    original = _number(scaling, "original_max_position_embeddings", minimum=2)
    short, long = (scaling.get(key) for key in ("short_factor", "long_factor"))
    for key, values in (("short_factor", short), ("long_factor", long)):
        if not isinstance(values, list) or len(values) != len(base):
            raise FirstTokenError(
                f"config.json: rope parameter {key!r} is {visible(repr(values), 60)}; expected a list of {len(base)} numbers"
            )
    factors = np.array([_number({"short_factor": value}, "short_factor", minimum=1e-6) for value in short], np.float32)  # type: ignore[union-attr]
    factor = _number(scaling, "factor", max_positions / original)
    attention = scaling.get("attention_factor")
    if attention is None:
        attention = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
    return (base / factors).astype(np.float32), _number({"attention_factor": attention}, "attention_factor", minimum=0.0)
