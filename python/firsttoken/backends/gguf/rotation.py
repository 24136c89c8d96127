"""How a GGUF file says a rotation: its base, a kind of stretching, or a divisor for every frequency; each compared with the model's own frequencies."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from firsttoken.backends.gguf.families import Written
from firsttoken.decoder.config_json import Config
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.rope import Rope, parameters
from firsttoken.errors import FirstTokenError

THETA = {"smollm3": 2_000_000.0, "gemma3_text": 1_000_000.0}  # where a config.json says none
CLOSE = 1e-5  # of a frequency: float32 powers differ in their last digits
FAST, SLOW = 32.0, 1.0  # llama.cpp's rotations of YaRN's ramp


@dataclass(frozen=True)
class Rotations:
    """``keys`` behind the architecture's name; ``divisors`` float32 ``[head_dim / 2]``, where every frequency has its own."""

    keys: dict[str, Any] = field(default_factory=dict)
    divisors: np.ndarray | None = None


def rotations(decoder: Decoder, values: dict, written: Written) -> Rotations:
    """What the file says of the model's rotation, ``values`` being its configuration. Raises `FirstTokenError` for one that llama.cpp has not."""
    ropes = {
        block.attention.rotation: block.attention.core.window for block in decoder.layers if block.attention and block.attention.rotation
    }
    config = Config(values)
    if written.windowed:
        return _by_kind(decoder, config, written, ropes)
    if len(ropes) != 1:
        raise _refused(decoder, written, f"{len(ropes)} rotations")
    [rope] = ropes
    return _one(decoder, rope, parameters(config), config, written)


def _by_kind(decoder: Decoder, config: Config, written: Written, ropes: dict[Rope, int | None]) -> Rotations:
    """Gemma's: layers in a window have a base of their own, where they have one, and are never stretched."""
    whole = next((rope for rope, window in ropes.items() if window is None), None) or next(iter(ropes))
    scaling = parameters(config, "full_attention")
    found = _one(decoder, whole, scaling, config, written)
    local = next((rope for rope, window in ropes.items() if window is not None), whole)
    if local == whole:  # llama.cpp's Gemma 3 turns layers in a window by 10000 unless the file says otherwise
        own = decoder.family == "gemma3_text" and any(window is not None for window in ropes.values())
        return Rotations({**found.keys, "rope.freq_base_swa": found.keys["rope.freq_base"]}, found.divisors) if own else found
    theta = parameters(config, "sliding_attention").get("rope_theta") or config.get("rope_local_base_freq", 10_000.0)
    _check(decoder, written, local, plain(float(theta), len(local.inverse_frequencies)))
    return Rotations({**found.keys, "rope.freq_base_swa": float(theta)}, found.divisors)


def _one(decoder: Decoder, rope: Rope, scaling: dict, config: Config, written: Written) -> Rotations:
    count = len(rope.inverse_frequencies)
    theta = float(scaling.get("rope_theta") or config.get("rope_theta", THETA.get(decoder.family, 10_000.0)))
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    keys: dict[str, Any] = {"rope.freq_base": theta, "rope.dimension_count": 2 * count}
    base, factor = plain(theta, count), float(scaling.get("factor") or 1.0)
    if kind != "default" and kind not in written.stretches:
        raise _refused(decoder, written, f"rope scaling {kind!r}")
    if kind == "llama3":
        # in float32 as the model's own were made, so that what is not stretched is divided by exactly 1
        single = (1.0 / (np.float32(theta) ** (np.arange(0, 2 * count, 2, dtype=np.float32) / np.float32(2 * count)))).astype(np.float32)
        return Rotations(keys, single / np.array(rope.inverse_frequencies, np.float32))
    if kind == "linear":
        keys |= {"rope.scaling.type": "linear", "rope.scaling.factor": factor}
        base = base / factor
    elif kind == "yarn":
        original = int(
            config.get("original_max_position_embeddings") or scaling.get("original_max_position_embeddings") or decoder.max_positions
        )
        factor = float(scaling.get("factor") or decoder.max_positions / original)
        keys |= {"rope.scaling.type": "yarn", "rope.scaling.factor": factor, "rope.scaling.original_context_length": original}
        base = yarn(base, theta, factor, original)
        if abs(rope.factor - (0.1 * math.log(factor) + 1)) > CLOSE:
            raise _refused(decoder, written, f"YaRN with a factor of {rope.factor:g} on cos and sin")
    elif rope.factor != 1:
        raise _refused(decoder, written, f"a factor of {rope.factor:g} on cos and sin")
    _check(decoder, written, rope, base)
    return Rotations(keys)


def plain(theta: float, count: int) -> np.ndarray:
    """Inverse frequencies float64 ``[count]`` (RoPE, arXiv 2104.09864)."""
    return theta ** -(np.arange(count) / count)


def yarn(base: np.ndarray, theta: float, factor: float, original: int) -> np.ndarray:
    """The same stretched as llama.cpp does (YaRN, arXiv 2309.00071, ramp from `FAST` to `SLOW` rotations, its ends whole numbers)."""
    size = 2 * len(base)

    def dimension(turns: float) -> float:
        return size * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low, high = max(0, math.floor(dimension(FAST))), min(size - 1, math.ceil(dimension(SLOW)))
    kept = 1 - np.clip((np.arange(len(base)) - low) / max(0.001, high - low), 0, 1)
    return base / factor * (1 - kept) + base * kept


def _check(decoder: Decoder, written: Written, rope: Rope, found: np.ndarray) -> None:
    """Raises `FirstTokenError` where what the file would say turns otherwise than the model."""
    if not np.allclose(np.array(rope.inverse_frequencies), found, rtol=CLOSE, atol=0):
        raise _refused(decoder, written, "rotation frequencies of its own (part of a head, or parameters that llama.cpp does not read)")


def _refused(decoder: Decoder, written: Written, what: str) -> FirstTokenError:
    return FirstTokenError(
        f"llama.cpp's {written.architecture!r} has no place for {what}, which this {decoder.family} has; nothing is exported"
    )
