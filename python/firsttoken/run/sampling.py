"""Choosing the next token from logits."""

import numpy as np

from firsttoken.errors import FirstTokenError


class Sampler:
    """Picks tokens below ``vocab_size`` (the tokenizer's; a checkpoint may pad its vocabulary beyond it).

    ``temperature`` 0 takes the most likely token; above, tokens are drawn with probability ``softmax(logits / temperature)``
    from a generator started with ``seed``. Raises `FirstTokenError` for a temperature that is negative or not a number.
    """

    def __init__(self, vocab_size: int, temperature: float = 0.0, seed: int = 0) -> None:
        if not 0 <= temperature < float("inf"):
            raise FirstTokenError(f"temperature is {temperature}; expected 0 (the most likely token) or a positive number such as 0.8")
        if seed < 0:
            raise FirstTokenError(f"seed is {seed}; expected 0 or a positive whole number")
        self.vocab_size, self.temperature = vocab_size, temperature
        self._random = np.random.default_rng(seed)

    def pick(self, logits: np.ndarray) -> int:
        """Returns a token for logits ``[model's vocabulary]``. Raises `FirstTokenError` if one is not a number."""
        usable = logits[: self.vocab_size]
        best = int(usable.argmax())  # numpy's argmax finds a NaN first
        if not np.isfinite(usable[best]):
            raise FirstTokenError("the artifact computed logits that are not numbers; prove the bundle again with `firsttoken prove`")
        if self.temperature == 0:
            return best
        weights = np.exp((usable.astype(np.float64) - float(usable[best])) / self.temperature)
        # the draw is below the sum, so the place found is a token of non-zero weight
        return int(np.searchsorted(weights.cumsum(), self._random.random() * weights.sum(), side="right").clip(0, self.vocab_size - 1))
