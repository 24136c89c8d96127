"""A method that checks drafts against decoding: the same tokens, the same logits, and no trace of a draft that was not taken."""

import numpy as np

from firsttoken.backends.runner import Runner
from firsttoken.bundle.draft_facts import DraftProof
from firsttoken.prove.divergence import diverge_at

STARTS = (5, 60, 124, 253)  # tokens in the cache before: also such that a call goes over the rows where runtimes round up, 64, 128 and 256


def prove_drafts(runner: Runner, tokens: np.ndarray, vocab_size: int) -> DraftProof | None:
    """Decodes stretches of ``tokens`` one by one and checks them in calls of several, half of one being wrong; None where the artifact has nothing for it.

    ``tokens`` repeat where there are too few; logits count up to ``vocab_size``.
    """
    count = runner.draft_tokens + 1
    if count == 1:
        return None
    fitting = [start for start in STARTS if start + 2 * count <= runner.cache_length]
    starts = sorted({*fitting, max(1, runner.cache_length - 2 * count)}) if runner.cache_length > 2 * count else [1]
    wanted, got = [], []
    for start in starts:
        text = np.resize(tokens, min(start + 2 * count, runner.cache_length)).astype(np.int32)
        wanted += decoded(runner, text[:start], text[start:])
        got += checked(runner, text[:start], text[start:], vocab_size)
    one, other = (np.stack(rows)[:, :vocab_size] for rows in (wanted, got))
    divergence = [max(0.0, diverge_at(b, a, 0)[0]) for a, b in zip(one, other, strict=True)]
    return DraftProof(
        equal_bits=bool((one == other).all()),
        mean_kld=float(np.mean(divergence)),
        worst_kld=float(np.max(divergence)),
        same_top=float((one.argmax(1) == other.argmax(1)).mean()),
        positions=len(one),
    )


def decoded(runner: Runner, before: np.ndarray, after: np.ndarray) -> list[np.ndarray]:
    """The logits of every token of ``after``, decoded one by one."""
    runner.reset()
    runner.prefill(before)
    return [runner.decode(int(token)).copy() for token in after]


def checked(runner: Runner, before: np.ndarray, after: np.ndarray, vocab_size: int) -> list[np.ndarray]:
    """The same with a call whose second half is wrong and not taken, one token decoded behind it, and calls that are right."""
    runner.reset()
    runner.prefill(before)
    count = runner.draft_tokens + 1
    right = max(1, min(count, len(after)) // 2)
    first = after[: min(count, len(after))].copy()
    first[right:] = (first[right:] + 1) % vocab_size
    rows = list(runner.check(first)[:right].copy())
    runner.accept(right)
    rows += [runner.decode(int(token)).copy() for token in after[right : right + 1]]
    for begin in range(right + 1, len(after), count):
        piece = after[begin : begin + count]
        rows += list(runner.check(piece).copy())
        runner.accept(len(piece))
    return rows
