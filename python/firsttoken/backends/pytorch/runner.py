"""A checkpoint as a runner: the traversal in FP32 with PyTorch."""

import numpy as np

from firsttoken.backends.runner import Runner, RunnerFacts
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder import forward
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import Named, convolution_states
from firsttoken.extras import need


class CheckpointRunner(Runner):
    """Holds the model in FP32, four bytes of memory a weight. ``manifest`` says what a runner reads of a bundle's."""

    def __init__(self, checkpoint: Checkpoint, decoder: Decoder, manifest: RunnerFacts) -> None:
        need("distill", f"letting checkpoint {checkpoint.folder} answer")
        from firsttoken.backends.pytorch.weights import TorchWeights

        super().__init__(manifest)
        self._decoder, self.all_can_be_taken_back = decoder, not convolution_states(decoder)
        self._weights: TorchWeights | None = TorchWeights(checkpoint, decoder, self.cache_length)

    def _prefill(self, tokens: np.ndarray) -> np.ndarray:
        import torch

        from firsttoken.backends.pytorch.ops import TorchOps

        assert self._weights is not None, "the runner is closed"
        with torch.no_grad():
            ops = TorchOps(self._weights, torch.from_numpy(tokens.astype(np.int64)), self.position)
            return forward.logits(ops, Named(self._decoder))[-1].numpy()

    def _decode(self, token: int) -> np.ndarray:
        return self._prefill(np.array([token]))

    def close(self) -> None:
        self._weights = None
