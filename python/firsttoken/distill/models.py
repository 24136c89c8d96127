"""Decoders as transformers models: opening a checkpoint, and writing one that `firsttoken export` reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from firsttoken import plain_file
from firsttoken.checkpoint import Checkpoint, read_json
from firsttoken.decoder.families import describe
from firsttoken.decoder.walk import open_decoder
from firsttoken.errors import FirstTokenError
from firsttoken.tokenizer import Tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel


DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
CHECK_TOKENS = 8


def need_transformers() -> None:
    """Raises `FirstTokenError` saying what to install where transformers or accelerate is absent; quiets their own bars."""
    from firsttoken.extras import need
    from firsttoken.quiet import is_verbose

    need("distill", "distillation")
    if not is_verbose():
        from transformers.utils import logging

        logging.disable_progress_bar()


def load_decoder(folder: str | Path, attention: str = "sdpa", dtype: str = "float32", device_map: str | None = None) -> PreTrainedModel:
    """Returns a checkpoint as a transformers model in evaluation mode.

    Every tensor's name, shape and dtype is checked first, nothing is downloaded and no code of the checkpoint runs.
    ``attention`` is ``sdpa``, or ``eager`` where attention maps are wanted; ``device_map`` "auto" lays the layers over all
    accelerators that there are. Raises `FirstTokenError`.
    """
    from transformers import AutoModelForCausalLM

    with Checkpoint(folder) as checkpoint:
        open_decoder(checkpoint)
    model = AutoModelForCausalLM.from_pretrained(
        str(folder),
        dtype=DTYPES[dtype],
        attn_implementation=attention,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        device_map=device_map,
    )
    check_finite(model, folder)
    check_head(model)
    return model.eval()


def make_decoder(config: dict, tensors: dict[str, Tensor] | None = None, attention: str = "sdpa") -> PreTrainedModel:
    """Returns a float32 model for a ``config.json``, with random weights or the given ones. Raises `FirstTokenError`."""
    describe(config)
    model = unchecked_decoder(config, attention)
    if tensors is not None:
        missing, unexpected = model.load_state_dict(tensors, strict=False)
        missing = [name for name in missing if not (name == "lm_head.weight" and config.get("tie_word_embeddings"))]
        if missing or unexpected:
            raise FirstTokenError(f"the weights do not fit config.json: missing {missing[:3]}, without a place {unexpected[:3]}")
        model.tie_weights()
    check_head(model)
    return model


def unchecked_decoder(config: dict, attention: str = "sdpa", dtype: str = "float32") -> PreTrainedModel:
    """Returns a model for a ``config.json`` as transformers makes it; also where there is no data to check (PyTorch's fake tensors)."""
    from transformers import AutoConfig, AutoModelForCausalLM

    plain = {
        name: value
        for name, value in config.items()
        if name not in ("torch_dtype", "dtype", "architectures", "model_type", "transformers_version")
    }
    return AutoModelForCausalLM.from_config(
        AutoConfig.for_model(config["model_type"], **plain), dtype=DTYPES[dtype], attn_implementation=attention
    )


def check_finite(model: PreTrainedModel, folder: str | Path) -> None:
    """Raises `FirstTokenError` naming the first tensor that holds NaN or infinite values."""
    for name, tensor in model.state_dict().items():
        if not torch.isfinite(tensor).all():
            bad = int((~torch.isfinite(tensor)).sum())
            raise FirstTokenError(
                f"checkpoint {folder}: {name} holds {bad:,} NaN or infinite values of {tensor.numel():,}; copy it again, or go back to a checkpoint from before the training broke"
            )


def check_length(model: PreTrainedModel, length: int, what: str) -> None:
    """Raises `FirstTokenError` where windows of ``length`` tokens are longer than the model's positions."""
    most = getattr(model.config, "max_position_embeddings", None)
    if isinstance(most, int) and length > most:
        raise FirstTokenError(f"data.length {length}: {what} was made for {most} positions, and knows none beyond; expected {most} at most")


@torch.no_grad()
def check_head(model: PreTrainedModel) -> None:
    """Raises `FirstTokenError` unless the model's logits are its last hidden states through its head and nothing else.

    Some families scale or cap their logits; the chunked losses would then train something else than what runs.
    """
    tokens = torch.arange(CHECK_TOKENS, device=model.device)[None] % model.config.vocab_size
    training = model.training
    model.eval()
    wanted = model(input_ids=tokens, use_cache=False).logits
    head = head_of(model)
    hidden = model.model(input_ids=tokens, use_cache=False).last_hidden_state
    got = nn.functional.linear(hidden.to(head[0].device), *head).to(wanted.device)
    model.train(training)
    if not torch.allclose(got, wanted, rtol=1e-2, atol=1e-2 * float(wanted.abs().max())):
        raise FirstTokenError(
            f"{model.config.model_type}: the logits are not a plain product of the last hidden states with the head; such models cannot be distilled"
        )


@torch.no_grad()
def check_apart(model: PreTrainedModel, what: str) -> None:
    """Raises `FirstTokenError` where a document's hidden states depend on the one before it in the window, positions beginning anew or not.

    Convolutions and recurrent states run on over the border; only attention is masked.
    """
    positions = torch.arange(CHECK_TOKENS, device=model.device).repeat(2)[None]
    tokens = positions % model.config.vocab_size
    other = torch.cat([tokens[:, :CHECK_TOKENS].flip(1), tokens[:, CHECK_TOKENS:]], dim=1)
    training = model.training
    model.eval()
    states = [
        model.model(input_ids=each, position_ids=positions, use_cache=False).last_hidden_state[:, CHECK_TOKENS:] for each in (tokens, other)
    ]
    model.train(training)
    if not torch.allclose(states[0], states[1], rtol=1e-3, atol=1e-4 * float(states[0].abs().max())):
        raise FirstTokenError(
            f"attend_across_documents = false: {what} ({model.config.model_type}) carries a state from one document to the next, not by attention; expected true, or a model of attention alone"
        )


def head_of(model: PreTrainedModel) -> tuple[Tensor, Tensor | None]:
    """Weight ``[vocab, width]`` and bias of the vocabulary head."""
    head = model.get_output_embeddings()
    return head.weight, head.bias


def head_inputs(model: PreTrainedModel, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """``hidden`` ``[positions, width]``, weight and bias as the head multiplies them: rounded, in quantization-aware training."""
    head = model.get_output_embeddings()
    rounds_hidden, rounds_weight = (getattr(head, f"{what}_fake_quantizer", None) for what in ("activation", "weight"))
    return (
        hidden if rounds_hidden is None else rounds_hidden(hidden),
        head.weight if rounds_weight is None else rounds_weight(head.weight),
        head.bias,
    )


def parameters_of(model: nn.Module) -> int:
    """Parameters, the tied head counted once."""
    return sum(p.numel() for p in model.parameters())


def write_decoder(model: PreTrainedModel, tokenizer: Tokenizer, folder: Path, save_as: str, config_from: Path | None = None) -> None:
    """Writes a checkpoint into ``folder``: config, safetensors, tokenizer files and the generation settings.

    ``folder`` is to be renamed into place by the caller. ``config_from`` is the checkpoint whose end tokens and
    generation settings are kept. Raises `FirstTokenError` where the disk is full.
    """
    import copy

    from safetensors import SafetensorError

    written = copy.deepcopy(model).to(DTYPES[save_as]).eval()  # type: ignore[arg-type]  # transformers wraps it without its types
    try:
        written.save_pretrained(folder)
        for path in folder.glob("*.safetensors"):
            path.chmod(0o644)  # safetensors makes them private
        tokenizer.copy_files(folder)
        if config_from is not None:
            keep_settings(folder, config_from)
    except (OSError, SafetensorError) as error:
        raise FirstTokenError(
            f"{folder}: the student cannot be written ({str(error)[:160]}); free space and run the same command again, it goes on"
        ) from None


def keep_settings(folder: Path, source: Path) -> None:
    """Carries begin and end tokens and ``generation_config.json`` over from the checkpoint a student comes from."""
    theirs = read_json(source / "config.json", "a checkpoint needs it")
    path = folder / "config.json"
    ours = read_json(path, "a checkpoint needs it")
    ours.update({name: theirs[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id") if name in theirs})
    path.write_text(json.dumps(ours, indent=2) + "\n", encoding="utf-8")
    settings = source / "generation_config.json"
    if settings.exists():
        plain_file.copy(settings, folder / "generation_config.json")
