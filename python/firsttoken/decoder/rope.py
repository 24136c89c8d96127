"""Rotary position embedding: the frequencies of the scaling kinds the supported families use.

Every kind here is fixed once the configuration is known (it does not depend on the sequence), so it comes down
to a vector of inverse frequencies and one factor on cos and sin.
Sources: RoPE, Su et al. 2021 (arXiv 2104.09864); YaRN, Peng et al. 2023 (arXiv 2309.00071); the Llama 3.1 model card.
"""

import math
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
}  # fmt: skip
COMMON = ("rope_type", "type", "rope_theta", "partial_rotary_factor")


@dataclass(frozen=True)
class Rope:
    """Inverse frequencies ``[head_dim / 2]`` in radians per position and the factor on cos and sin."""

    inverse_frequencies: tuple[float, ...]
    factor: float = 1.0

    def angles(self, positions: np.ndarray) -> np.ndarray:
        """Angles in float32, ``[positions, head_dim / 2]``."""
        return positions.astype(np.float32)[:, None] * np.array(self.inverse_frequencies, np.float32)


def rope_from_config(config: Config, head_dim: int, max_positions: int) -> Rope:
    """Builds the frequencies from a Hugging Face ``config.json`` (old ``rope_theta``/``rope_scaling`` or new ``rope_parameters``).

    Raises `FirstTokenError` for a kind or a parameter that is not in `SUPPORTED`, or parameters that make no sense.
    """
    scaling: dict = {}
    for key in ("rope_scaling", "rope_parameters"):
        values = config.get(key, {})
        if not isinstance(values, dict):
            raise FirstTokenError(f"config.json: {key} is {values!r}; expected an object or null")
        scaling.update(values)
    nested = next((key for key, value in scaling.items() if isinstance(value, dict)), None)
    if nested:
        raise FirstTokenError(
            f"config.json: rope parameters of their own for {nested!r} layers are not supported (none of the supported families uses them)"
        )
    theta = _number(scaling, "rope_theta", config.get("rope_theta", 10_000.0))
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if not isinstance(kind, str) or kind not in SUPPORTED:
        raise FirstTokenError(f"config.json: rope scaling kind {kind!r} is not supported; expected one of {', '.join(SUPPORTED)}")
    if _number(scaling, "partial_rotary_factor", config.get("partial_rotary_factor", 1.0)) != 1.0:
        raise FirstTokenError("config.json: partial_rotary_factor other than 1 is not supported (none of the supported families uses it)")
    unknown = [key for key, value in scaling.items() if key not in COMMON + SUPPORTED[kind] and value not in (None, False, [], {})]
    if unknown:
        raise FirstTokenError(
            f"config.json: rope parameter {visible(unknown[0], 80)!r} is not one of the kind {kind!r}, so it may change what the model computes; "
            f"expected {', '.join(COMMON + SUPPORTED[kind])}"
        )
    original = config.get("original_max_position_embeddings")
    if original is not None:  # transformers lets this place win
        scaling["original_max_position_embeddings"] = original
    if theta <= 1:
        raise FirstTokenError(f"config.json: rope_theta {theta} is absurd; expected a number above 1")
    # float32 and this order of operations, so that the angles equal those the model was trained with
    base = (1.0 / (np.float32(theta) ** (np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)))).astype(np.float32)
    factor = 1.0
    if kind == "linear":
        base = base / np.float32(_number(scaling, "factor", minimum=1.0))
    elif kind == "llama3":
        base = _llama3(base, scaling, max_positions)
    elif kind == "yarn":
        base, factor = _yarn(scaling, head_dim, theta, max_positions)
    return Rope(tuple(float(f) for f in base), factor)


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
