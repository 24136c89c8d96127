"""What our decoder needs to know of a model, whatever family it came from."""

from dataclasses import dataclass

from firsttoken.decoder.rope import Rope


@dataclass(frozen=True)
class DecoderConfig:
    """Sizes and switches of a decoder of the Llama family tree. All sizes are element counts."""

    family: str
    hidden_size: int
    layer_count: int
    head_count: int
    kv_head_count: int
    head_dim: int
    mlp_size: int
    vocab_size: int
    norm_epsilon: float
    rope: Rope
    max_positions: int
    tied_head: bool
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    sliding_window: int | None = None  # None: every position sees every earlier one

    @property
    def query_size(self) -> int:
        return self.head_count * self.head_dim

    @property
    def kv_size(self) -> int:
        return self.kv_head_count * self.head_dim

    @property
    def group_size(self) -> int:
        """Query heads that share one key/value head."""
        return self.head_count // self.kv_head_count


@dataclass(frozen=True)
class Layer:
    """One thing a plan can address.

    ``kind`` is ``embedding``, ``linear`` or ``core`` (scores, softmax and weighted sum: no weights, but a
    compute precision that is also the KV cache's). ``shape`` is ``(rows, columns)`` of the weight; ``weight`` and
    ``bias`` are the checkpoint's tensor names.
    """

    name: str
    kind: str
    shape: tuple[int, int] | None = None
    weight: str | None = None
    bias: str | None = None
