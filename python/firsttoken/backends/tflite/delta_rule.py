"""The gated delta rule as TFLite operators: over a call's own tokens at once as matrix products, and for one token as it is defined.

With c the sum of the log decays up to a position, what every token adds to the state along its key are the rows of V in
``(I + L) V = beta * (v - exp(c) * k S)``, where S is the state before the call and ``L[i, j] = beta[i] (k[i] . k[j]) exp(c[i] - c[j])`` for j < i
(Gated Delta Networks, arXiv 2412.06464, section 3.3; the WY representation of DeltaNet, arXiv 2406.06484). Then
``out = exp(c) * q S + (q . k * exp(c[i] - c[j]), j <= i) V``, and the state becomes ``exp(c[last]) S + (exp(c[last] - c) * k)^T V``.

``I + L`` is inverted block by block: where X inverts its diagonal blocks of one size, ``X - X M X`` inverts those of twice the size, M being
what of L lies beside the former within the latter. No power of L is ever taken: where one token repeats, L is beta everywhere, and its powers
are huge numbers that would have to cancel. No exponential is taken of anything above 0.
"""

import numpy as np

from firsttoken.backends.recurrence import CHUNK, block_sizes
from firsttoken.backends.tflite.convolution import ConvolutionGraph
from firsttoken.backends.tflite.graph import Graph, Op, Type
from firsttoken.decoder.parts import DeltaRule
from firsttoken.decoder.walk import Named, layer_number

MOST_PARTS = 4  # of a split, in XNNPACK


class DeltaGraph(ConvolutionGraph):
    """What a graph of the decoder needs for layers with a delta rule; `TfliteOps` is the rest of it."""

    positions: int
    memory: dict[str, int]  # the state before the call, by the name of its rule
    _triangles: "Triangles | None" = None

    def split_columns(self, x: int, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """XNNPACK takes a split into up to four equal parts, and no slice of rows whose number is known at run time alone."""
        counts = [size // min(sizes) for size in sizes]
        if all(size % min(sizes) == 0 for size in sizes) and sum(counts) <= MOST_PARTS:
            parts = iter(self.split(x, sum(counts)))
            taken = [[next(parts) for _ in range(count)] for count in counts]
            return tuple(these[0] if len(these) == 1 else self.concatenate(these, 1) for these in taken)
        rows, begins = self.shapes[x][0], np.cumsum([0, *sizes[:-1]]).tolist()
        return tuple(self.slice(x, [0, begin], [rows, size]) for begin, size in zip(begins, sizes, strict=True))

    def join_heads(self, x: int) -> int:
        rows, heads, dim = self.shapes[x]
        return self.reshape(x, [rows, heads * dim])

    def delta_rule(self, rule: Named[DeltaRule], query: int, key: int, value: int, strength: int, forgetting: int, narrowed: bool) -> int:
        part, outer = rule.part, self.scope
        self.enter(rule.name)
        beta = self.unary(Op.LOGISTIC, self.convert(strength, Type.FLOAT32))
        rate = self.constant(-np.exp(self.weights.vectors[rule.name]).reshape(1, -1))
        log_decay = super().multiply(self._softplus(self.convert(forgetting, Type.FLOAT32)), rate)  # [S, heads]
        q, k = (self._every_value_head(x, part) for x in (query, key))
        if self.S == 1:
            found, state = self._one(part, self.memory[rule.name], q, k, value, beta, log_decay)
        else:
            found, state = self._many(part, self.memory.get(rule.name), q, k, value, beta, log_decay)
        self.output(f"recurrent.{layer_number(rule.name)}", state)
        self.enter(outer)
        return self.gather_rows(found, self.last_index) if narrowed and self.S != 1 else found

    def _softplus(self, x: int) -> int:
        """``log(1 + exp(x))`` as ``max(x, 0) + log(1 + exp(-|x|))``; what the sum u = 1 + y rounds away is added again as ``(y - (u - 1)) / u``."""
        one = self.constant(np.ones((1, 1)))
        y = self.unary(Op.EXP, self.unary(Op.NEG, self.unary(Op.ABS, x)))
        u = super().add(y, one)
        lost = super().multiply(self.subtract(y, self.subtract(u, one)), self._reciprocal(u))
        return super().add(self.unary(Op.RELU, x), super().add(self.unary(Op.LOG, u), lost))

    def _reciprocal(self, x: int) -> int:
        """``1 / x`` for x above 0; a root of the reciprocal is an operator that norms have already."""
        root = self.unary(Op.RSQRT, x)
        return super().multiply(root, root)

    def _every_value_head(self, x: int, part: DeltaRule) -> int:
        """Key heads ``[S, key_heads, key_dim]`` each for its group, ``[S, value_heads, key_dim]``."""
        if part.group == 1:
            return x
        rows = self.shapes[x][0]
        ones = self.constant(np.ones((1, 1, part.group, 1)))
        spread = super().multiply(self.reshape(x, [rows, part.key_heads, 1, part.key_dim]), ones)
        return self.reshape(spread, [rows, part.value_heads, part.key_dim])

    def _one(self, part: DeltaRule, state: int, q: int, k: int, v: int, beta: int, log_decay: int) -> tuple[int, int]:
        """One token: query and key ``[1, heads, key_dim]``, value ``[1, heads, value_dim]``, the others ``[1, heads]``. Returns
        ``[1, heads, value_dim]`` and the next state. The state is multiplied once, by key and query together."""
        heads, dims = part.value_heads, (part.key_dim, part.value_dim)
        decay, beta = (self.reshape(x, [heads, 1, 1]) for x in (self.unary(Op.EXP, log_decay), beta))
        key, query = (self.reshape(x, [heads, 1, dims[0]]) for x in (k, q))
        both = super().multiply(self.matmul(self.concatenate([key, query], 1), state), decay)
        known, asked = (self.slice(both, [0, n, 0], [heads, 1, dims[1]]) for n in (0, 1))
        added = super().multiply(self.subtract(self.reshape(v, [heads, 1, dims[1]]), known), beta)
        met = self.matmul(query, key, transpose_b=True)
        found = super().add(asked, super().multiply(met, added))
        column = self.reshape(key, [heads, dims[0], 1])
        return self.reshape(found, [1, heads, dims[1]]), super().add(super().multiply(state, decay), super().multiply(column, added))

    def _many(self, part: DeltaRule, state: int | None, q: int, k: int, v: int, beta: int, log_decay: int) -> tuple[int, int]:
        """All tokens of the call, shapes as in `_one` with S for 1; without ``state`` it is zeros."""
        heads, rows = part.value_heads, self.S
        shared = self._triangles = self._triangles or Triangles(self)
        query, key, value = (self.transpose(x, [1, 0, 2]) for x in (q, k, v))
        strength = self.transpose(self.reshape(beta, [1, rows, heads]), [2, 1, 0])
        steps = self.reshape(log_decay, [1, rows, heads])
        upto = self.matmul(shared.up_to, steps)
        column, row = self.transpose(upto, [2, 1, 0]), self.transpose(upto, [2, 0, 1])
        between = self.unary(Op.EXP, self.minimum(self.subtract(column, row), self.constant(np.zeros((1, 1, 1)))))
        from_here = self.transpose(self.unary(Op.EXP, self.matmul(shared.after, steps)), [2, 1, 0])
        met = super().multiply(self.matmul(key, key, transpose_b=True), super().multiply(between, strength))
        inverse = self._inverse(met, shared)
        wanted = value
        if state is not None:
            since = self.unary(Op.EXP, column)
            wanted = self.subtract(value, super().multiply(self.matmul(key, state), since))
        added = self.matmul(inverse, super().multiply(wanted, strength))
        seen = super().multiply(self.matmul(query, key, transpose_b=True), super().multiply(between, shared.up_to))
        found = self.matmul(seen, added)
        grown = self.matmul(self.transpose(key, [0, 2, 1]), super().multiply(added, from_here))
        if state is not None:
            found = super().add(found, super().multiply(self.matmul(query, state), since))
            over_all = self.reshape(self.unary(Op.EXP, self.matmul(shared.ones, steps)), [heads, 1, 1])
            grown = super().add(super().multiply(state, over_all), grown)
        return self.transpose(found, [1, 0, 2]), grown

    def _inverse(self, met: int, shared: "Triangles") -> int:
        """The inverse of I + L, of which ``met`` has the entries below the diagonal right."""
        inverse = self.subtract(shared.identity, super().multiply(met, shared.beside[0]))
        for beside in shared.beside[1:]:
            lower = super().multiply(met, beside)
            inverse = self.subtract(inverse, self.matmul(self.matmul(inverse, lower), inverse))
        return inverse


class Triangles:
    """Matrices of zeros and ones ``[1, S, S]`` that all layers share: ``up_to`` (j <= i), ``after`` (j > i), ``identity``, and ``beside``, for
    every block size, what lies below the diagonal in one block of twice the size and not in one of this size; ``ones [1, 1, S]``."""

    def __init__(self, graph: DeltaGraph) -> None:
        outer, rows = graph.scope, graph.S
        graph.enter("triangles")
        zero = graph.constant(np.zeros((1, 1, 1)))
        # looked up by the last token's number: of a call of more tokens than blocks are made for, the runtime says so
        one = graph.gather_rows(graph.constant(np.ones((CHUNK, 1, 1))), graph.last_index)

        def clipped(x: int) -> int:
            return graph.minimum(graph.maximum(x, zero), one)

        def minus(a: int, b: int) -> int:
            return Graph.subtract(graph, a, b)

        column, row = graph.reshape(graph.positions, [1, rows, 1]), graph.reshape(graph.positions, [1, 1, rows])
        distance = minus(column, row)
        below = clipped(distance)
        self.up_to = clipped(Graph.add(graph, distance, one))
        self.after, self.identity = minus(one, self.up_to), minus(self.up_to, below)
        self.ones = Graph.add(graph, Graph.multiply(graph, row, zero), one)
        # numbered from the call's first token, so that blocks are no more than its tokens need
        number = graph.matmul(below, graph.transpose(self.ones, [0, 2, 1]))
        self.beside = []
        within = below
        for size in block_sizes(CHUNK):
            larger = graph.unary(Op.FLOOR, Graph.multiply(graph, number, graph.constant(np.full((1, 1, 1), 0.5 / size))))
            apart = clipped(minus(larger, graph.transpose(larger, [0, 2, 1])))
            self.beside.append(minus(within, apart))
            within = apart
        graph.enter(outer)
