"""The process in which transformers reads a checkpoint, for `firsttoken.prove.witness`: ``python -m firsttoken.prove.witness_worker FOLDER``.

FOLDER holds ``request.json``; ``answer.json`` and ``logits.npy`` are written into it. Nothing is fetched and no code of the checkpoint's is run.
"""

import json
import resource
import sys
from pathlib import Path
from typing import Any

from firsttoken.parent_death import end_with_parent

REQUEST, ANSWER, LOGITS = "request.json", "answer.json", "logits.npy"
SAFE: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}


def tokens_of(tokenizer: Any, text: str) -> list[int]:
    """The text's tokens with what comes before them; what the post-processor writes behind a whole text is no part of a prompt."""
    full, plain = tokenizer(text).input_ids, tokenizer(text, add_special_tokens=False).input_ids
    start = next((n for n in range(len(full) - len(plain) + 1) if full[n : n + len(plain)] == plain), None)
    return full if start is None else full[: start + len(plain)]


def chat_of(tokenizer: Any, messages: list[dict]) -> dict[str, Any]:
    """The conversation as text and tokens, or the template's error."""
    try:
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        return {"text": text, "tokens": tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)}
    except Exception as error:  # a template may fail in any way
        return {"error": said(error)}


def words(folder: str, texts: list[str], chats: list[list[dict]]) -> dict[str, Any]:
    """Texts and chats through AutoTokenizer; the texts also through the tokenizer.json as it is written, where the class builds its own."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **SAFE)
    except Exception as error:  # whatever it says is the answer
        return {"tokenizer_error": said(error)}
    found = {
        "tokenizer": type(tokenizer).__name__,
        "texts": [tokens_of(tokenizer, text) for text in texts],
        "chats": [chat_of(tokenizer, messages) for messages in chats] if tokenizer.chat_template else None,
    }
    try:
        written = PreTrainedTokenizerFast.from_pretrained(folder, **SAFE)
        found["written"] = [tokens_of(written, text) for text in texts]
        found["written_chats"] = [chat_of(written, messages) for messages in chats] if written.chat_template else None
    except Exception:  # it only explains a difference; without it the difference stands
        found["written"] = found["written_chats"] = None
    return found


def cut(config: Any, layers: int) -> None:
    """Leaves the first ``layers`` of a configuration, in every list that has an entry for each."""
    whole = config.num_hidden_layers
    for name, value in list(vars(config).items()):
        if isinstance(value, list) and len(value) == whole:
            setattr(config, name, value[:layers])
    config.num_hidden_layers = layers


def logits(folder: str, layers: int, windows: list[list[int]], place: Path) -> dict[str, Any]:
    """Runs the model in float32 and saves the logits of all windows, one below the other."""
    import numpy as np
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(folder, **SAFE)
        if layers < config.num_hidden_layers:
            cut(config, layers)
        options: dict[str, Any] = {
            "config": config,
            "dtype": torch.float32,
            "attn_implementation": "eager",
            "use_safetensors": True,
            **SAFE,
        }
        read: Any = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, **options)
        model, loaded = read
    except Exception as error:  # whatever it says is the answer
        return {"model_error": said(error)}
    missing = sorted(loaded["missing_keys"])
    if missing:  # it would take random values there
        return {"class": type(model).__name__, "missing": missing[:3]}
    with torch.inference_mode():
        found = [model.eval()(torch.tensor([window])).logits[0].float().numpy() for window in windows]
    np.save(place, np.concatenate(found))
    return {"class": type(model).__name__}


def said(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip()[:300]}"


def main() -> None:
    place = Path(sys.argv[1])
    request = json.loads((place / REQUEST).read_text(encoding="utf-8"))
    end_with_parent(request["parent"])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (request["memory"], request["memory"]))
    import transformers

    transformers.logging.set_verbosity_error()
    answer: dict[str, Any] = {"transformers": transformers.__version__}
    try:
        answer |= words(request["folder"], request["texts"], request["chats"])
        answer |= logits(request["folder"], request["layers"], request["windows"], place / LOGITS)
    except MemoryError:
        answer["model_error"] = f"more than {request['memory'] >> 20} MiB of memory was needed"
    (place / ANSWER).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main()
