"""What a decoder is: a tree of frozen parts. Every leaf says where its weight comes from and how it is taken.

The names that plans, tensors and audits use are the paths of this tree: ``embedding``, ``layers.N.attention.q``,
``layers.N.attention.core``, ..., ``layers.N.mlp.down``, ``norm``, ``head``. A field belongs on a part only if two families
need it; a family with something of its own gets a part of its own.
"""

from dataclasses import dataclass, field

from firsttoken.decoder.rope import Rope
from firsttoken.weight_source import Source


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
    """RMSNorm over the last ``size`` values: ``x / sqrt(mean(x^2) + epsilon) * weight`` (arXiv 1910.07467).

    ``centred`` takes the mean off first, which with a ``bias`` is LayerNorm (Ba et al. 2016, arXiv 1607.06450). Without ``weight``
    nothing is multiplied.
    """

    weight: Source | None
    size: int
    epsilon: float
    bias: Source | None = None
    centred: bool = False


@dataclass(frozen=True)
class Factor:
    """Stored numbers that a state is multiplied by: one, or one for each of its ``size`` values."""

    weight: Source
    size: int = 1


@dataclass(frozen=True)
class Core:
    """Scores, softmax and weighted sum of grouped-query attention, and with it the KV cache. It has no weights.

    ``heads`` query heads share ``kv_heads`` key/value heads of ``head_dim`` values; scores are multiplied by ``scale``.
    With ``window`` a position sees that many positions, itself included. With ``softcap`` a scaled score s becomes
    ``softcap * tanh(s / softcap)`` (Gemma 2, arXiv 2408.00118).
    """

    heads: int
    kv_heads: int
    head_dim: int
    scale: float
    window: int | None = None
    softcap: float | None = None

    @property
    def group(self) -> int:
        """Query heads that share one key/value head."""
        return self.heads // self.kv_heads

    @property
    def query_size(self) -> int:
        return self.heads * self.head_dim


@dataclass(frozen=True)
class Attention:
    """Projections, optional norms of queries and keys, rotary positions (None: no positions), core and output projection.

    A norm of head_dim values is over each head, a larger one over the whole projection. It stands before the rotation, or
    after it where ``norms_follow_rotation``. Without ``v`` the values are what ``k`` gives, before its norm and rotation. A layer that
    ``shares`` an earlier one's keys and values (that layer's number) has neither, and no cache. With ``gate`` what the core gives is
    multiplied by ``sigmoid(gate(x))`` (Qiu et al. 2025, arXiv 2505.06708).
    """

    q: Linear
    k: Linear | None
    v: Linear | None
    gate: Linear | None = field(default=None, kw_only=True)
    core: Core
    output: Linear
    rotation: Rope | None
    q_norm: Norm | None = None
    k_norm: Norm | None = None
    v_norm: Norm | None = None
    norms_follow_rotation: bool = False
    shares: int | None = None

    @property
    def rotated_scale(self) -> float:
        """What the rotation multiplies queries by: the scores' scale, unless a norm comes after it, which would take it off again."""
        return 1.0 if self.norms_follow_rotation else self.core.scale


@dataclass(frozen=True)
class Convolution:
    """Each of ``channels`` convolved with ``length`` weights of its own over the last positions, the newest one's last:
    ``y[p] = sum over k of weight[k] * x[p - length + 1 + k] + bias``, where positions before the first are zeros.

    What a layer remembers with it are the last ``length - 1`` of its inputs. It is computed in FP32, and no plan addresses it. The weight
    is stored as ``[channels, 1, length]``.
    """

    weight: Source
    channels: int
    length: int
    bias: Source | None = None


@dataclass(frozen=True)
class ShortConvolution:
    """``output(out_gate(x) * kernel(in_gate(x) * value(x)))``: what stands in attention's place in most layers of LFM2 (arXiv 2511.23404)."""

    in_gate: Linear
    out_gate: Linear
    value: Linear
    kernel: Convolution
    output: Linear


@dataclass(frozen=True)
class DeltaRule:
    """The gated delta rule (Gated Delta Networks, arXiv 2412.06464, equation 10), in FP32; no plan addresses it.

    Every one of ``value_heads`` has a state S ``[key_dim, value_dim]``, zeros before position 0. For its key k, query q and value v, with
    ``alpha = exp(-exp(decay) * softplus(a))`` and ``beta = sigmoid(b)``: ``S = alpha * S``, then ``S = S + k (beta * (v - k^T S))^T``, and
    what it gives is ``q^T S``. Each of ``key_heads`` serves ``group`` neighbouring value heads. ``decay`` is stored as ``[value_heads]``.
    """

    decay: Source
    key_heads: int
    value_heads: int
    key_dim: int
    value_dim: int

    @property
    def group(self) -> int:
        """Value heads that share one key head."""
        return self.value_heads // self.key_heads


@dataclass(frozen=True)
class DeltaNet:
    """A layer's gated delta net, in attention's place: ``mixed`` gives queries, keys and values one behind the other, which a ``kernel`` with
    silu behind it mixes with the last positions; queries and keys are normed a head, then multiplied by ``key_dim^-1`` and ``key_dim^-0.5``,
    so that keys are of length 1; then the ``rule``, whose b and a are what ``strength`` and ``forgetting`` give; then
    ``output(norm(rule's) * silu(gate(x)))``, the norm over each value head.
    """

    mixed: Linear
    kernel: Convolution
    q_norm: Norm
    k_norm: Norm
    strength: Linear
    forgetting: Linear
    rule: DeltaRule
    norm: Norm
    gate: Linear
    output: Linear


@dataclass(frozen=True)
class Cutoff:
    """What is left of ``size`` values: ``max(x - mean(x) - deviations * deviation(x), 0)``, the standard deviation being that of all values.

    Of values that are spread normally, a known share is left (statistical top-k; Spark Transformer, arXiv 2506.06644).
    """

    size: int
    deviations: float


@dataclass(frozen=True)
class Router:
    """Which ``chosen`` of its ``experts`` a token takes in an MLP, and with what weights (Shazeer et al. 2017, arXiv 1701.06538).

    The ``scores`` are the "softmax" of ``x @ weight^T`` over all experts, or each one's "sigmoid". The experts with the highest scores are
    chosen, of equal ones those with the lower numbers; with ``bias`` the scores plus it decide, and that is all that it does. An expert's
    weight is its score, over the sum of those chosen plus ``epsilon`` where ``divided``, times ``factor``; of those not chosen it is 0.
    Computed in FP32, and no plan addresses it. The weight is stored as ``[experts, columns]``.
    """

    weight: Source
    experts: int
    columns: int
    chosen: int
    scores: str
    bias: Source | None = None
    divided: bool = True
    epsilon: float = 0.0
    factor: float = 1.0


@dataclass(frozen=True)
class Mlp:
    """``down(activation(gate(x)) * up(x))``; with ``silu`` that is SwiGLU (Shazeer 2020, arXiv 2002.05202).

    Without ``gate`` it is ``down(activation(up(x)))``. A ``cutoff`` stands between the gate and its activation. With a ``router`` gate and up hold the rows of all experts, one expert's below
    another's, down their columns, and what comes before ``down`` is multiplied by the router's weight of its expert: every expert is
    computed, and most are multiplied by 0. Gate and up have scales of every expert's rows; a row of ``down`` has one scale over all
    experts (or one a group), and so has what is multiplied with it where activations are rounded.
    """

    gate: Linear | None
    cutoff: Cutoff | None = field(default=None, kw_only=True)
    up: Linear
    down: Linear
    activation: str = "silu"
    router: Router | None = None


@dataclass(frozen=True)
class LayerTable:
    """Per-layer embeddings (Gemma 3n and 4): what every layer takes of a token besides the residual, ``size`` values a layer.

    ``norm(projection(embedding's row)) + its own row of the table``, where both have room for all layers and the norm is over one
    layer's values. The factors on the sum are in the sources.
    """

    embedding: Embedding
    projection: Linear
    norm: Norm
    size: int


@dataclass(frozen=True)
class LayerInput:
    """Where a layer takes its part of a `LayerTable`: ``norm(projection(activation(gate(x)) * part))``, added to the residual x."""

    gate: Linear
    projection: Linear
    norm: Norm
    activation: str


@dataclass(frozen=True)
class LowRank:
    """``x + norm(right(left(x)))`` of what attention takes, beside it; both ways are added and divided by the root of 2 (LAuReL, arXiv 2411.07501)."""

    left: Linear
    right: Linear
    norm: Norm


@dataclass(frozen=True)
class Coefficients:
    """``x @ weight^T + offset``, ``rows`` numbers that say how streams are mixed. They are computed in FP32, and no plan addresses them."""

    weight: Source
    rows: int
    columns: int
    offset: tuple[float, ...]

    @property
    def first(self) -> int:
        """How many rows are the first stream's."""
        return self.columns if self.rows == self.columns**2 else 1


@dataclass(frozen=True)
class Streams:
    """The hidden states beside the first, one for each of ``projections``: what it gives, times what makes its root mean square that of the first.

    Its own mean square counts as ``floor`` at least.
    """

    projections: tuple[Linear, ...]
    floor: float

    @property
    def count(self) -> int:
        """How many there are, the first included."""
        return len(self.projections) + 1


@dataclass(frozen=True)
class Updates:
    """How a layer that computes on the first of n streams updates all of them (AltUp, arXiv 2301.13310).

    With ``m(x) = tanh(router(norm(x)))``: stream i is predicted as the sum over k of ``prediction(m(first))[i * n + k]`` times stream k; the layer
    computes y of the first prediction, and every prediction i gets ``correction(m(y))[i] * (y - first prediction)`` added. What the layer's
    ``per_layer`` part then makes of the first stream times ``factor`` is added to all others.
    """

    norm: Norm
    router: Coefficients
    prediction: Coefficients
    correction: Coefficients
    factor: Factor


@dataclass(frozen=True, kw_only=True)
class Block:
    """Attention and MLP, each added to the residual; norms where they stand: before each, after each, or both.

    With ``parallel`` the MLP takes what attention takes, and both are added to the same residual. A layer has attention, or a
    ``convolution`` or a ``delta`` net in its place, behind the same norms. Then comes what the layer takes of the model's ``per_layer`` table, and last
    a ``factor`` on the residual itself. With ``updates`` the residual is the first of several streams.
    """

    updates: Updates | None = None
    attention_norm: Norm | None = None
    attention: Attention | None = None
    convolution: ShortConvolution | None = None
    delta: DeltaNet | None = None
    attention_output_norm: Norm | None = None
    low_rank: LowRank | None = None
    mlp_norm: Norm | None = None
    mlp: Mlp
    mlp_output_norm: Norm | None = None
    parallel: bool = False
    per_layer: LayerInput | None = None
    factor: Factor | None = None

    def __post_init__(self) -> None:
        mixers = [part for part in (self.attention, self.convolution, self.delta) if part is not None]
        assert len(mixers) == 1, "a layer has attention, a convolution or a delta net"


@dataclass(frozen=True)
class Decoder:
    """A whole model of ``family``, trained for ``max_positions`` positions.

    With ``softcap`` a logit l becomes ``softcap * tanh(l / softcap)``. Factors on embedding, residual and logits are in the
    sources of the weights that they can be multiplied into. With ``streams`` the layers have several hidden states, made of the
    embedding; behind them those of ``streams_output`` are averaged. The embedding's rows are multiplied by ``embedding_factor``, a number a
    column: no family has one, a smoothed table does (`calibration.smoothed`).
    """

    family: str
    embedding: Embedding
    embedding_factor: Factor | None = field(default=None, kw_only=True)
    per_layer: LayerTable | None = field(default=None, kw_only=True)
    streams: Streams | None = field(default=None, kw_only=True)
    layers: tuple[Block, ...]
    streams_output: Streams | None = field(default=None, kw_only=True)
    norm: Norm
    head: Linear
    max_positions: int
    softcap: float | None = None

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


Part = (
    Embedding | Linear | Norm | Factor | Core | Attention | Convolution | ShortConvolution | DeltaRule | DeltaNet | Cutoff | Router | Mlp | LayerTable
    | LayerInput | LowRank | Coefficients | Streams | Updates | Block | Decoder
)  # fmt: skip
