"""What the checkpoint itself computes, in FP32, read layer by layer from its files.

Every window goes through one layer before the next layer is read, so memory is one layer's weights plus the
activations, whatever the model's size. It is written apart from `firsttoken.decoder.model` on purpose: a mistake in our
decoder, which both exports are built from, would otherwise prove itself right.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.config import DecoderConfig
from firsttoken.progress import Report, silent

HEAD_ROWS = 8192  # rows of the vocabulary head in memory at once


def reference_logits(
    checkpoint: Checkpoint,
    config: DecoderConfig,
    windows: list[np.ndarray],
    positions: list[np.ndarray],
    vocab_size: int | None = None,
    report: Report = silent,
) -> list[np.ndarray]:
    """Returns float32 logits ``[len(positions[i]), vocab_size]`` for each window of token ids.

    ``positions[i]`` are the places in window ``i`` whose prediction of the next token is wanted; ``vocab_size`` cuts off
    padded rows (default: all). Raises `FirstTokenError` for missing or damaged weights.
    """
    with torch.no_grad():
        hidden = [embed(checkpoint, window) for window in windows]
        cosine, sine = rotation(config, max(map(len, windows)))
        rotations = [(cosine[: len(window)], sine[: len(window)]) for window in windows]
        for layer in range(config.layer_count):
            report("reference", layer, config.layer_count, "layers")
            weights = LayerWeights(checkpoint, layer)
            hidden = [block(weights, config, states, turned) for states, turned in zip(hidden, rotations, strict=True)]
        report("reference", config.layer_count, config.layer_count, "layers")
        wanted = [states[torch.from_numpy(np.asarray(places, np.int64))] for states, places in zip(hidden, positions, strict=True)]
        del hidden
        counts = [len(places) for places in positions]
        logits = head(checkpoint, config, torch.cat(wanted), vocab_size or config.vocab_size)
        return list(np.split(logits, np.cumsum(counts)[:-1]))


class LayerWeights:
    """One layer's tensors by the short names of the Hugging Face layout, read when asked for and not kept."""

    def __init__(self, checkpoint: Checkpoint, layer: int):
        self.checkpoint, self.prefix = checkpoint, f"model.layers.{layer}."
        self._kept: dict[str, Tensor] = {}

    def __call__(self, name: str) -> Tensor | None:
        if name not in self._kept:
            full = self.prefix + name
            if full not in self.checkpoint.tensors:
                return None
            shape = self.checkpoint.stored(full).shape
            self._kept[name] = torch.from_numpy(self.checkpoint.rows(full).reshape(shape).copy())
        return self._kept[name]

    def linear(self, name: str, states: Tensor) -> Tensor:
        return functional.linear(states, self(f"{name}.weight"), self(f"{name}.bias"))


def embed(checkpoint: Checkpoint, window: np.ndarray) -> Tensor:
    """Embeddings of a window ``[tokens, hidden]``, read one row at a time."""
    return torch.from_numpy(np.concatenate([checkpoint.rows("model.embed_tokens.weight", int(t), int(t) + 1) for t in window]))


def rotation(config: DecoderConfig, length: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine ``[length, head_dim / 2]`` of the rotary embedding, times the scaling kind's factor."""
    angles = torch.from_numpy(config.rope.angles(np.arange(length)))
    return angles.cos() * config.rope.factor, angles.sin() * config.rope.factor


def rms_norm(states: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """``x / sqrt(mean(x^2) + epsilon) * weight`` over the last axis (Zhang and Sennrich 2019, arXiv 1910.07467)."""
    return states * torch.rsqrt(states.square().mean(-1, keepdim=True) + epsilon) * weight


def rotate(states: Tensor, turned: tuple[Tensor, Tensor]) -> Tensor:
    """Turns the pairs ``(x[i], x[i + d/2])`` of ``[heads, tokens, head_dim]`` by their position's angles."""
    cosine, sine = turned
    first, second = states.chunk(2, dim=-1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)


def block(weights: LayerWeights, config: DecoderConfig, states: Tensor, turned: tuple[Tensor, Tensor]) -> Tensor:
    """One decoder layer over a whole window: ``[tokens, hidden]`` to the same."""
    tokens = len(states)
    normed = rms_norm(states, weights("input_layernorm.weight"), config.norm_epsilon)

    def heads(name: str, norm: str | None) -> Tensor:
        split = weights.linear(f"self_attn.{name}", normed).view(tokens, -1, config.head_dim)
        if config.qk_norm and norm:
            split = rms_norm(split, weights(f"self_attn.{norm}.weight"), config.norm_epsilon)
        return split.transpose(0, 1)

    query, key = rotate(heads("q_proj", "q_norm"), turned), rotate(heads("k_proj", "k_norm"), turned)
    key, value = (t.repeat_interleave(config.group_size, dim=0) for t in (key, heads("v_proj", None)))
    attended = functional.scaled_dot_product_attention(query[None], key[None], value[None], is_causal=True)[0]
    states = states + weights.linear("self_attn.o_proj", attended.transpose(0, 1).reshape(tokens, -1))
    normed = rms_norm(states, weights("post_attention_layernorm.weight"), config.norm_epsilon)
    gated = functional.silu(weights.linear("mlp.gate_proj", normed)) * weights.linear("mlp.up_proj", normed)
    return states + weights.linear("mlp.down_proj", gated)


def head(checkpoint: Checkpoint, config: DecoderConfig, states: Tensor, vocab_size: int) -> np.ndarray:
    """Final norm and vocabulary head, `HEAD_ROWS` rows at a time: ``[positions, hidden]`` to ``[positions, vocab_size]``."""
    name = "model.embed_tokens.weight" if config.tied_head else "lm_head.weight"
    norm = torch.from_numpy(checkpoint.vector("model.norm.weight").copy())
    states = rms_norm(states, norm, config.norm_epsilon)
    logits = np.empty((len(states), vocab_size), np.float32)
    for start in range(0, vocab_size, HEAD_ROWS):
        stop = min(start + HEAD_ROWS, vocab_size)
        logits[:, start:stop] = states @ torch.from_numpy(checkpoint.rows(name, start, stop).copy()).T
    return logits
