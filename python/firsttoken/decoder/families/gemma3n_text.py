"""Gemma 3n's text decoder: four streams of the hidden state, a low-rank way beside attention, sparse MLPs, embeddings of every layer, and last
layers that share earlier keys and values."""

from dataclasses import dataclass
from statistics import NormalDist

from firsttoken.decoder.config_json import Config
from firsttoken.decoder.families.compose import activation, decoder, linear, max_positions, rms_norm
from firsttoken.decoder.families.gemma2 import NORMS, softcap
from firsttoken.decoder.families.gemma3_text import LocalRotation
from firsttoken.decoder.families.gemma4_layers import FULL, SLIDING, LayerFacts, check_heads, layer_kinds, owners
from firsttoken.decoder.families.gemma4_text import layer_attention, layer_input, layer_table
from firsttoken.decoder.parts import Block, Coefficients, Cutoff, Decoder, Factor, LowRank, Mlp, Streams, Updates
from firsttoken.decoder.rope import Rope, parameters, rope_from_config
from firsttoken.errors import FirstTokenError
from firsttoken.safe_text import visible
from firsttoken.weight_source import Source

MODELS = "Gemma 3n E2B and E4B (text)"
EVERY = 5  # without layer_types, every so manieth layer sees all
SPARSE, SPARSITY = 10, 0.95  # without activation_sparsity_pattern: so many first layers of a model with more, and their share of zeros
FLOOR = 1e-5  # of a stream's mean square
TRAINING = ("altup_coef_clip", "altup_lr_multiplier", "query_pre_attn_scalar")  # nothing that computes with given weights reads them


def describe(config: Config) -> Decoder:
    for key in TRAINING:
        config.get(key)
    if config.get("altup_active_idx", 0) != 0 or not config.flag("altup_correct_scale", True):
        raise FirstTokenError(
            f"config.json: altup_active_idx {config.get('altup_active_idx', 0)!r} and altup_correct_scale {config.get('altup_correct_scale', True)!r} "
            "are not supported in a gemma3n_text decoder; expected 0 and true, as in every published model"
        )
    if config.size("altup_num_inputs", 4) < 2:
        raise FirstTokenError("config.json: altup_num_inputs 1: expected two streams or more, of which the layers compute one")
    return Gemma3n(config).decoder()


@dataclass
class Gemma3n:
    """One configuration as it is composed."""

    config: Config

    def decoder(self) -> Decoder:
        config = self.config
        self.hidden, self.streams = config.size("hidden_size"), config.size("altup_num_inputs", 4)
        self.size = config.size("hidden_size_per_layer_input", 256)
        self.kinds = layer_kinds(config, EVERY)
        self.heads = config.size("num_attention_heads", 8), config.size("num_key_value_heads", 2), config.size("head_dim", 256)
        check_heads(*self.heads, 0)
        self.shared, self.window = owners(config, self.kinds, 15), config.size("sliding_window", 512)
        self.ropes = {kind: self.rotation(kind) for kind in dict.fromkeys(self.kinds)}
        self.activation = activation(config, "hidden_activation", "gelu_pytorch_tanh")
        self.bias, self.sizes, self.sparsity = config.flag("attention_bias"), mlp_sizes(config), sparsity(config)
        whole = decoder(
            config, self.block, tied=True, embedding_scale=float(self.hidden**0.5),
            softcap=softcap(config, "final_logit_softcapping", 30.0),
        )  # fmt: skip
        ends = {"streams": self.ends("altup_projections"), "streams_output": self.ends("altup_unembed_projections")}
        return Decoder(**{**vars(whole), **ends, "per_layer": layer_table(config, len(self.kinds), self.size)})

    def rotation(self, kind: str) -> Rope:
        part = parameters(self.config, kind).get("partial_rotary_factor", self.config.get("partial_rotary_factor", 1.0))
        if part != 1.0:
            raise FirstTokenError(
                f"config.json: partial_rotary_factor {part!r} of {kind}: transformers turns the whole head in a gemma3n_text decoder; expected no such factor"
            )
        config = LocalRotation(self.config) if kind == SLIDING else self.config
        theta = 10_000.0 if kind == SLIDING else 1_000_000.0
        return rope_from_config(config, self.heads[2], max_positions(self.config), kind_of_layer=kind, theta=theta)

    def ends(self, name: str) -> Streams:
        return Streams(tuple(linear(f"model.{name}.{n}", self.hidden, self.hidden) for n in range(self.streams - 1)), FLOOR)

    def block(self, number: int, at: str) -> Block:
        config, kind = self.config, self.kinds[number]
        before, after, before_mlp, after_mlp = (rms_norm(config, f"{at}.{name}", self.hidden) for name in NORMS)
        fact = LayerFacts(kind, *self.heads, self.window if kind != FULL else None, self.shared[number], False)
        return Block(
            updates=self.updates(f"{at}.altup"),
            attention_norm=before, attention=layer_attention(config, fact, f"{at}.self_attn", self.ropes[kind], self.bias),
            attention_output_norm=after, low_rank=self.low_rank(f"{at}.laurel"),
            mlp_norm=before_mlp, mlp=self.mlp(number, f"{at}.mlp"), mlp_output_norm=after_mlp,
            per_layer=layer_input(config, at, self.size, self.activation),
        )  # fmt: skip

    def updates(self, at: str) -> Updates:
        """The identity and the 1 that the coefficients are added to are their offsets; what the router takes is divided by its size."""
        count = self.streams
        identity = tuple(float(row == column) for row in range(count) for column in range(count))
        return Updates(
            rms_norm(self.config, f"{at}.router_norm", self.hidden, scale=1 / self.hidden),
            Coefficients(Source(f"{at}.modality_router.weight"), count, self.hidden, (0.0,) * count),
            Coefficients(Source(f"{at}.prediction_coefs.weight"), count * count, count, identity),
            Coefficients(Source(f"{at}.correction_coefs.weight"), count, count, (1.0,) * count),
            Factor(Source(f"{at}.correct_output_scale"), self.hidden),
        )

    def low_rank(self, at: str) -> LowRank:
        rank = self.config.size("laurel_rank", 64)
        left, right = linear(f"{at}.linear_left", rank, self.hidden), linear(f"{at}.linear_right", self.hidden, rank)
        return LowRank(left, right, rms_norm(self.config, f"{at}.post_laurel_norm", self.hidden))

    def mlp(self, number: int, at: str) -> Mlp:
        size, share = self.sizes[number], self.sparsity[number]
        gate, up = (linear(f"{at}.{name}_proj", size, self.hidden) for name in ("gate", "up"))
        cutoff = Cutoff(size, NormalDist().inv_cdf(share)) if share else None
        return Mlp(gate, up, linear(f"{at}.down_proj", self.hidden, size), self.activation, cutoff=cutoff)


def mlp_sizes(config: Config) -> list[int]:
    """``intermediate_size`` of every layer, written once or for each."""
    count, found = config.size("num_hidden_layers"), config.get("intermediate_size", 16_384)
    if not isinstance(found, list):
        return [config.size("intermediate_size", 16_384)] * count
    if len(found) != count:
        raise FirstTokenError(f"config.json: intermediate_size names {len(found)} layers; expected {count}, as num_hidden_layers says")
    return [Config({"intermediate_size": size}).size("intermediate_size") for size in found]


def sparsity(config: Config) -> list[float]:
    """The share of zeros that every layer's gate is cut off to, 0 where nothing is cut."""
    count, found = config.size("num_hidden_layers"), config.get("activation_sparsity_pattern")
    if found is None:
        sparse = SPARSE if count > SPARSE else 0
        return [SPARSITY] * sparse + [0.0] * (count - sparse)
    wrong = not isinstance(found, list) or len(found) != count
    if wrong or any(isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share < 1 for share in found):
        raise FirstTokenError(
            f"config.json: activation_sparsity_pattern is {visible(repr(found), 80)}; expected {count} numbers from 0 to below 1, as num_hidden_layers says"
        )
    return [float(share) for share in found]
