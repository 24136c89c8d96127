"""Choosing the next token from logits."""

import numpy as np

from firsttoken.errors import FirstTokenError


class Sampler:
    """Picks tokens below ``vocab_size`` (the tokenizer's; a checkpoint may pad its vocabulary beyond it).

    ``temperature`` 0 takes the most likely token; above, tokens are drawn with probability ``softmax(logits / temperature)``
    from a generator started with ``seed``, after three filters in this order: ``top_k`` leaves that many of the most likely tokens (0: all),
    ``top_p`` of what is left the most likely ones that together have this share of the probability (1: all; Holtzman et al., The Curious Case of
    Neural Text Degeneration, 2020), ``min_p`` those at least that many times as likely as the most likely one (0: all; Nguyen et al., Turning
    Up the Heat, 2024). Tokens as likely as the last that is left are left too. The app's ``Sampler.kt`` does the same sums in the same order.
    Raises `FirstTokenError` for a setting that cannot be.
    """

    def __init__(
        self, vocab_size: int, temperature: float = 0.0, seed: int = 0, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0
    ) -> None:
        if not 0 <= temperature < float("inf"):
            raise FirstTokenError(f"temperature is {temperature}; expected 0 (the most likely token) or a positive number such as 0.8")
        if seed < 0:
            raise FirstTokenError(f"seed is {seed}; expected 0 or a positive whole number")
        if top_k < 0:
            raise FirstTokenError(f"top-k is {top_k}; expected 0 (all tokens) or a positive whole number such as 40")
        if not 0 < top_p <= 1:
            raise FirstTokenError(f"top-p is {top_p}; expected a share above 0, up to 1 (all tokens), such as 0.9")
        if not 0 <= min_p <= 1:
            raise FirstTokenError(f"min-p is {min_p}; expected 0 (all tokens) to 1, such as 0.05")
        self.vocab_size, self.temperature = vocab_size, temperature
        self.top_k, self.top_p, self.min_p = top_k, top_p, min_p
        self._random = np.random.default_rng(seed)

    def pick(self, logits: np.ndarray) -> int:
        """Returns a token for logits ``[model's vocabulary]``. Raises `FirstTokenError` if one is not a number."""
        usable = logits[: self.vocab_size]
        best = int(usable.argmax())  # numpy's argmax finds a NaN first
        if not np.isfinite(usable[best]):
            raise FirstTokenError("the artifact computed logits that are not numbers; prove the bundle again with `firsttoken prove`")
        if self.temperature == 0:
            return best
        weights = self.weights(logits)
        # the draw is below the sum, so the place found is a token of non-zero weight
        return int(np.searchsorted(weights.cumsum(), self._random.random() * weights.sum(), side="right").clip(0, self.vocab_size - 1))

    def weights(self, logits: np.ndarray) -> np.ndarray:
        """What the tokens are drawn by, float64 ``[vocab_size]``: 1 for the most likely, 0 for those that are filtered out.

        The temperature must not be 0.
        """
        usable = logits[: self.vocab_size]
        weights = np.exp((usable.astype(np.float64) - float(usable.max())) / self.temperature)
        if 0 < self.top_k < len(weights):
            weights[usable < np.partition(usable, -self.top_k)[-self.top_k]] = 0.0
        if self.top_p < 1:
            ordered = np.sort(weights)[::-1]
            sums = ordered.cumsum()  # one after the other, as the app adds them
            weights[weights < ordered[np.searchsorted(sums, self.top_p * sums[-1])]] = 0.0
        weights[weights < self.min_p] = 0.0
        return weights
