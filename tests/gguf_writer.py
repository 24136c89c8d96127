"""GGUF files of transformers models, written as llama.cpp's converter writes them: with its own package, names and row order."""

import json
from pathlib import Path

import gguf
import numpy as np

TOKENS = 131
ROPE_DIVISORS = {"factor": 8.0, "low": 1.0, "high": 4.0, "original": 8192}
NAMES = {"gemma3_text": "gemma3"}  # where llama.cpp's is not transformers'
INTERLEAVED = ("llama", "smollm3", "arcee", "granite")


def byte_level_words(count: int = 300) -> dict:
    """A small byte-level vocabulary trained here: ``tokens``, ``merges``, ``kinds`` and the tokenizer that it is of."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    engine = Tokenizer(models.BPE())
    engine.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    engine.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=count, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=["<|end|>", "<|user|>"], show_progress=False
    )
    engine.train_from_iterator(Path(__file__).read_text().splitlines(), trainer)
    vocabulary = engine.get_vocab()
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    merges = [" ".join(pair) for pair in json.loads(engine.to_str())["model"]["merges"]]
    return {"tokens": tokens, "merges": merges, "kinds": [3, 3] + [1] * (len(tokens) - 2), "engine": engine}


def interleave(weight: np.ndarray, heads: int) -> np.ndarray:
    """What llama.cpp's converter does to the rows of queries and keys."""
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def rope_divisors(theta: float, head_dim: int) -> np.ndarray:
    """The tensor rope_freqs that llama.cpp's converter makes of Llama 3's scaling, frequency by frequency as it does."""
    known, found = ROPE_DIVISORS, []
    for place in range(0, head_dim, 2):
        wavelength = 2 * np.pi * theta ** (place / head_dim)
        if wavelength < known["original"] / known["high"]:
            found.append(1.0)
        elif wavelength > known["original"] / known["low"]:
            found.append(known["factor"])
        else:
            smooth = (known["original"] / wavelength - known["low"]) / (known["high"] - known["low"])
            found.append(1 / ((1 - smooth) / known["factor"] + smooth))
    return np.array(found, np.float32)


def write_model(path: Path, model, stored: dict[str, str] | None = None, words: dict | None = None, extra=lambda writer: None) -> Path:
    """Writes a transformers model; ``stored`` is the type of a tensor by the end of its transformers name, else F32."""
    config = model.config
    architecture = NAMES.get(config.model_type, config.model_type)
    [kind] = [kind for kind, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture]
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    rotation = config.rope_parameters.get("full_attention", config.rope_parameters)
    theta, head_dim = rotation["rope_theta"], getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_rope_freq_base(theta)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    for add, name in (
        (writer.add_attention_scale, "attention_multiplier"), (writer.add_embedding_scale, "embedding_multiplier"),
        (writer.add_residual_scale, "residual_multiplier"), (writer.add_logit_scale, "logits_scaling"),
        (writer.add_attn_logit_softcapping, "attn_logit_softcapping"), (writer.add_final_logit_softcapping, "final_logit_softcapping"),
    ):  # fmt: skip
        if getattr(config, name, None):
            add(getattr(config, name))
    if architecture in ("gemma2", "gemma3"):
        writer.add_sliding_window(config.sliding_window)
    if rotation.get("rope_type") == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rotation["factor"])
    names = gguf.get_tensor_name_map(kind, config.num_hidden_layers)
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        values = weight.float().numpy()
        if architecture in INTERLEAVED and ".q_proj" in name:
            values = interleave(values, config.num_attention_heads)
        if architecture in INTERLEAVED and ".k_proj" in name:
            values = interleave(values, config.num_key_value_heads)
        if architecture.startswith("gemma") and name.endswith("norm.weight"):
            values = values + 1
        kind = next((kind for end, kind in (stored or {}).items() if name.endswith(end)), "F32")
        add_tensor(writer, names.get_name(name, (".weight", ".bias")), np.ascontiguousarray(values), kind)
    if rotation.get("rope_type") == "llama3":
        writer.add_tensor("rope_freqs.weight", rope_divisors(theta, head_dim))
    add_words(writer, words or byte_level_words())
    extra(writer)
    return finish(writer, path)


def add_tensor(writer: gguf.GGUFWriter, name: str, values: np.ndarray, kind: str) -> None:
    """Adds values in a storage type that the package can quantize to."""
    number = gguf.GGMLQuantizationType[kind]
    writer.add_tensor(name, gguf.quants.quantize(values, number), raw_dtype=number)


def add_words(writer: gguf.GGUFWriter, words: dict) -> None:
    writer.add_tokenizer_model(words.get("model", "gpt2"))
    if words.get("pre", "smollm"):
        writer.add_tokenizer_pre(words.get("pre", "smollm"))
    writer.add_token_list(words["tokens"])
    writer.add_token_types(words["kinds"])
    if "merges" in words:
        writer.add_token_merges(words["merges"])
    if "scores" in words:
        writer.add_token_scores(words["scores"])
    writer.add_eos_token_id(words.get("eos", 0))
    if words.get("template"):
        writer.add_chat_template(words["template"])


def finish(writer: gguf.GGUFWriter, path: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def random_blocks(kind: str, rows: int, columns: int, seed: int = 0) -> np.ndarray:
    """Valid blocks of a type that the package cannot quantize to: any bits, but for the scales in half precision, which are small and finite."""
    values, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    generator = np.random.default_rng(seed)
    blocks = generator.integers(0, 256, (rows * columns // values, size), dtype=np.uint8)
    for place in HALVES[kind]:
        blocks[:, place : place + 2] = generator.uniform(-0.01, 0.01, (len(blocks), 1)).astype(np.float16).view(np.uint8)
    return blocks.reshape(rows, -1)


# Where a block of 256 values has numbers in half precision (ggml-common.h).
HALVES = {"Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}
