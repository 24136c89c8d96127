"""The text part of models that see pictures, and models saved without their head, are read as what they are."""

import json

import numpy as np
import pytest
import torch
from families_on_disk import random_model, save
from safetensors.torch import load_file, save_file

from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.walk import open_decoder
from firsttoken.errors import FirstTokenError
from firsttoken.prove.reference import reference_logits

TEXT = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 96, "vocab_size": 131,
    "max_position_embeddings": 256, "head_dim": 16,
}  # fmt: skip
VISION = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28, "patch_size": 14,
}  # fmt: skip
GEMMA4 = {
    **TEXT, "num_hidden_layers": 4, "global_head_dim": 24, "sliding_window": 24, "layer_types": ["sliding_attention", "full_attention"] * 2,
    "num_kv_shared_layers": 2, "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 131,
}  # fmt: skip
QWEN_VISION = {"depth": 1, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 64, "num_position_embeddings": 16}
# transformers' class prefix -> its text and vision configurations and what else it needs
MODELS = {
    "Gemma3": ({**TEXT, "sliding_window": 24, "layer_types": ["sliding_attention", "full_attention"]}, VISION, {"mm_tokens_per_image": 4}),
    "Gemma4": (GEMMA4, {**VISION, "num_key_value_heads": 2, "head_dim": 16, "position_embedding_size": 8}, {}),
    "SmolVLM": ({**TEXT, "model_type": "llama"}, VISION, {"image_token_id": 130, "scale_factor": 2, "pad_token_id": 0}),
    "Qwen3VL": (
        {**TEXT, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 2, 2], "mrope_interleaved": True}}, QWEN_VISION, {},
    ),
    "Qwen3_5": (
        {
            **TEXT, "num_hidden_layers": 4, "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
            "rms_norm_eps": 1e-3,
        },
        QWEN_VISION, {},
    ),
    "Lfm2Vl": (
        {**TEXT, "model_type": "lfm2", "layer_types": ["conv", "full_attention"]}, {**VISION, "num_patches": 16, "model_type": "siglip2_vision_model"},
        {"image_token_id": 130, "projector_hidden_size": 64},
    ),
    "Mistral3": ({**TEXT, "model_type": "mistral", "sliding_window": None}, {**VISION, "model_type": "pixtral", "head_dim": 16}, {}),
}  # fmt: skip


def random_whole(name):
    import transformers

    text, vision, more = MODELS[name]
    config = getattr(transformers, f"{name}Config")(text_config=text, vision_config=vision, **more)
    config._attn_implementation = "eager"
    torch.manual_seed(0)
    model = getattr(transformers, f"{name}ForConditionalGeneration")(config).eval().requires_grad_(False)
    for weight in model.parameters():
        weight.copy_(torch.randn_like(weight) * (weight.shape[-1] ** -0.5 if weight.ndim > 1 else 0.3))
    return model


@pytest.mark.parametrize("name", MODELS)
def test_the_text_part_of_a_model_that_sees_pictures(name, tmp_path):
    model = random_whole(name)
    model.save_pretrained(tmp_path)
    tokens = np.random.default_rng(1).integers(0, 120, 60)
    with torch.no_grad():
        expected = model(input_ids=torch.from_numpy(tokens)[None]).logits[0].float().numpy()
    with Checkpoint(tmp_path) as checkpoint:
        decoder = open_decoder(checkpoint)
        [found] = reference_logits(checkpoint, decoder, [tokens], [np.arange(60)])
        assert any("takes text alone" in remark for remark in checkpoint.remarks)
    assert np.abs(found - expected).max() < 1e-4 * max(1.0, expected.std())


def test_a_model_saved_without_its_head(tmp_path):
    """As `AutoModel.save_pretrained` writes it: no prefix; a tied head is the embedding."""
    model = random_model("qwen3")
    save(model, tmp_path)
    stored = {
        name.removeprefix("model."): tensor
        for name, tensor in load_file(tmp_path / "model.safetensors").items()
        if name != "lm_head.weight"
    }
    save_file(stored, tmp_path / "model.safetensors")
    tokens = np.random.default_rng(1).integers(0, 131, 40)
    with torch.no_grad():
        expected = model(torch.from_numpy(tokens)[None]).logits[0].numpy()
    with Checkpoint(tmp_path) as checkpoint:
        [found] = reference_logits(checkpoint, open_decoder(checkpoint), [tokens], [np.arange(40)])
    assert np.abs(found - expected).max() < 1e-4


def test_a_text_part_that_does_not_say_what_it_is_is_refused(tmp_path):
    model = random_model("qwen3")
    save(model, tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    for inner, said in (
        ({**values, "model_type": None}, "text_config.model_type is None"),
        ({**values, "model_type": "seer"}, "'seer' is not supported"),
    ):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "internvl", "text_config": inner}))
        with Checkpoint(tmp_path) as checkpoint, pytest.raises(FirstTokenError, match=said):
            open_decoder(checkpoint)
