"""What a proof takes of memory, estimated before it starts; measured as `preflight` says, and erring upwards."""

import math
from collections.abc import Mapping

from firsttoken.backends.stored import stored_bytes
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import convolution_states, plan_layers, recurrent_states, states
from firsttoken.prove.windows import proof_limits

# The runtime and numpy; the loaded file with its packed copy, one layer in FP32 as it is and as the plan rounds it, and the logits of the
# reference and of the twin with and without noise, which are fewer.
BASE_BYTES, WEIGHT_COPIES = 450 << 20, 2.0
LARGEST_TENSORS = 5  # of a layer, in FP32 at once
LOGIT_COPIES, STATE_COPIES = 2, 5  # of a walk through the whole cache, the states inside an MLP


def proof_memory(decoder: Decoder, precisions: Mapping[str, str], cache_length: int) -> int:
    """Peak resident bytes of proving a bundle on the host."""
    layers = plan_layers(decoder)
    weights, _ = stored_bytes(layers, precisions, shares_tied=False)
    largest = max(math.prod(layer.shape) for layer in layers if layer.shape and layer.kind == "linear" and layer.name != "head")
    logits = LOGIT_COPIES * proof_limits(decoder)[1] * decoder.vocab_size * 4
    widest = max(max(layer.shape) for layer in layers if layer.shape and layer.kind == "linear" and layer.name != "head")
    activations = STATE_COPIES * cache_length * widest * 4
    if decoder.streams is not None:
        activations += STATE_COPIES * cache_length * decoder.streams.count * decoder.hidden_size * 4
    cache = sum(4 * 2 * cache_length * state.kv_heads * state.head_dim for state in states(decoder))
    cache += sum(4 * state.rows * state.channels for state in convolution_states(decoder))
    cache += sum(4 * state.heads * state.key_dim * state.value_dim for state in recurrent_states(decoder))
    return BASE_BYTES + int(WEIGHT_COPIES * weights) + LARGEST_TENSORS * 4 * largest + logits + activations + cache
