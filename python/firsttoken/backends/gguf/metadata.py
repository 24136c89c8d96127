"""What a GGUF file says of the model: sizes, epsilons, factors, windows and rotations, from the decoder's tree and its configuration."""

from typing import Any

from firsttoken.backends.gguf.families import Written, core_of
from firsttoken.backends.gguf.rotation import Rotations, rotations
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.text_part import text_configuration
from firsttoken.decoder.walk import norms
from firsttoken.gguf_file.known_architectures import ARCHITECTURES


def describe(decoder: Decoder, config: dict, written: Written) -> tuple[dict[str, Any], Rotations]:
    """The keys behind the architecture's name, and the rotation's; ``decoder`` with all its windows, ``config`` the checkpoint's. Raises `FirstTokenError`."""
    values = text_configuration(config)
    turned, core = rotations(decoder, values, written), core_of(decoder.layers[0])
    [epsilon] = {norm.epsilon for _, norm in norms(decoder)}
    keys: dict[str, Any] = {
        "vocab_size": decoder.vocab_size,
        "context_length": _context(decoder, written),
        "embedding_length": decoder.hidden_size,
        "block_count": len(decoder.layers),
        "feed_forward_length": decoder.layers[0].mlp.up.rows,
        "attention.head_count": core.heads,
        "attention.head_count_kv": core.kv_heads,
        "attention.key_length": core.head_dim,
        "attention.value_length": core.head_dim,
        "attention.layer_norm_rms_epsilon": float(epsilon),
        **turned.keys,
    }
    if core.softcap is not None:
        keys["attn_logit_softcapping"] = float(core.softcap)
    if decoder.softcap is not None:
        keys["final_logit_softcapping"] = float(decoder.softcap)
    if written.factors:
        keys |= {key: float(values.get(name) or 1.0) for key, name in ARCHITECTURES[written.architecture].numbers.items()}
    return keys | _windows(decoder, written), turned


def _context(decoder: Decoder, written: Written) -> int:
    """The positions that the file may be used for: of a model whose window llama.cpp does not have, those that never leave it."""
    kept = [core_of(block).window for block in decoder.layers if core_of(block).window is not None]
    return min([decoder.max_positions, *kept]) if kept and not written.windowed else decoder.max_positions


def _windows(decoder: Decoder, written: Written) -> dict[str, Any]:
    found = [core_of(block).window for block in decoder.layers]
    sizes = {window for window in found if window is not None}
    if not written.windowed or not sizes:
        return {}
    keys: dict[str, Any] = {"attention.sliding_window": min(sizes)}
    if [window is not None for window in found] != [(number + 1) % written.every != 0 for number in range(len(found))]:
        keys["attention.sliding_window_pattern"] = [window is not None for window in found]
    return keys
