"""Targets: runtime, delegate and shapes an artifact is made for, one short ``.toml`` each."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from firsttoken.declarations import declaration_names, read_declaration
from firsttoken.decoder.config import DecoderConfig
from firsttoken.errors import FirstTokenError

# What each runtime and delegate can store and compute, by kind of layer. Core has no weights: its precision is
# that of scores, softmax and the KV cache.
PRECISIONS = {
    ("tflite", "xnnpack"): {"linear": ("fp32", "fp16", "int8", "int4"), "embedding": ("fp32", "fp16", "int8"), "core": ("fp32", "fp16")},
    ("tflite", "none"): {"linear": ("fp32", "fp16", "int8"), "embedding": ("fp32", "fp16", "int8"), "core": ("fp32", "fp16")},
    ("executorch", "xnnpack"): {"linear": ("fp32", "fp16", "int8", "int4"), "embedding": ("fp32", "fp16", "int8", "int4"), "core": ("fp32", "fp16")},
}


class Target(BaseModel):
    """A target as its TOML file says it. Lengths are in tokens.

    ``prefill_chunk`` is the most prompt tokens one call takes; longer prompts go in chunks. ``delegate`` "none" is the
    form that every TFLite since ``min_runtime`` runs, with whatever delegate that runtime applies by itself.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str = ""
    summary: str
    runtime: Literal["tflite", "executorch"]
    delegate: Literal["xnnpack", "none"]
    cache_length: int = Field(ge=2, le=1 << 20)
    prefill_chunk: int = Field(ge=1, le=1 << 20)
    min_runtime: str

    @model_validator(mode="after")
    def _consistent(self):
        if (self.runtime, self.delegate) not in PRECISIONS:
            raise ValueError(f"delegate {self.delegate!r} does not exist for runtime {self.runtime!r}")
        if self.prefill_chunk >= self.cache_length:
            raise ValueError(f"prefill_chunk {self.prefill_chunk} does not fit cache_length {self.cache_length}; the cache must be longer, to leave room for the answer")
        return self

    def precisions(self, kind: str) -> tuple[str, ...]:
        """Precisions this target can give a layer of ``kind`` (embedding, linear or core)."""
        return PRECISIONS[self.runtime, self.delegate][kind]

    @property
    def artifact_file(self) -> str:
        return "model.tflite" if self.runtime == "tflite" else "model.pte"

    def check_model(self, config: DecoderConfig):
        """Raises `FirstTokenError` if the model cannot keep to this target's shapes."""
        if config.sliding_window is not None and self.cache_length > config.sliding_window:
            raise FirstTokenError(
                f"target {self.name!r}: cache_length {self.cache_length} is longer than the model's sliding window of {config.sliding_window} tokens, "
                f"which firsttoken does not implement; use a target with cache_length {config.sliding_window} or less (--cache-length)"
            )
        if self.cache_length > config.max_positions:
            raise FirstTokenError(
                f"target {self.name!r}: cache_length {self.cache_length} is longer than the {config.max_positions} positions the model was trained for; "
                f"use --cache-length {config.max_positions} or less"
            )


def load_target(name_or_path: str | Path, cache_length: int | None = None, prefill_chunk: int | None = None) -> Target:
    """Reads a built-in target by name or a user's ``.toml`` by path, with lengths replaced where given. Raises `FirstTokenError`."""
    name, target = read_declaration("export", "target", name_or_path, Target)
    changes = {"name": name}
    if cache_length is not None:
        changes["cache_length"] = cache_length
    if prefill_chunk is not None:
        changes["prefill_chunk"] = prefill_chunk
    elif cache_length is not None and target.prefill_chunk >= cache_length:
        changes["prefill_chunk"] = max(1, cache_length - 1)
    try:
        return Target.model_validate({**target.model_dump(), **changes})
    except ValueError as error:
        from firsttoken.declarations import first_problem

        raise FirstTokenError(f"target {name!r}: {first_problem(error, changes)}") from None


def target_names() -> list[str]:
    """Names of the built-in targets."""
    return declaration_names("export")
