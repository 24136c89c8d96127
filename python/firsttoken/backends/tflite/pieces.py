"""How many tokens of a prompt one call takes: fewer, the more rows it looks at, so that its attention scores need no more memory.

Scores are FP32 ``[heads, tokens, rows]``: at 256 tokens and 8,192 rows of 14 heads 119 MiB, where the model's own cache has 192. A later call
looks at more rows, and takes as many fewer tokens; matrix products of 64 rows are as fast a token as those of 256.

This module also runs inside the emulated ARM machine, where it imports nothing heavy.
"""

WHOLE = 2048  # rows up to which a call takes as many tokens as it may
LEAST = 32  # tokens


def piece_at(most: int, position: int) -> int:
    """Returns how many tokens a call takes at ``position``, of at most ``most``."""
    tokens = most
    while tokens // 2 >= LEAST and tokens * (position + tokens) > most * WHOLE:
        tokens //= 2
    return tokens


def largest_calls(most: int, cache_length: int) -> list[tuple[int, int]]:
    """Returns (tokens, cache rows passed) of the largest calls that there can be, the one over the whole cache first.

    The runtime's memory for inputs grows with the rows, and is copied, and so touched, when it grows again.
    """
    calls, tokens = [], most
    while tokens // 2 >= LEAST and most * WHOLE // tokens < cache_length:
        calls.append((tokens, most * WHOLE // tokens))
        tokens //= 2
    return [(min(tokens, cache_length), cache_length), *reversed(calls)]
