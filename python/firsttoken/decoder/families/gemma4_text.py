"""Gemma 4's text decoder without experts: heads of two sizes, embeddings of every layer, last layers that share earlier keys and values."""

from dataclasses import dataclass

from firsttoken.decoder.config_json import Config
from firsttoken.decoder.families.compose import activation, decoder, linear, max_positions, rms_norm
from firsttoken.decoder.families.gemma2 import NORMS, softcap
from firsttoken.decoder.families.gemma4_layers import LayerFacts, layer_facts
from firsttoken.decoder.parts import Attention, Block, Core, Decoder, Embedding, Factor, LayerInput, LayerTable, Mlp, Norm
from firsttoken.decoder.rope import Rope, parameters, proportional_rope, rope_from_config
from firsttoken.errors import FirstTokenError
from firsttoken.weight_source import Source

MODELS = "Gemma 4 E2B, E4B and 31B (text)"
OF_EXPERTS = ("num_experts", "top_k_experts", "moe_intermediate_size", "expert_intermediate_size")
THETA = {"sliding_attention": 10_000.0, "full_attention": 1_000_000.0}


def describe(config: Config) -> Decoder:
    refuse_what_is_missing(config)
    return Gemma4(config, per_layer_size(config)).decoder()


def refuse_what_is_missing(config: Config) -> None:
    if config.flag("enable_moe_block"):
        raise FirstTokenError("config.json: enable_moe_block: layers of experts are not supported in a gemma4_text decoder; expected false")
    for key in OF_EXPERTS:
        config.get(key)  # of layers that this model does not have
    seen = config.get("use_bidirectional_attention")
    if seen not in (None, False, "vision"):  # "vision": the tokens of one picture see each other; text is causal
        raise FirstTokenError(
            f"config.json: use_bidirectional_attention {seen!r}: an encoder, not a decoder that writes text; nothing is exported"
        )


def per_layer_size(config: Config) -> int | None:
    """Values that every layer takes of its own embedding, None in a model without it (0 or null)."""
    rows = config.size("vocab_size_per_layer_input", 262_144)
    if config.has("hidden_size_per_layer_input") and not config.get("hidden_size_per_layer_input"):
        return None
    if rows < config.size("vocab_size"):
        raise FirstTokenError(
            f"config.json: vocab_size_per_layer_input {rows} is less than vocab_size {config.size('vocab_size')}; tokens beyond it would have no row"
        )
    return config.size("hidden_size_per_layer_input", 256)


@dataclass
class Gemma4:
    """One configuration as it is composed; ``size`` as `per_layer_size` says."""

    config: Config
    size: int | None

    def decoder(self) -> Decoder:
        config, size = self.config, self.size
        self.layers = layer_facts(config)
        self.ropes = {(fact.kind, fact.head_dim): self.rotation(fact) for fact in self.layers}
        self.activation = activation(config, "hidden_activation", "gelu_pytorch_tanh")
        self.bias, self.wide = config.flag("attention_bias"), config.flag("use_double_wide_mlp")
        whole = decoder(
            config, self.block, tied=True, embedding_scale=float(config.size("hidden_size") ** 0.5),
            softcap=softcap(config, "final_logit_softcapping", None),
        )  # fmt: skip
        return whole if size is None else Decoder(**{**vars(whole), "per_layer": layer_table(config, len(self.layers), size)})

    def rotation(self, fact: LayerFacts) -> Rope:
        own = parameters(self.config, fact.kind)
        if not own and fact.kind == "full_attention":
            own = {"rope_type": "proportional", "partial_rotary_factor": 0.25}
        if own.get("rope_type") == "proportional":
            return proportional_rope(own, fact.head_dim, THETA[fact.kind])
        if own.get("rope_type", "default") == "default" and own.get("partial_rotary_factor", 1.0) != 1.0:
            raise FirstTokenError(
                f"config.json: partial_rotary_factor {own['partial_rotary_factor']} of {fact.kind}: transformers turns the whole head with the "
                "rope_type 'default'; expected 'proportional' or no such factor"
            )
        return rope_from_config(self.config, fact.head_dim, max_positions(self.config), kind_of_layer=fact.kind, theta=THETA[fact.kind])

    def block(self, number: int, at: str) -> Block:
        config, hidden, fact = self.config, self.config.size("hidden_size"), self.layers[number]
        attention = layer_attention(config, fact, f"{at}.self_attn", self.ropes[fact.kind, fact.head_dim], self.bias)
        before, after, before_mlp, after_mlp = (rms_norm(config, f"{at}.{name}", hidden) for name in NORMS)
        return Block(
            attention_norm=before, attention=attention, attention_output_norm=after,
            mlp_norm=before_mlp, mlp=self.mlp(fact, f"{at}.mlp"), mlp_output_norm=after_mlp,
            per_layer=None if self.size is None else layer_input(config, at, self.size, self.activation),
            factor=Factor(Source(f"{at}.layer_scalar")),
        )  # fmt: skip

    def mlp(self, fact: LayerFacts, at: str) -> Mlp:
        hidden, size = self.config.size("hidden_size"), self.config.size("intermediate_size")
        size *= 2 if self.wide and fact.shares is not None else 1
        gate, up = (linear(f"{at}.{name}_proj", size, hidden) for name in ("gate", "up"))
        return Mlp(gate, up, linear(f"{at}.down_proj", hidden, size), self.activation)


def layer_attention(config: Config, fact: LayerFacts, at: str, rope: Rope, bias: bool) -> Attention:
    """Attention without a scale on its scores, with norms of every head."""
    hidden, dim, own = config.size("hidden_size"), fact.head_dim, fact.shares is None
    return Attention(
        q=linear(f"{at}.q_proj", fact.heads * dim, hidden, bias),
        k=linear(f"{at}.k_proj", fact.kv_heads * dim, hidden, bias) if own else None,
        v=linear(f"{at}.v_proj", fact.kv_heads * dim, hidden, bias) if own and not fact.keys_as_values else None,
        core=Core(fact.heads, fact.kv_heads, dim, 1.0, fact.window),
        output=linear(f"{at}.o_proj", hidden, fact.heads * dim, bias),
        rotation=rope,
        q_norm=rms_norm(config, f"{at}.q_norm", dim),
        k_norm=rms_norm(config, f"{at}.k_norm", dim) if own else None,
        v_norm=Norm(None, dim, config.fraction("rms_norm_eps", 1e-6)) if own else None,
        shares=fact.shares,
    )


def layer_table(config: Config, count: int, size: int) -> LayerTable:
    """The embeddings of ``count`` layers. The two halves are added and divided by the root of 2; the projection is divided by that of its
    input's size before its norm."""
    hidden, half = config.size("hidden_size"), 0.5**0.5
    return LayerTable(
        Embedding(
            Source("model.embed_tokens_per_layer.weight", scale=float(size**0.5 * half)),
            config.size("vocab_size_per_layer_input", 262_144),
            count * size,
        ),
        linear("model.per_layer_model_projection", count * size, hidden, scale=float(hidden**-0.5)),
        rms_norm(config, "model.per_layer_projection_norm", size, scale=half),
        size,
    )


def layer_input(config: Config, at: str, size: int, activation: str) -> LayerInput:
    hidden = config.size("hidden_size")
    return LayerInput(
        linear(f"{at}.per_layer_input_gate", size, hidden),
        linear(f"{at}.per_layer_projection", hidden, size),
        rms_norm(config, f"{at}.post_per_layer_input_norm", hidden),
        activation,
    )
