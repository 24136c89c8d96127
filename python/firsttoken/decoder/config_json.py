"""Reading a Hugging Face ``config.json``: checked values, and which of its keys nobody asked for.

A key that changes what a model computes and that no one read is the quietest way to misread a model, so `Config`
remembers what was read and `check_all_read` names the first key that was not.
"""

from typing import Any

from firsttoken.errors import FirstTokenError
from firsttoken.safe_text import visible

# Far above any model for phones; a larger value is a damaged or hostile file.
LIMITS = {
    "hidden_size": 1 << 16, "num_hidden_layers": 1024, "num_attention_heads": 1024, "num_key_value_heads": 1024,
    "head_dim": 1024, "max_window_layers": 1024, "no_rope_layer_interval": 1024, "intermediate_size_mlp": 1 << 19, "shared_intermediate_size": 1 << 19, "intermediate_size": 1 << 19, "vocab_size": 1 << 22, "max_position_embeddings": 1 << 27,
    "sliding_window": 1 << 27, "global_head_dim": 1024, "num_global_key_value_heads": 1024, "hidden_size_per_layer_input": 1 << 12,
    "vocab_size_per_layer_input": 1 << 22, "block_ff_dim": 1 << 19, "block_multiple_of": 1 << 16, "conv_L_cache": 64,
    "linear_conv_kernel_dim": 64, "linear_key_head_dim": 1024, "linear_value_head_dim": 1024, "linear_num_key_heads": 1024,
    "linear_num_value_heads": 1024, "full_attention_interval": 1024,
    "altup_num_inputs": 16, "laurel_rank": 1 << 14,
    "moe_intermediate_size": 1 << 16, "num_experts": 1024, "num_local_experts": 1024, "num_experts_per_tok": 1024,
    "decoder_sparse_step": 1024,
}  # fmt: skip
# Keys that say nothing about what the model computes from given weights and tokens.
INERT = frozenset(
    ["architectures", "model_type", "transformers_version", "dtype", "torch_dtype", "bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "decoder_start_token_id", "use_cache", "initializer_range", "attention_dropout", "hidden_dropout", "embd_pdrop", "resid_pdrop", "attn_implementation", "_attn_implementation", "_attn_implementation_autoset", "_name_or_path", "name_or_path", "chunk_size_feed_forward", "id2label", "label2id", "num_labels", "problem_type", "return_dict", "output_attentions", "output_hidden_states", "is_decoder", "is_encoder_decoder", "task_specific_params", "finetuning_task", "tokenizer_class", "prefix", "transformers.js_config", "unsloth_version", "unsloth_fixed", "is_llama_config", "model_max_length", "max_length", "min_length", "do_sample", "temperature", "top_k", "top_p", "repetition_penalty", "num_beams", "gradient_checkpointing", "use_flash_attention"]
)  # fmt: skip


class Config:
    """The keys of a ``config.json``, each remembered once it is read."""

    def __init__(self, values: dict) -> None:
        self.values, self.read = values, set[str]()

    def get(self, key: str, default: Any = None) -> Any:
        """The value, or ``default`` where the key is absent or null."""
        self.read.add(key)
        value = self.values.get(key)
        return default if value is None else value

    def has(self, key: str) -> bool:
        """Whether the key is there, null included."""
        self.read.add(key)
        return key in self.values

    def size(self, key: str, default: int | None = None) -> int:
        """A whole number from 1 to the key's limit. Raises `FirstTokenError`."""
        value = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LIMITS[key]:
            raise FirstTokenError(f"config.json: {key} is {value!r}; expected a whole number from 1 to {LIMITS[key]}")
        return value

    def flag(self, key: str, default: bool = False) -> bool:
        """Whether the key is there and true, or ``default`` where it is absent."""
        return bool(self.get(key, default))

    def number(self, key: str, default: float) -> float:
        """A finite number above 0. Raises `FirstTokenError`."""
        value = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e9:
            raise FirstTokenError(f"config.json: {key} is {value!r}; expected a number above 0")
        return float(value)

    def numbers(self, key: str, count: int) -> list[int] | None:
        """A list of ``count`` whole numbers, or None where the key is absent. Raises `FirstTokenError`."""
        value = self.get(key)
        if value is not None and (not isinstance(value, list) or len(value) != count or any(type(n) not in (int, bool) for n in value)):
            raise FirstTokenError(f"config.json: {key} is {visible(repr(value), 80)}; expected a list of {count} whole numbers")
        return value

    def fraction(self, key: str, default: float) -> float:
        """A number between 0 and 1. Raises `FirstTokenError`."""
        value = self.get(key, default) if key not in self.values else self.values[key]
        self.read.add(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1:
            raise FirstTokenError(f"config.json: {key} is {value!r}; expected a number between 0 and 1")
        return float(value)

    def unread(self) -> list[str]:
        """Keys that were not read, are not inert, and say something (neither null, false nor empty)."""
        return [
            key for key, value in self.values.items() if key not in self.read and key not in INERT and value not in (None, False, [], {})
        ]

    def check_all_read(self, family: str) -> None:
        """Raises `FirstTokenError` naming the first key that no one read and that is not known to be inert."""
        left = self.unread()
        if left:
            more = (
                f" (and {len(left) - 1} more: {', '.join(visible(key, 40) for key in left[1:4])}{', …' if len(left) > 4 else ''})"
                if len(left) > 1
                else ""
            )
            raise FirstTokenError(
                f"config.json: {visible(left[0], 80)!r} is {visible(repr(self.values[left[0]]), 80)}, which firsttoken's {family} decoder does not know{more}; "
                "it may change what the model computes, so nothing is exported; if you know that it does not, remove the key from config.json"
            )
