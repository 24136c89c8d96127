"""The decoder under LiteRT-LM's signatures with fixed lengths, in operators that LiteRT's GPU accelerator computes right (`rules`).

Instead of SPLIT, slices. Instead of a product that broadcasts over the query heads of a group, their rows one below the other. Instead of
gathering integers, EMBEDDING_LOOKUP. Instead of COS and SIN, which are 2e-4 off on the accelerator, rows of tables in FP32.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from firsttoken.backends.gpu.rules import KINDS, wrong_with
from firsttoken.backends.litertlm.ops import LmOps
from firsttoken.backends.tflite.graph import Op, Type
from firsttoken.decoder.parts import Core
from firsttoken.decoder.rope import Rope
from firsttoken.decoder.walk import Named


class GpuOps(LmOps):
    """One signature of fixed length. An operator that the accelerator cannot be trusted with cannot be added: that is an `AssertionError`."""

    # LiteRT-LM takes a prime number of rows (1471, say) for a stand-in and puts the length that is asked for in its place, but not in the
    # constants of RESHAPE; on the GPU it then dies of it.
    row_step: ClassVar[int] = 64

    def operator_many(
        self,
        builtin: int,
        inputs: Sequence[int],
        shapes: Sequence[Sequence[int]],
        dtype: int,
        version: int = 1,
        options: Any = None,
        name: str | None = None,
    ) -> list[int]:
        outputs = super().operator_many(builtin, inputs, shapes, dtype, version, options, name)
        tensors = self.subgraph.tensors
        for output in outputs:
            reason = wrong_with(KINDS[builtin], [None if n < 0 else tensors[n] for n in inputs], tensors[output])
            if reason is not None:
                raise AssertionError(f"{self.name}, {self.scope}: not for the GPU: {reason}")
        return outputs

    def split(self, x: int, count: int) -> list[int]:
        """Cuts the last axis in equal parts, each by a slice."""
        *outer, last = self.shapes[x]
        size = last // count
        return [self.slice(x, [0] * len(outer) + [n * size], [*outer, size]) for n in range(count)]

    def embed(self, embedding: Named) -> int:
        weight = self.weights.matrices[embedding.name]
        if weight.precision != "int8":
            return super().embed(embedding)
        tokens = self._tokens_of(embedding)
        table = weight.tensor(self, f"{embedding.name}.raw")
        return self.operator(Op.EMBEDDING_LOOKUP, [tokens, table], [*self.shapes[tokens], weight.columns], Type.FLOAT32, 3)

    def _cos_sin(self, number: int, rope: Rope) -> tuple[int, int]:
        """As float32 computes the angles, and float64 their cosines."""
        rows = np.arange(int(self.C), dtype=np.float32)[:, None]
        angles = (rows * np.asarray(rope.inverse_frequencies, np.float32)[None]).astype(np.float64)
        cos, sin = np.cos(angles), np.sin(angles)
        tables = np.concatenate([cos, cos], 1), np.concatenate([-sin, sin], 1)
        found = (self.gather_rows(self.constant(table), self.places) for table in tables)
        first, second = (self.reshape(picked, [self.S, 1, self.shapes[picked][1]]) for picked in found)
        return first, second

    def _heads_of(self, core: Named[Core], query: int) -> int:
        """The queries of a group of heads one below the other: ``[kv heads, 1, group * S, head_dim]``."""
        part = core.part
        return self.reshape(super()._heads_of(core, query), [part.kv_heads, 1, part.group * self.S, part.head_dim])

    def _weighted(self, core: Named[Core], scores: int, values: int) -> int:
        part = core.part
        apart = [part.kv_heads, part.group, self.S]
        together = [part.kv_heads, 1, part.group * self.S]
        shares = self.softmax(self.add(self.reshape(scores, [*apart, self.C]), self.call_masks[part.window]))
        mixed = self.matmul(self.reshape(shares, [*together, self.C]), values)
        return self.reshape(mixed, [*apart, part.head_dim])
