"""A GGUF file's metadata as the ``config.json`` of the checkpoint it was converted from, and its tensors' names there.

The architectures are those of `known_architectures`. A key that none of them knows may change what the model computes and is refused by name, as an unread key of a ``config.json`` is.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from firsttoken.errors import FirstTokenError, nearest
from firsttoken.gguf_file.header import Header
from firsttoken.gguf_file.known_architectures import ARCHITECTURES, Architecture
from firsttoken.safe_text import visible

# Key behind "<architecture>." -> key of config.json.
SIZES = {
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
}
NUMBERS = {"attention.layer_norm_rms_epsilon": "rms_norm_eps", "rope.freq_base": "rope_theta"}
CHECKED = ("vocab_size", "attention.value_length", "rope.dimension_count")  # said twice; both have to agree
ROPE_SCALING = (
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.original_context_length",
    "rope.scaling.finetuned",
    "rope.scale_linear",
)
# What the file says about itself and nothing about the arithmetic.
INERT = re.compile(
    r"general\..*|firsttoken\..*|quantize\.imatrix\..*|tokenizer\..*|[^.]+\.(tensor_data_layout|expert_count|expert_used_count|nextn_predict_layers|attention\.causal)"
)
NEEDED = (
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "attention.head_count",
    "attention.layer_norm_rms_epsilon",
)

TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
BLOCK = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip
ROPE_FREQUENCIES = "rope_freqs.weight"
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}  # of every Llama 3.1, 3.2 and 3.3


def architecture_of(path: Path, header: Header) -> Architecture:
    """Raises `FirstTokenError` for an architecture that is not in the table."""
    found = header.metadata.get("general.architecture")
    if not isinstance(found, str) or found not in ARCHITECTURES:
        raise FirstTokenError(
            f"{path}: its architecture is {visible(repr(found))}, which is not supported{nearest(str(found), ARCHITECTURES)}; "
            f"expected one of {', '.join(ARCHITECTURES)}; export from the original Hugging Face checkpoint where its family is supported"
        )
    return ARCHITECTURES[found]


class Metadata:
    """The keys of one architecture, checked as they are asked for."""

    def __init__(self, path: Path, header: Header) -> None:
        self.path, self.values = path, header.metadata
        self.prefix = f"{header.metadata['general.architecture']}."

    def get(self, key: str) -> Any:
        return self.values.get(self.prefix + key)

    def size(self, key: str) -> int:
        value = self.get(key)
        if type(value) is not int or not 0 < value < 1 << 31:
            self.refuse(key, "a positive whole number; layers that differ from each other are not supported")
        return value

    def number(self, key: str) -> float:
        value = self.get(key)
        if type(value) not in (int, float) or not np.isfinite(value):
            self.refuse(key, "a number")
        # stored in float32: the shortest decimal that is this float32, which the original config.json had
        return float(str(np.float32(value)))

    def refuse(self, key: str, wanted: str) -> None:
        value = self.values.get(self.prefix + key)
        shown = "missing" if value is None else visible(repr(value), 80)
        raise FirstTokenError(f"{self.path}: metadata {self.prefix + key!r} is {shown}; expected {wanted}")


def configuration(path: Path, header: Header) -> dict[str, Any]:
    """Returns the ``config.json`` that the file's metadata amounts to. Raises `FirstTokenError` for what is absent, absurd or not understood."""
    architecture, data = architecture_of(path, header), Metadata(path, header)
    _check_known(data, architecture)
    if header.metadata.get("split.count", 0) not in (0, 1):
        raise FirstTokenError(
            f"{path}: is one of {visible(repr(header.metadata['split.count']))} parts; join them with llama-gguf-split --merge, and give the whole file"
        )
    for key in NEEDED:
        if data.get(key) is None:
            data.refuse(key, "what every converter writes; the file is incomplete")
    config: dict[str, Any] = {"model_type": architecture.model_type, "hidden_act": "silu", **architecture.always}
    for key, name in (SIZES | dict(architecture.keys)).items():
        if data.get(key) is not None:
            config[name] = data.size(key)
    for key, name in (NUMBERS | dict(architecture.numbers)).items():
        if data.get(key) is not None:
            config[name] = data.number(key)
    config |= architecture.derived({"head_dim": config["hidden_size"] // config["num_attention_heads"], **config})
    embedding = header.tensors.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2:
        raise FirstTokenError(f"{path}: tensor 'token_embd.weight' is missing or no matrix; the file is incomplete")
    config["vocab_size"] = embedding.shape[0]
    config["tie_word_embeddings"] = "output.weight" not in header.tensors  # as llama.cpp takes it
    _biases(path, config, header)
    head_dim = config.get("head_dim", config["hidden_size"] // config["num_attention_heads"])
    for key, wanted in zip(CHECKED, (config["vocab_size"], head_dim, head_dim), strict=True):
        if data.get(key) is not None and data.size(key) != wanted:
            data.refuse(key, f"{wanted}, as the rest of the file says")
    if scaling := _scaling(path, data) or _frequencies(path, header, config, head_dim):
        config["rope_scaling"] = scaling
    return config


def _check_known(data: Metadata, architecture: Architecture) -> None:
    known = {data.prefix + key for key in (*SIZES, *NUMBERS, *CHECKED, *ROPE_SCALING, *architecture.keys, *architecture.numbers)} | {
        "split.count",
        "split.no",
        "split.tensors.count",
    }
    for key, value in data.values.items():
        said = len(value) > 0 if isinstance(value, (list, np.ndarray)) else value not in (0, False, "")
        inert = INERT.fullmatch(key) and not (said and key.endswith(("expert_count", "expert_used_count", "nextn_predict_layers")))
        if key.endswith(".attention.causal") and value is False:
            raise FirstTokenError(
                f"{data.path}: metadata {visible(key)!r} is False; expected a model whose positions see only what is before them"
            )
        if said and not inert and key not in known:
            raise FirstTokenError(
                f"{data.path}: metadata {visible(key)!r} is {visible(repr(value), 80)}, which firsttoken does not know; "
                "it may change what the model computes, so nothing is exported"
            )


def _biases(path: Path, config: dict[str, Any], header: Header) -> None:
    """Qwen2 always has them at queries, keys and values, the others where the file does."""
    has = {
        name: f"blk.0.{name}.bias" in header.tensors
        for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    }
    if config["model_type"] == "qwen2":
        return
    config["attention_bias"] = has["attn_q"]
    if config["model_type"] in ("llama", "smollm3", "arcee", "granite"):
        config["mlp_bias"] = has["ffn_down"]


def _scaling(path: Path, data: Metadata) -> dict[str, Any] | None:
    kind = data.get("rope.scaling.type")
    if kind in (None, "none"):
        if data.get("rope.scale_linear") not in (None, 0, 1.0) or data.get("rope.scaling.factor") not in (None, 0, 1.0):
            data.refuse("rope.scaling.type", "'linear' or 'yarn' beside a factor")
        return None
    if kind == "linear":
        return {"rope_type": "linear", "factor": data.number("rope.scaling.factor")}
    if kind == "yarn":
        found: dict[str, Any] = {"rope_type": "yarn", "factor": data.number("rope.scaling.factor")}
        if data.get("rope.scaling.original_context_length") is not None:
            found["original_max_position_embeddings"] = data.size("rope.scaling.original_context_length")
        return found
    data.refuse("rope.scaling.type", "'none', 'linear' or 'yarn'")
    return None


def _frequencies(path: Path, header: Header, config: dict[str, Any], head_dim: int) -> dict[str, Any] | None:
    """Llama 3's scaling stands in the file as one divisor for every frequency; its parameters are found again, and compared with all of them."""
    if ROPE_FREQUENCIES not in header.tensors:
        return None
    stored = header.tensors[ROPE_FREQUENCIES]
    if stored.dtype != "F32" or stored.shape != (head_dim // 2,):
        raise FirstTokenError(f"{path}: tensor {ROPE_FREQUENCIES!r} is {stored.dtype} {list(stored.shape)}; expected F32 [{head_dim // 2}]")
    with open(path, "rb") as stream:
        stream.seek(stored.offset)
        divisors = np.frombuffer(stream.read(stored.length), np.float32).astype(np.float64)
    factor = float(divisors.max())
    frequencies = config.get("rope_theta", 10_000.0) ** -(np.arange(0, head_dim, 2) / head_dim)
    low, high, original = LLAMA3["low_freq_factor"], LLAMA3["high_freq_factor"], LLAMA3["original_max_position_embeddings"]
    turns = original * frequencies / (2 * np.pi)
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = 1 / ((1 - smooth) / factor + smooth)
    if not (np.isfinite(factor) and factor >= 1 and np.allclose(divisors, expected, rtol=1e-4)):
        raise FirstTokenError(
            f"{path}: tensor {ROPE_FREQUENCIES!r} holds rotation frequencies that are not Llama 3's scaling (low 1, high 4, from 8192 positions); "
            "they cannot be written as a config.json, so nothing is exported"
        )
    return {"rope_type": "llama3", "factor": factor, **LLAMA3}


def tensor_name(path: Path, name: str, architecture: Architecture) -> str:
    """Returns what transformers calls a tensor. Raises `FirstTokenError` for one that the architecture does not have."""
    stem, _, kind = name.rpartition(".")
    block = re.fullmatch(r"blk\.(0|[1-9]\d{0,4})\.(\w+)", stem)
    known = TOP.get(stem) if block is None else (BLOCK | dict(architecture.block)).get(block[2])
    if known is None or kind not in ("weight", "bias"):
        raise FirstTokenError(
            f"{path}: tensor {visible(name)!r} has no place in a {architecture.model_type} decoder; it would be dropped silently"
        )
    return f"{known}.{kind}" if block is None else f"model.layers.{block[1]}.{known}.{kind}"


def is_plus_one(name: str, architecture: Architecture) -> bool:
    """Whether a tensor, by transformers' name, is a norm's weight to which the converter added 1."""
    return architecture.norms_plus_one and name.endswith("norm.weight")


def row_order(name: str, architecture: Architecture, config: Mapping[str, Any]) -> tuple[int, ...] | None:
    """The order that undoes the converter's, for every head's rows of queries and keys (`checkpoint.Source.order`)."""
    if not architecture.interleaved or not re.search(r"\.attn_[qk]\.(weight|bias)$", name):
        return None
    half = config.get("head_dim", config["hidden_size"] // config["num_attention_heads"]) // 2
    return tuple(2 * pair + side for side in range(2) for pair in range(half))
