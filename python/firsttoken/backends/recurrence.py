"""How many tokens a call takes of a model with delta rules, which are computed over a call's own tokens with matrices of all pairs."""

from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import delta_rules
from firsttoken.targets.target import Target

CHUNK = 64
"""The most tokens of one call: inverting the matrix of a call costs the cube of its tokens, log2 of them times."""


def block_sizes(tokens: int) -> list[int]:
    """1, 2, 4, … below ``tokens``: the sizes of diagonal blocks after which all of so many rows are one block."""
    return [1 << n for n in range(max(1, (tokens - 1).bit_length()))]


def with_short_calls(target: Target, decoder: Decoder) -> Target:
    """The target with calls of at most `CHUNK` tokens, where the decoder has delta rules; else the target as it is."""
    if target.prefill_chunk <= CHUNK or not delta_rules(decoder):
        return target
    return target.model_copy(update={"prefill_chunk": CHUNK})


def short_calls_note(decoder: Decoder) -> str | None:
    """What whoever exports should hear of it; None where calls are as long as the target's."""
    if not delta_rules(decoder):
        return None
    return f"prompts of this model go in with {CHUNK} tokens a call at most: what its gated delta nets cost grows with the square and cube of a call's tokens"
