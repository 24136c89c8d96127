"""The parts of decoders that a backend may have or lack, by the names of `decoder.features`."""

from firsttoken.decoder.features import (
    CHOSEN_EXPERTS,
    CUTOFF,
    GATED_ATTENTION,
    GATED_DELTA_NET,
    KEYS_AS_VALUES,
    LOW_RANK,
    PER_LAYER,
    SHARED_CACHE,
    SHORT_CONVOLUTION,
    SLIDING_WINDOW,
    STORED_FACTOR,
    STREAMS,
)

ALL = frozenset(
    {
        "rotary positions", "attention without positions", "norms of query and key heads", "LayerNorm", SLIDING_WINDOW, SHORT_CONVOLUTION,
        "a cap on attention scores", "a cap on logits", "silu in a gated MLP", "gelu_tanh in a gated MLP", "relu2 in an ungated MLP",
    }
)  # fmt: skip
LAYERED = frozenset({SHARED_CACHE, KEYS_AS_VALUES, PER_LAYER, STORED_FACTOR})  # `decoder.forward.LayeredOps`
RECURRENT = frozenset({GATED_DELTA_NET, GATED_ATTENTION})  # `decoder.forward.RecurrentOps`
STREAMED = LAYERED | {STREAMS, LOW_RANK, CUTOFF}  # `decoder.forward.StreamedOps`
WITHOUT_CONVOLUTIONS = ALL - {SHORT_CONVOLUTION}
"""Of backends whose calls have no place for what a convolution remembers."""
CHOOSING = frozenset({CHOSEN_EXPERTS})  # `decoder.forward.ChoosingOps`
