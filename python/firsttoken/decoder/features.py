"""What a decoder needs of a backend beyond linear layers, by names that refusals say."""

from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import norms

SLIDING_WINDOW = "a sliding window of attention"
SHARED_CACHE, KEYS_AS_VALUES = "layers that share an earlier one's keys and values", "keys that are the values too"
PER_LAYER, STORED_FACTOR = "embeddings of every layer", "a stored factor on a layer's output"
SHORT_CONVOLUTION = "short convolutions"
GATED_DELTA_NET, GATED_ATTENTION = "gated delta nets", "a gate on what attention gives"
STREAMS, LOW_RANK, CUTOFF = "several streams of the hidden state", "a low-rank way beside attention", "a cutoff of an MLP's gate"
CHOSEN_EXPERTS = "experts chosen per token"
UNDRAFTED = (SHORT_CONVOLUTION, GATED_DELTA_NET, STREAMS)
"""What drafts cannot be checked with: states out of which no token can be taken back, and layers that end in the last position alone."""


def features(decoder: Decoder) -> dict[str, str]:
    """What a backend must be able to compute beyond linear layers, each with the name of the first part that needs it."""
    needed: dict[str, str] = {}
    if decoder.per_layer is not None:
        needed[PER_LAYER] = "per_layer"
    if decoder.streams is not None:
        needed[STREAMS] = "streams"
    for name, norm in norms(decoder):
        if norm.centred or norm.bias is not None:
            needed.setdefault("LayerNorm", name)
    for number, block in enumerate(decoder.layers):
        attention, at = block.attention, f"layers.{number}.attention"
        needed.setdefault(f"{block.mlp.activation} in {'a gated' if block.mlp.gate else 'an ungated'} MLP", f"layers.{number}.mlp")
        if block.mlp.cutoff is not None:
            needed.setdefault(CUTOFF, f"layers.{number}.mlp.cutoff")
        if block.low_rank is not None:
            needed.setdefault(LOW_RANK, f"layers.{number}.low_rank")
        if block.mlp.router is not None:
            needed.setdefault(CHOSEN_EXPERTS, f"layers.{number}.mlp.router")
        if attention is None:
            mixer = (SHORT_CONVOLUTION, "convolution") if block.convolution else (GATED_DELTA_NET, "delta")
            needed.setdefault(mixer[0], f"layers.{number}.{mixer[1]}")
            continue
        if attention.gate is not None:
            needed.setdefault(GATED_ATTENTION, at)
        needed.setdefault("rotary positions" if attention.rotation else "attention without positions", at)
        if attention.q_norm or attention.k_norm or attention.v_norm:
            needed.setdefault("norms of query and key heads", at)
        if attention.shares is not None:
            needed.setdefault(SHARED_CACHE, at)
        elif attention.v is None:
            needed.setdefault(KEYS_AS_VALUES, at)
        if block.factor is not None:
            needed.setdefault(STORED_FACTOR, f"layers.{number}")
        if attention.core.window is not None:
            needed.setdefault(SLIDING_WINDOW, f"{at}.core")
        if attention.core.softcap is not None:
            needed.setdefault("a cap on attention scores", f"{at}.core")
    if decoder.softcap is not None:
        needed.setdefault("a cap on logits", "head")
    return needed
