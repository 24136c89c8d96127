"""The decoder as one module that torch.export takes with dynamic lengths.

Module names are the plan's layer names: ``embedding``, ``layers.N.attention.q``, ..., ``layers.N.mlp.down``, ``head``.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from firsttoken.decoder.attention import compute_dtype
from firsttoken.decoder.block import ALL_FP32, Block
from firsttoken.decoder.config import DecoderConfig
from firsttoken.decoder.norm import RmsNorm
from firsttoken.decoder.rotary import Places


class Decoder(nn.Module):
    """Decoder of the Llama family tree with its KV cache in buffers.

    ``precisions`` maps every plan layer to a precision, as `Plan.resolve` returns it (default: all fp32). Built under
    ``torch.device("meta")`` it takes no memory for weights; only constants, cache and tables are real.
    """

    def __init__(self, config: DecoderConfig, cache_length: int, precisions: Mapping[str, str] | None = None):
        super().__init__()
        self.config, self.cache_length = config, cache_length
        if precisions is None:
            names = [f"layers.{n}.{part}" for n in range(config.layer_count) for part in ALL_FP32]
            precisions = dict.fromkeys(["embedding", *names, "head"], "fp32")
        table_dtype = compute_dtype(precisions["embedding"])
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_size, dtype=table_dtype).requires_grad_(False)
        self.layers = nn.ModuleList(
            Block(config, cache_length, {part: precisions[f"layers.{n}.{part}"] for part in ALL_FP32}) for n in range(config.layer_count)
        )
        self.norm = RmsNorm(config.hidden_size, config.norm_epsilon)
        self.head_dtype = compute_dtype(precisions["head"])
        self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False, dtype=self.head_dtype).requires_grad_(False)
        rotate_in = {dtype for block in self.layers for dtype in block.attention.rotates_in}
        mask_in = {block.attention.dtypes["core"] for block in self.layers}
        self.places = Places(config, cache_length, sorted(rotate_in, key=str), sorted(mask_in, key=str))

    def forward(self, tokens: Tensor, position: Tensor, mask: Tensor) -> Tensor:
        """Appends S tokens to the cache and returns the last one's logits, float32 ``[1, 1, vocab_size]``.

        tokens: int64 ``[1, S]``. position: int64 ``[1]``, tokens already in the cache. mask: float32 ``[S, T]``, added to
        the scores (0 where a token may look, `MASKED` elsewhere); T says how many rows of the cache are read.
        """
        place = self.places(position, mask)
        hidden = self.embedding(tokens).to(torch.float32)
        for block in self.layers:
            hidden = block(hidden, place)
        hidden = self.norm(hidden[:, -1:, :])  # only the last position is ever sampled
        return self.head(hidden.to(self.head_dtype)).to(torch.float32)
