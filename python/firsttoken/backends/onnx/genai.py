"""``genai_config.json``: how onnxruntime-genai finds its way through the graph, and where its answers end."""

import json

from firsttoken.backends.interface import LoweringJob
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import convolution_states, recurrent_states, states

CONFIG_FILE = "genai_config.json"
MODEL_TYPE = "decoder"  # onnxruntime-genai's name for a decoder that takes ids, mask, positions and a cache, of any family


def why_no_genai(decoder: Decoder) -> str | None:
    """Why onnxruntime-genai cannot run the graph, None where it can: its caches are keys and values of one shape in the first layers, all alike."""
    kept = states(decoder)
    if convolution_states(decoder) or recurrent_states(decoder):
        return "onnxruntime-genai has no place for what convolutions and delta rules remember"
    if [state.layer for state in kept] != list(range(len(kept))):
        return "onnxruntime-genai wants the layers that have a cache to be the first ones"
    if len({(state.kv_heads, state.head_dim) for state in kept}) > 1:
        return "onnxruntime-genai wants the caches of all layers to be of one shape"
    return None


def genai_config(job: LoweringJob, graph_file: str) -> str:
    """The file's text: greedy, over one memory for past and present keys and values."""
    decoder, state = job.decoder, states(job.decoder)[0]
    core = next(block.attention.core for block in decoder.layers if block.attention)
    ends = list(job.ends)
    model = {
        "type": MODEL_TYPE,
        "vocab_size": decoder.vocab_size,
        "context_length": job.target.cache_length,
        "bos_token_id": job.begin if job.begin is not None else (ends or [0])[0],
        "eos_token_id": ends,
        "pad_token_id": (ends or [0])[0],
        "decoder": {
            "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
            "filename": graph_file,
            "head_size": state.head_dim,
            "hidden_size": decoder.hidden_size,
            "num_attention_heads": core.heads,
            "num_hidden_layers": len(states(decoder)),
            "num_key_value_heads": state.kv_heads,
            "inputs": {
                "input_ids": "input_ids",
                "attention_mask": "attention_mask",
                "position_ids": "position_ids",
                "past_key_names": "past_key_values.%d.key",
                "past_value_names": "past_key_values.%d.value",
            },
            "outputs": {"logits": "logits", "present_key_names": "present.%d.key", "present_value_names": "present.%d.value"},
        },
    }
    search = {
        "do_sample": False,
        "early_stopping": True,
        "max_length": job.target.cache_length,
        "min_length": 0,
        "num_beams": 1,
        "num_return_sequences": 1,
        "past_present_share_buffer": True,
        "repetition_penalty": 1.0,
        "temperature": 1.0,
        "top_k": 1,
        "top_p": 1.0,
    }
    return json.dumps({"model": model, "search": search}, indent=1) + "\n"
