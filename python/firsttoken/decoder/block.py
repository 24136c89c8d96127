"""One layer of the decoder, usable alone."""

from collections.abc import Mapping

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from firsttoken.decoder.attention import Attention, compute_dtype
from firsttoken.decoder.config import DecoderConfig
from firsttoken.decoder.norm import RmsNorm
from firsttoken.decoder.rotary import Place

ATTENTION_PARTS = ("q", "k", "v", "core", "output")
MLP_PARTS = ("gate", "up", "down")
ALL_FP32 = {**{f"attention.{part}": "fp32" for part in ATTENTION_PARTS}, **{f"mlp.{part}": "fp32" for part in MLP_PARTS}}


class Mlp(nn.Module):
    """SwiGLU: ``down(silu(gate(x)) * up(x))`` (Shazeer 2020, arXiv 2002.05202)."""

    def __init__(self, config: DecoderConfig, precisions: Mapping[str, str]):
        super().__init__()
        self.dtypes = {part: compute_dtype(precisions[part]) for part in MLP_PARTS}

        def linear(part: str, columns: int, rows: int) -> nn.Linear:
            return nn.Linear(columns, rows, bias=config.mlp_bias, dtype=self.dtypes[part]).requires_grad_(False)

        self.gate = linear("gate", config.hidden_size, config.mlp_size)
        self.up = linear("up", config.hidden_size, config.mlp_size)
        self.down = linear("down", config.mlp_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """Takes and returns float32 ``[1, S, hidden_size]``."""
        gate, up = self.dtypes["gate"], self.dtypes["up"]
        narrow = x.to(torch.float16) if torch.float16 in (gate, up) else x
        gated = functional.silu(self.gate(narrow if gate == torch.float16 else x))
        raised = self.up(narrow if up == torch.float16 else x)
        if gate != up:
            gated, raised = gated.to(torch.float32), raised.to(torch.float32)
        return self.down((gated * raised).to(self.dtypes["down"])).to(torch.float32)


class Block(nn.Module):
    """Attention and MLP, each behind a norm and added to the residual, which stays float32.

    ``precisions`` maps ``attention.q`` ... ``mlp.down`` to a precision (default: all fp32). With ``cache_length`` 0
    there is no cache and a call sees only its own tokens, so that a whole text can go through one layer at a time::

        block = load_block(checkpoint, config, index, Block(config))
        hidden = block(hidden, Places(config, length)(torch.tensor([0]), causal_mask(length)))
    """

    def __init__(self, config: DecoderConfig, cache_length: int = 0, precisions: Mapping[str, str] = ALL_FP32):
        super().__init__()
        self.attention_norm = RmsNorm(config.hidden_size, config.norm_epsilon)
        self.attention = Attention(config, cache_length, {part: precisions[f"attention.{part}"] for part in ATTENTION_PARTS})
        self.mlp_norm = RmsNorm(config.hidden_size, config.norm_epsilon)
        self.mlp = Mlp(config, {part: precisions[f"mlp.{part}"] for part in MLP_PARTS})

    def forward(self, hidden: Tensor, place: Place) -> Tensor:
        """Takes and returns float32 ``[1, S, hidden_size]``."""
        hidden = hidden + self.attention(self.attention_norm(hidden), place)
        return hidden + self.mlp(self.mlp_norm(hidden))
