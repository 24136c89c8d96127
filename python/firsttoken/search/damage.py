"""What one layer's precision costs: the model run with this layer alone as a plan would have it, against the model in FP32.

The arithmetic is the twin's (`prove.arithmetic.Planned`), of which every other layer is asked in FP32. Weights stay in memory in FP32; a
layer's candidates start from the states before its block, so early blocks take longest.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from firsttoken.backends.interface import Backend
from firsttoken.checkpoint import Checkpoint
from firsttoken.checkpoint_over import CheckpointOver
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import Layer, plan_layers
from firsttoken.prove.arithmetic import Fp32
from firsttoken.prove.reference import Beside, Weights, embed, head
from firsttoken.prove.reference import Layer as Computed
from firsttoken.prove.reference_streams import close_streams, open_streams
from firsttoken.prove.twin import planned
from firsttoken.quant.plan import Gate, Plan, Rule
from firsttoken.search.candidates import Candidate
from firsttoken.weight_source import Source

# A plan needs a gate; this one's is never asked.
UNASKED = Gate(mean_kld=1, p99_kld=1, same_top=1, magnitude=0.5)
FIRST = ("embedding", "per_layer.")  # layers that come before the first block


class InMemory(CheckpointOver):
    """A checkpoint whose matrices stay in memory in float32 once they were read."""

    def __init__(self, base: Checkpoint) -> None:
        super().__init__(base)
        self._kept: dict[str | Source, np.ndarray] = {}

    def rows(self, source: str | Source, start: int = 0, stop: int | None = None) -> np.ndarray:
        if source not in self._kept:
            self._kept[source] = self.base.rows(source)
        return self._kept[source][start:stop]


class OneChanged(Weights):
    """The weights of ``checkpoint``, and of ``source`` another."""

    def __init__(self, checkpoint: Checkpoint, source: Source | None, weight: np.ndarray | None) -> None:
        super().__init__(checkpoint)
        self._source, self._weight = source, weight

    def matrix(self, source: Source, arithmetic: Fp32) -> np.ndarray:
        if source == self._source and self._weight is not None:
            return self._weight
        return self.matrix_as_stored(source)


@dataclass
class Text:
    """A window of the text as it comes to a block: its states, and what layers know of it besides."""

    window: np.ndarray
    states: np.ndarray
    beside: Beside


@dataclass
class Damages:
    """Measures candidates of one decoder for one backend on ``windows`` of token ids. ``sources`` gives, by label, a checkpoint whose weights
    are integers already (``method = "gptq"``)."""

    checkpoint: Checkpoint
    decoder: Decoder
    backend: Backend
    windows: list[np.ndarray]
    sources: dict[str, Checkpoint] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.checkpoint = InMemory(self.checkpoint)
        self.layers = {layer.name: layer for layer in plan_layers(self.decoder)}
        self._at, self._texts = 0, [self._opened(window, Fp32()) for window in self.windows]
        texts = self._texts
        for number in range(len(self.decoder.layers)):
            texts = self._through(texts, number, self._plain(), Fp32())
        self._reference = self._logits(texts, Fp32())
        self._probability = np.exp(self._reference - self._reference.max(-1, keepdims=True))
        self._probability /= self._probability.sum(-1, keepdims=True)

    @staticmethod
    def weighted(decoder: Decoder) -> list[Layer]:
        """The layers that have a weight."""
        return [layer for layer in plan_layers(decoder) if layer.weight is not None]

    def order(self) -> Iterator[str]:
        """The layers' names in the order in which measuring them costs least."""
        first = [name for name in self.layers if self._block_of(name) < 0]
        return iter([*first, *sorted((name for name in self.layers if name not in first), key=self._block_of)])

    def measure(self, name: str, candidate: Candidate) -> float:
        """The mean KL divergence in nats over all positions with layer ``name`` as ``candidate`` has it; infinite where a float16 ran over."""
        precisions = {layer: candidate.precision if layer == name else "fp32" for layer in self.layers}
        arithmetic = planned(self.decoder, self._plan(candidate), precisions, self.backend)
        block = self._block_of(name)
        weights = self._changed(self.layers[name], candidate, arithmetic)
        if block < 0:
            texts = [self._opened(window, arithmetic, weights.checkpoint) for window in self.windows]
            block = 0
        else:
            texts = self._before(block)
        if block < len(self.decoder.layers):
            texts = self._through(texts, block, weights, arithmetic)
            for number in range(block + 1, len(self.decoder.layers)):
                texts = self._through(texts, number, self._plain(), Fp32())
        source = self.sources.get(candidate.label) if name == "head" else None
        found = self._diverged(self._logits(texts, arithmetic, source))
        return float("inf") if arithmetic.overflow or not np.isfinite(found) else found

    def _block_of(self, name: str) -> int:
        """The number of the block that a layer is in; -1 before the first, the number of blocks behind the last."""
        if name.startswith(FIRST):
            return -1
        return int(name.split(".")[1]) if name.startswith("layers.") else len(self.decoder.layers)

    @staticmethod
    def _plan(candidate: Candidate) -> Plan:
        rule = Rule(match="*", precision=candidate.precision, method=candidate.method, group=candidate.group, outliers=candidate.outliers)
        return Plan(summary="one layer alone", rules=(rule,), gate=UNASKED)

    def _plain(self) -> Weights:
        return Weights(self.checkpoint)

    def _changed(self, layer: Layer, candidate: Candidate, arithmetic: Fp32) -> OneChanged:
        if layer.kind != "linear" or layer.name == "head" or layer.weight is None:
            return OneChanged(self.checkpoint, None, None)
        source = self.sources.get(candidate.label, self.checkpoint)
        weight = arithmetic.weight(layer.weight, source.matrix(layer.weight), source.scales(layer.weight))
        return OneChanged(self.checkpoint, layer.weight, weight)

    def _opened(self, window: np.ndarray, arithmetic: Fp32, checkpoint: Checkpoint | None = None) -> Text:
        source = checkpoint or self.checkpoint
        states = embed(source, self.decoder, window, arithmetic)
        beside = Beside(source, self.decoder, window, states, arithmetic)
        return Text(window, open_streams(Weights(source), self.decoder.streams, states, arithmetic), beside)

    def _before(self, block: int) -> list[Text]:
        """The FP32 states before a block; going back to an earlier one starts from the embedding again."""
        if block < self._at:
            self._at, self._texts = 0, [self._opened(window, Fp32()) for window in self.windows]
        while self._at < min(block, len(self.decoder.layers)):
            self._texts = self._through(self._texts, self._at, self._plain(), Fp32())
            self._at += 1
        return self._texts

    def _through(self, texts: list[Text], number: int, weights: Weights, arithmetic: Fp32) -> list[Text]:
        layer = Computed(weights, self.decoder.layers[number], arithmetic, f"layers.{number}")
        return [Text(text.window, layer.run(text.states.copy(), text.beside), text.beside) for text in texts]

    def _logits(self, texts: list[Text], arithmetic: Fp32, source: Checkpoint | None = None) -> np.ndarray:
        """Logits ``[positions, vocab_size]`` of every position of every window."""
        ends = self._plain()
        states = np.concatenate([close_streams(ends, self.decoder.streams_output, text.states, arithmetic) for text in texts])
        [found] = head(source or self.checkpoint, self.decoder, [arithmetic], [states], self.decoder.vocab_size)
        return found

    def _diverged(self, logits: np.ndarray) -> float:
        """The mean over positions of ``log E_p[exp d] - E_p[d]`` with ``d`` the difference of logits: the KL divergence, in a form that float32
        holds down to 1e-9 nats (`prove.divergence` needs float64 for it)."""
        total = 0.0
        for p, ours, theirs in zip(self._probability, logits, self._reference, strict=True):
            d = ours - theirs
            d -= np.dot(p, d)
            total += float(np.log1p(np.dot(p, np.expm1(d) - d)))
        return total / len(logits)
