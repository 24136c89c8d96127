"""Attention as ONNX operators: GroupQueryAttention over the cache, and, for layers that share an earlier one's keys and values, products and a softmax."""

from firsttoken.backends.onnx.graph import MICROSOFT
from firsttoken.backends.onnx.values import Value, ValueGraph
from firsttoken.backends.runner import MASKED
from firsttoken.decoder.parts import Core
from firsttoken.decoder.walk import Named, layer_number

CACHED, TOTAL = "past_sequence_length", "total_sequence_length"


def past_names(layer: int) -> tuple[str, str]:
    """The inputs that take a layer's keys and values."""
    return f"past_key_values.{layer}.key", f"past_key_values.{layer}.value"


def present_names(layer: int) -> tuple[str, str]:
    """The outputs that give them back."""
    return f"present.{layer}.key", f"present.{layer}.value"


class CoresGraph(ValueGraph):
    """`decoder.forward.Ops.attend` and `LayeredOps.attend_shared`; `OnnxOps` is the rest of it."""

    precisions: dict[str, str]

    def lengths(self) -> None:
        """How many positions there are with the call's own, and one less, as the operator takes them."""
        self.enter("lengths")
        mask = "attention_mask"
        summed = self.node("ReduceSum", [mask, self.constant([1], "int64")], keepdims=0)
        self.before_last = self.node("Cast", [self.node("Sub", [summed, self.constant([1], "int64")])], to=6)
        self.total_long = self.node("Gather", [self.node("Shape", [mask]), self.constant([1], "int64")], axis=0)
        self.total = self.node("Cast", [self.total_long], to=6)
        self._masks: dict[tuple[int | None, bool], str] = {}

    def attend(self, core: Named[Core], query: Value, key: Value, value: Value) -> Value:
        part, layer = core.part, layer_number(core.name)
        dtype = self.cache_type(core.name)
        asked = self._padded(query, key) if query.last and not key.last else query.name
        q, k, v = (self.typed(name, dtype) for name in (asked, key.name, value.name))
        options = {} if part.window is None else {"local_window_size": part.window}
        mixed = f"{core.name}/mixed"
        self.node_of(
            "GroupQueryAttention",
            [q, k, v, *past_names(layer), self.before_last, self.total],
            [mixed, *present_names(layer)],
            core.name,
            MICROSOFT,
            num_heads=part.heads,
            kv_num_heads=part.kv_heads,
            scale=1.0,  # it is in the queries
            softcap=part.softcap or 0.0,
            **options,
        )
        mixed = mixed if dtype == "float32" else self.node("Cast", [mixed], to=1)
        return Value(self.last_row(mixed) if query.last and not key.last else mixed, (part.query_size,), query.last)

    def cache_type(self, core: str) -> str:
        """What the keys and values of this core are kept in."""
        return "float16" if self.precisions[core] == "fp16" else "float32"

    def typed(self, name: str, dtype: str) -> str:
        return name if dtype == "float32" else self.node("Cast", [name], to=10)

    def _padded(self, query: Value, key: Value) -> str:
        """The last position's query behind rows of zeros: the operator wants as many queries as keys, and only this row of its result is taken."""
        rows = self.node("Gather", [self.node("Shape", [key.name]), self.constant([1], "int64")], axis=0)
        before = self.node("Sub", [rows, self.constant([1], "int64")])
        zero = self.constant([0], "int64")
        pads = self.node("Concat", [zero, before, *[zero] * 4], axis=0)
        return self.node("Pad", [query.name, pads])

    def attend_shared(self, core: Named[Core], owner: Named[Core], query: Value) -> Value:
        part = core.part
        keys, values = (self._known(name, owner.name) for name in present_names(layer_number(owner.name)))
        heads = [part.kv_heads, part.group, part.head_dim]
        q = self.node("Transpose", [self.reshaped(query.name, heads)], perm=[0, 2, 3, 1, 4])  # [1, kv heads, group, rows, head_dim]
        scores = self.node("FusedMatMul", [q, keys], domain=MICROSOFT, transB=1)
        if part.softcap is not None:
            scores = self.node(
                "Mul", [self.node("Tanh", [self.node("Mul", [scores, self.constant(1 / part.softcap)])]), self.constant(part.softcap)]
            )
        weights = self.node("Softmax", [self.node("Add", [scores, self._mask(part.window, query.last)])], axis=-1)
        mixed = self.node("Transpose", [self.node("MatMul", [weights, values])], perm=[0, 3, 1, 2, 4])
        return Value(self.reshaped(mixed, [part.query_size]), (part.query_size,), query.last)

    def _known(self, present: str, owner: str) -> str:
        """The filled rows of an earlier layer's keys or values, ``[1, kv heads, 1, T, head_dim]`` in FP32."""
        zero, axis = self.constant([0], "int64"), self.constant([2], "int64")
        filled = self.node("Slice", [present, zero, self.total_long, axis])
        filled = filled if self.cache_type(owner) == "float32" else self.node("Cast", [filled], to=1)
        return self.node("Unsqueeze", [filled, axis])

    def _mask(self, window: int | None, last: bool) -> str:
        """What is added to the scores of ``[rows]`` queries over all ``T`` positions."""
        if (window, last) not in self._masks:
            outer = self.scope
            self.enter("mask")
            own = self.node("Reshape", [self.last_row("position_ids") if last else "position_ids", self.constant([-1, 1], "int64")])
            total = self.node("Squeeze", [self.total_long])
            every = self.node("Range", [self.constant(0, "int64"), total, self.constant(1, "int64")])
            distance = self.node("Sub", [own, every])
            seen = self.node("GreaterOrEqual", [distance, self.constant(0, "int64")])
            if window is not None:
                seen = self.node("And", [seen, self.node("Less", [distance, self.constant(window, "int64")])])
            self._masks[window, last] = self.node("Where", [seen, self.constant(0.0), self.constant(MASKED)])
            self.enter(outer)
        return self._masks[window, last]
