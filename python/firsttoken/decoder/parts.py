"""What a decoder is: a tree of frozen parts. Every leaf says where its weight comes from and how it is taken.

The names that plans, tensors and audits use are the paths of this tree: ``embedding``, ``layers.N.attention.q``,
``layers.N.attention.core``, ..., ``layers.N.mlp.down``, ``norm``, ``head``. A field belongs on a part only if two families
need it; a family with something of its own gets a part of its own.
"""

from dataclasses import dataclass

from firsttoken.checkpoint import Source
from firsttoken.decoder.rope import Rope


@dataclass(frozen=True)
class Embedding:
    """A table of ``rows`` (the vocabulary) by ``columns`` (the hidden size)."""

    weight: Source
    rows: int
    columns: int


@dataclass(frozen=True)
class Linear:
    """``x @ weight^T + bias`` with a weight of ``rows`` (outputs) by ``columns`` (inputs)."""

    weight: Source
    rows: int
    columns: int
    bias: Source | None = None


@dataclass(frozen=True)
class Norm:
    """RMSNorm over the last ``size`` values: ``x / sqrt(mean(x^2) + epsilon) * weight`` (arXiv 1910.07467)."""

    weight: Source
    size: int
    epsilon: float


@dataclass(frozen=True)
class Core:
    """Scores, softmax and weighted sum of grouped-query attention, and with it the KV cache. It has no weights.

    ``heads`` query heads share ``kv_heads`` key/value heads of ``head_dim`` values; scores are multiplied by ``scale``.
    With ``window`` a position sees that many positions, itself included.
    """

    heads: int
    kv_heads: int
    head_dim: int
    scale: float
    window: int | None = None

    @property
    def group(self) -> int:
        """Query heads that share one key/value head."""
        return self.heads // self.kv_heads

    @property
    def query_size(self) -> int:
        return self.heads * self.head_dim


@dataclass(frozen=True)
class Attention:
    """Projections, optional norms of every query and key head, rotary positions, core and output projection."""

    q: Linear
    k: Linear
    v: Linear
    core: Core
    output: Linear
    rotation: Rope
    q_norm: Norm | None = None
    k_norm: Norm | None = None


@dataclass(frozen=True)
class Mlp:
    """``down(activation(gate(x)) * up(x))``; with ``silu`` that is SwiGLU (Shazeer 2020, arXiv 2002.05202)."""

    gate: Linear
    up: Linear
    down: Linear
    activation: str = "silu"


@dataclass(frozen=True)
class Block:
    """Attention and MLP, each behind its norm and added to the residual."""

    attention_norm: Norm
    attention: Attention
    mlp_norm: Norm
    mlp: Mlp


@dataclass(frozen=True)
class Decoder:
    """A whole model of ``family``, trained for ``max_positions`` positions."""

    family: str
    embedding: Embedding
    layers: tuple[Block, ...]
    norm: Norm
    head: Linear
    max_positions: int

    @property
    def vocab_size(self) -> int:
        return self.embedding.rows

    @property
    def hidden_size(self) -> int:
        return self.embedding.columns

    @property
    def tied_head(self) -> bool:
        """Whether the head is the embedding's own tensor."""
        return self.head.weight == self.embedding.weight


Part = Embedding | Linear | Norm | Core | Attention | Mlp | Block | Decoder
