"""The sizes of a decoder that a cut changes, and the steps from a teacher's to a student's."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from firsttoken.decoder.families import describe
from firsttoken.decoder.parts import Attention, Block, Decoder
from firsttoken.decoder.walk import parameter_count
from firsttoken.distill.recipe import Cut
from firsttoken.errors import FirstTokenError

SIZES = ("layers", "hidden_size", "heads", "kv_heads", "intermediate_size")
FRACTIONS = 64  # how finely a step's length is searched


@dataclass(frozen=True)
class Sizes:
    """The sizes that a cut changes."""

    layers: int
    hidden_size: int
    heads: int
    kv_heads: int
    intermediate_size: int

    def __str__(self) -> str:
        return ", ".join(f"{name} {getattr(self, name)}" for name in SIZES)


def sizes_of(decoder: Decoder) -> Sizes:
    """The sizes of a decoder. Raises `FirstTokenError` where its layers are not of one size."""
    found = {(attention_of(block).core.heads, attention_of(block).core.kv_heads, block.mlp.up.rows) for block in decoder.layers}
    if len(found) > 1:
        raise FirstTokenError(
            f"student.cut: the layers of this {decoder.family} decoder differ in size; only decoders of equal layers can be cut"
        )
    heads, kv_heads, mlp = found.pop()
    return Sizes(len(decoder.layers), decoder.hidden_size, heads, kv_heads, mlp)


def head_dim(decoder: Decoder) -> int:
    return attention_of(decoder.layers[0]).core.head_dim


def attention_of(block: Block) -> Attention:
    assert block.attention is not None, "`check_cuttable` refuses the others"
    return block.attention


def parameters(config: dict, sizes: Sizes) -> int:
    """Weights of a decoder of this ``config.json`` with other sizes."""
    return parameter_count(describe(resized(config, sizes, range(sizes.layers))))


def target_sizes(decoder: Decoder, cut: Cut) -> Sizes:
    """What the recipe asks for. Raises `FirstTokenError` for a size above the teacher's, heads that do not share evenly, or a family that is not cut."""
    check_cuttable(decoder)
    now = sizes_of(decoder)
    wanted = {name: getattr(now, name) if getattr(cut, name) is None else getattr(cut, name) for name in SIZES}
    for name, size in wanted.items():
        if size > getattr(now, name):
            raise FirstTokenError(
                f"student.cut.{name} is {size}, but the teacher has only {getattr(now, name)}; a cut can only make it smaller"
            )
    if wanted["heads"] % wanted["kv_heads"]:
        raise FirstTokenError(
            f"student.cut: {wanted['heads']} heads cannot share {wanted['kv_heads']} kv_heads evenly; expected a multiple"
        )
    if wanted["heads"] // wanted["kv_heads"] > now.heads // now.kv_heads:
        raise FirstTokenError(
            f"student.cut: {wanted['heads']} heads over {wanted['kv_heads']} kv_heads are more per group than the teacher's {now.heads} over {now.kv_heads}; "
            "keep more kv_heads or fewer heads"
        )
    return Sizes(**wanted)


def check_cuttable(decoder: Decoder) -> None:
    """Raises `FirstTokenError` for blocks that are not two gated halves, each behind a norm, from which `cut` and `importance` go."""
    for number, block in enumerate(decoder.layers):
        if block.attention is None:
            raise FirstTokenError(
                f"student.cut: layer {number} of a {decoder.family} decoder has {'a convolution' if block.convolution else 'a gated delta net'} in attention's place, which cutting does not know: give the student a config instead"
            )
        if block.mlp.router is not None:
            raise FirstTokenError(
                f"student.cut: layer {number} of a {decoder.family} decoder has experts, which cutting does not know: give the student a config instead"
            )
        known = block.attention_norm and block.mlp_norm and block.mlp.gate and not block.parallel
        own = block.attention.k is not None and block.attention.v is not None
        more = block.attention_output_norm or block.mlp_output_norm or block.per_layer or block.factor or not own or block.attention.gate
        wide = [norm for norm in (block.attention.q_norm, block.attention.k_norm) if norm and norm.size != block.attention.core.head_dim]
        if not known or more or wide:
            raise FirstTokenError(
                f"student.cut: layer {number} of a {decoder.family} decoder has norms or an MLP that cutting does not know; "
                "it cuts blocks of attention and a gated MLP, each behind a norm (as in llama, mistral, qwen2, qwen3): give the student a config instead"
            )


def plan_steps(config: dict, goal: Sizes, most: float) -> list[Sizes]:
    """Returns the sizes after every step from a decoder of this ``config.json`` on the way to ``goal``, none taking more than the share ``most`` of what is left.

    Raises `FirstTokenError` where one layer or head alone is more than that.
    """
    now, steps = sizes_of(describe(config)), []
    while now != goal:
        size = parameters(config, now)
        fits = [s for s in candidates(now, goal) if s != now and 1 - parameters(config, s) / size <= most]
        if not fits:
            least = min(1 - parameters(config, s) / size for s in candidates(now, goal) if s != now)
            raise FirstTokenError(
                f"student.cut: from {now} to {goal}, the smallest possible step takes {least:.1%} of the parameters; most_per_step is {most:.1%}, "
                f"give {least:.3f} or more, or cut widths instead of layers"
            )
        now = min(fits, key=lambda s: parameters(config, s))
        steps.append(now)
    return steps


def candidates(now: Sizes, goal: Sizes) -> list[Sizes]:
    """Sizes between two, from the whole way to the smallest step: all sizes together, then each alone."""
    found = [between(now, goal, n / FRACTIONS) for n in range(FRACTIONS, 0, -1)]
    for name in ("layers", "hidden_size", "intermediate_size"):
        if getattr(now, name) != getattr(goal, name):
            found.append(replace(now, **{name: getattr(now, name) - 1}))
    return found


def between(now: Sizes, goal: Sizes, share: float) -> Sizes:
    """``share`` of the way from one to the other, rounded up, with heads that divide evenly."""

    def size(name: str) -> int:
        a, b = getattr(now, name), getattr(goal, name)
        return b if share == 1 else a - int((a - b) * share)

    kv, group = size("kv_heads"), now.heads // now.kv_heads
    goal_group = goal.heads // goal.kv_heads
    group = goal_group if share == 1 else group - int((group - goal_group) * share)
    return Sizes(size("layers"), size("hidden_size"), kv * group, kv, size("intermediate_size"))


def resized(config: dict, sizes: Sizes, layers: Sequence[int]) -> dict:
    """Returns ``config.json`` with other sizes and the given layers of the old ones; the size of a head is said outright."""
    made = dict(config)
    made.update(
        num_hidden_layers=sizes.layers,
        hidden_size=sizes.hidden_size,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.kv_heads,
        intermediate_size=sizes.intermediate_size,
        head_dim=head_dim(describe(config)),
    )
    if isinstance(config.get("layer_types"), list):
        made["layer_types"] = [config["layer_types"][n] for n in layers]
    if "max_window_layers" in config:
        made["max_window_layers"] = sizes.layers
    return made
