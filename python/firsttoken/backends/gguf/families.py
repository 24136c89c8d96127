"""Which families llama.cpp computes, under which name, and what each leaves out of the file because it is in its own code.

What a file does not say llama.cpp takes from its code for the architecture (src/models); a checkpoint that is otherwise is refused by name. Each
line was tried with a random model, in llama.cpp against transformers (`tests/backends/gguf/test_families.py`).
"""

from collections.abc import Callable
from dataclasses import dataclass

from firsttoken.decoder.parts import Block, Decoder, Linear
from firsttoken.decoder.walk import leaves, norms, windows
from firsttoken.errors import FirstTokenError, nearest

QKV = frozenset({"attention.q", "attention.k", "attention.v"})
ATTENTION = QKV | {"attention.output"}
MLP = frozenset({"mlp.gate", "mlp.up", "mlp.down"})


@dataclass(frozen=True)
class Written:
    """How a family is written. ``interleaved``: llama.cpp turns neighbours of a query or key head, so its two halves are put between each other.

    ``biases`` are the layers that may have one; ``own_head``: whether a head of its own may stand in the file, ``tied_head`` whether none may.
    ``windowed``: whether layers may see a window, of every ``every`` layers all but the last by default. ``scaled_embedding``: llama.cpp multiplies
    the embedding by the root of its size. ``factors``: it takes factors on embedding, residual, scores and logits. ``fused``: one tensor holds
    queries, keys and values, and one gate and up.
    """

    architecture: str
    interleaved: bool = False
    biases: frozenset[str] = frozenset()
    own_head: bool = True
    tied_head: bool = True
    windowed: bool = False
    every: int = 0
    scaled_embedding: bool = False
    factors: bool = False
    fused: bool = False
    without_positions: int = 0
    layers_of_27b: int = 0
    caps: str = ""
    """"both": it caps scores and logits, by values of its own where the file says none; "logits": a cap on scores it does not know."""
    own_window: bool = False
    """Whether it has a window of its own where the file says none."""
    head_size: bool = True
    """Whether a head may be of another size than the hidden size over the number of heads."""
    stretches: tuple[str, ...] = ("linear", "yarn")
    """Kinds of stretched rotation beside the plain one."""


LLAMA_STRETCHES = ("linear", "yarn", "llama3")
FAMILIES = {
    "llama": Written("llama", interleaved=True, biases=ATTENTION | MLP, stretches=LLAMA_STRETCHES),
    "mistral": Written("llama", interleaved=True, stretches=LLAMA_STRETCHES),
    "qwen2": Written("qwen2", biases=QKV, head_size=False),
    "qwen3": Written("qwen3"),
    "smollm3": Written("smollm3", interleaved=True, without_positions=4),
    "arcee": Written("arcee", interleaved=True, stretches=LLAMA_STRETCHES),
    "granite": Written("granite", interleaved=True, biases=ATTENTION | MLP, factors=True, stretches=LLAMA_STRETCHES),
    "granitemoehybrid": Written("granite", interleaved=True, factors=True),  # without experts and state space layers: a Granite
    "ernie4_5": Written("ernie4_5", interleaved=True, stretches=()),
    "exaone4": Written("exaone4", stretches=("llama3",), head_size=False),
    "olmo2": Written("olmo2", tied_head=False, head_size=False),
    "gemma": Written("gemma", own_head=False, scaled_embedding=True),
    "gemma2": Written(
        "gemma2", own_head=False, scaled_embedding=True, windowed=True, every=2, layers_of_27b=46, caps="both", own_window=True
    ),
    "gemma3_text": Written("gemma3", scaled_embedding=True, windowed=True, every=6, layers_of_27b=62, caps="logits"),
    "phi3": Written("phi3", fused=True, head_size=False, stretches=()),
}


def written(decoder: Decoder) -> Written:
    """Raises `FirstTokenError` for a family that is not in the table."""
    if decoder.family not in FAMILIES:
        raise FirstTokenError(
            f"{decoder.family} is not written as GGUF{nearest(decoder.family, FAMILIES)}; tried in llama.cpp against transformers are "
            f"{', '.join(FAMILIES)}; export to another runtime (`firsttoken targets`)"
        )
    return FAMILIES[decoder.family]


def check_family(decoder: Decoder, cache_length: int) -> Written:
    """Raises `FirstTokenError`, with the part's name, for a checkpoint that llama.cpp would compute otherwise than it says."""
    found = written(decoder)

    def refuse(part: str, what: str) -> None:
        raise FirstTokenError(
            f"llama.cpp's {found.architecture!r} has no place for {what} ({part}), which this {decoder.family} has; nothing is exported"
        )

    for check in (_sizes, _heads, _biases, _factors, _positions):
        check(decoder, found, refuse)
    shortest = min((window for window in windows(decoder) if window is not None), default=None)
    if shortest is not None and not found.windowed and shortest < cache_length:
        raise FirstTokenError(
            f"llama.cpp's {found.architecture!r} has no sliding window, and this {decoder.family} has one of {shortest} tokens; "
            f"give --cache-length {shortest} or less, which never leaves it"
        )
    return found


Refuse = Callable[[str, str], None]


def _sizes(decoder: Decoder, found: Written, refuse: Refuse) -> None:
    """One size of heads and of MLPs, and one epsilon, in all layers."""
    first = decoder.layers[0]
    for number, block in enumerate(decoder.layers):
        core, other = core_of(block), core_of(first)
        if (core.heads, core.kv_heads, core.head_dim, core.scale, core.softcap) != (
            other.heads,
            other.kv_heads,
            other.head_dim,
            other.scale,
            other.softcap,
        ):
            refuse(f"layers.{number}.attention.core", "layers whose attention differs in more than its window")
        if block.mlp.up.rows != first.mlp.up.rows:
            refuse(f"layers.{number}.mlp", "MLPs of different sizes")
        if block.parallel or block.factor is not None:
            refuse(f"layers.{number}", "attention and MLP side by side, or a factor on what a layer gives")
    if len({norm.epsilon for _, norm in norms(decoder)}) > 1:
        refuse("norm", "norms with different epsilons")
    core = core_of(first)
    if found.caps == "both" and (core.softcap is None or decoder.softcap is None):
        refuse("layers.0.attention.core", "scores or logits without a cap")
    if found.caps == "logits" and core.softcap is not None:
        refuse("layers.0.attention.core", f"a cap of {core.softcap:g} on scores")
    if (found.own_window or (found.architecture, len(decoder.layers)) == ("exaone4", 64)) and not any(windows(decoder)):
        refuse("layers.0.attention.core", "layers of which none has a window")
    if not found.head_size and core_of(first).query_size != decoder.hidden_size:
        refuse(
            "layers.0.attention.core", f"heads that together are {core_of(first).query_size} wide in a hidden size of {decoder.hidden_size}"
        )


def _heads(decoder: Decoder, found: Written, refuse: Refuse) -> None:
    if decoder.tied_head and not found.tied_head:
        refuse("head", "a head that is the embedding's own table")
    if not decoder.tied_head and not found.own_head:
        refuse("head", "a head of its own")
    if decoder.head.bias is not None:
        refuse("head", "a bias")


def _biases(decoder: Decoder, found: Written, refuse: Refuse) -> None:
    for name, part in leaves(decoder):
        role = name.split(".", 2)[-1]
        if isinstance(part, Linear) and part.bias is not None and role not in found.biases:
            refuse(name, "a bias")


def _factors(decoder: Decoder, found: Written, refuse: Refuse) -> None:
    """What the tree has folded into its weights has to be what llama.cpp computes beside them."""
    root = float(decoder.hidden_size**0.5)
    scale = decoder.embedding.weight.scale
    if not found.factors and scale != (root if found.scaled_embedding else 1.0):
        refuse("embedding", f"a factor of {scale:g} on the embedding")
    core = core_of(decoder.layers[0])
    wanted = attention_scale(decoder, found)
    if not found.factors and abs(core.scale / wanted - 1) > 1e-6:
        refuse("layers.0.attention.core", f"scores times {core.scale:g}, where it multiplies by {wanted:g}")
    if found.factors:
        return
    for name, part in leaves(decoder):
        if isinstance(part, Linear) and part.weight.scale != 1 and name != "head":
            refuse(name, f"a factor of {part.weight.scale:g}")
    if not decoder.tied_head and decoder.head.weight.scale != 1:
        refuse("head", f"a factor of {decoder.head.weight.scale:g}")


def _positions(decoder: Decoder, found: Written, refuse: Refuse) -> None:
    for number, block in enumerate(decoder.layers):
        attention = block.attention
        without = bool(found.without_positions) and (number + 1) % found.without_positions == 0
        if attention is not None and (attention.rotation is None) != without:
            refuse(f"layers.{number}.attention", "positions in these layers" if without else "a layer without positions")
        if attention is not None and attention.norms_follow_rotation:
            refuse(f"layers.{number}.attention", "norms behind the rotation")


def attention_scale(decoder: Decoder, found: Written) -> float:
    """What llama.cpp multiplies scores by where the file does not say it."""
    core = core_of(decoder.layers[0])
    size = decoder.hidden_size // core.heads if len(decoder.layers) == found.layers_of_27b else core.head_dim
    return float(size**-0.5)


def core_of(block: Block):  # type: ignore[no-untyped-def]
    assert block.attention is not None, "the backend refuses layers without attention"
    return block.attention.core
