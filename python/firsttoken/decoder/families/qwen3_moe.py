"""Qwen3 with experts (arXiv 2505.09388): attention as in Qwen3, and in all or some layers an MLP of experts chosen by a softmax."""

from firsttoken.decoder.config_json import Config
from firsttoken.decoder.families.compose import activation, attention, decoder, gated_mlp, head_norms, pre_norm_block, sliding_windows
from firsttoken.decoder.families.experts import expert_counts, expert_mlp, router_weight
from firsttoken.decoder.parts import Block, Decoder, Mlp, Router
from firsttoken.errors import FirstTokenError

MODELS = "Qwen3-30B-A3B and smaller (every expert is computed)"
IGNORED = ("router_aux_loss_coef", "output_router_logits", "max_window_layers")  # of training; of what a call returns; read by no one


def describe(config: Config) -> Decoder:
    windows = sliding_windows(config, config.flag("use_sliding_window"))  # of all layers: none is spared, unlike in Qwen3
    experts, chosen = expert_counts(config, 128, 8)
    sparse = sparse_layers(config, experts)
    size, divided = config.size("moe_intermediate_size", 768), config.flag("norm_topk_prob")
    dense = config.size("intermediate_size", 6144)  # read where no layer has it, too
    for key in IGNORED:
        config.get(key)

    def mlp(number: int, at: str) -> Mlp:
        if number not in sparse:
            return gated_mlp(config, at, size=dense)
        group = f"{at}.mlp"
        router = Router(router_weight(group), experts, config.size("hidden_size"), chosen, "softmax", divided=divided)
        return expert_mlp(config, group, router, names=("gate_proj", "up_proj", "down_proj"), size=size, act=activation(config))

    def block(number: int, at: str) -> Block:
        bias = config.flag("attention_bias")
        mixed = attention(config, at, qkv_bias=bias, output_bias=bias, norms=head_norms(config, at), window=windows[number])
        return pre_norm_block(config, at, mixed, mlp(number, at))

    return decoder(config, block)


def sparse_layers(config: Config, experts: int) -> set[int]:
    """The numbers of the layers with experts: every ``decoder_sparse_step``-th that ``mlp_only_layers`` does not name. Raises `FirstTokenError`."""
    count, step, spared = config.size("num_hidden_layers"), config.size("decoder_sparse_step", 1), config.get("mlp_only_layers", [])
    if not isinstance(spared, list) or any(type(n) is not int for n in spared):
        raise FirstTokenError(f"config.json: mlp_only_layers is {spared!r}; expected a list of the numbers of layers, or null")
    return {n for n in range(count) if experts and n not in spared and (n + 1) % step == 0}
