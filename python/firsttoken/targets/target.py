"""Targets: runtime, delegate and shapes an artifact is made for, one short ``.toml`` each."""

import itertools
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_serializer, model_validator

from firsttoken.declarations import declaration_names, first_problem, read_declaration
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import states
from firsttoken.errors import FirstTokenError, nearest
from firsttoken.targets.socs import SOCS

# What each runtime and delegate can store and compute, by kind of layer. Core has no weights: its precision is
# that of scores, softmax and the KV cache.
PRECISIONS = {
    ("tflite", "xnnpack"): {"linear": ("fp32", "fp16", "int8", "int4"), "embedding": ("fp32", "fp16", "int8"), "core": ("fp32", "fp16")},
    ("tflite", "none"): {"linear": ("fp32", "fp16", "int8"), "embedding": ("fp32", "fp16", "int8"), "core": ("fp32", "fp16")},
    ("executorch", "xnnpack"): {
        "linear": ("fp32", "fp16", "int8", "int4"),
        "embedding": ("fp32", "fp16", "int8", "int4"),
        "core": ("fp32", "fp16"),
    },
}
# Hexagon computes every float in FP16, so FP32 cannot be promised; LiteRT's compiler refuses int4 weights. The embedding
# stays on the host.
NPU_PRECISIONS = {"linear": ("fp16", "int8"), "embedding": ("fp32", "fp16", "int8"), "core": ("fp16",)}
# Snapdragons that LiteRT compiles our graphs for. SM8350 (V68) is in its list, but fails for every precision of ours.
NPU_SOCS = tuple(model for model in SOCS if model != "SM8350")
# Qualcomm's documents promise FP16 from this generation on. Older ones compile and run on the emulator.
FP16_SINCE = 73


class NpuOptions(BaseModel):
    """What a target holds for a Hexagon NPU, beside the CPU artifact. Lengths are in tokens.

    ``compile`` "ahead" compiles it here for ``soc``, with LiteRT's compiler or ExecuTorch's Qualcomm backend, as the target's runtime is; "device" ships the graphs for the QNN delegate on a phone, which
    compiles them when it loads them. Shapes are fixed: a prompt goes into the smallest of ``prefill_lengths`` that holds it and is padded; one longer than
    the largest goes in pieces. ``share_weights`` stores the weights once for all graphs. ``allow_partial`` lets operators
    stay on the CPU; without it one left behind is an error.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    compile: Literal["ahead", "device"] = "ahead"
    soc: str | None = None
    prefill_lengths: tuple[int, ...] = Field(min_length=1)
    share_weights: bool = True
    allow_partial: bool = False

    @field_validator("soc")
    @classmethod
    def _known(cls, soc: str | None) -> str | None:
        if soc is not None and soc not in NPU_SOCS:
            raise ValueError(
                f"not a Snapdragon that graphs can be compiled for{nearest(soc.upper(), NPU_SOCS)}; expected one of {', '.join(NPU_SOCS)}"
            )
        return soc

    @field_validator("prefill_lengths")
    @classmethod
    def _ascending(cls, lengths: tuple[int, ...]) -> tuple[int, ...]:
        if lengths[0] < 2 or any(a >= b for a, b in itertools.pairwise(lengths)):
            raise ValueError("expected ascending lengths of at least 2 tokens (decode takes single ones)")
        return lengths

    @model_validator(mode="after")
    def _compiled_for_one(self):
        if (self.compile == "ahead") != (self.soc is not None):
            raise ValueError('compile = "ahead" needs a soc, and compile = "device" has none')
        return self

    @property
    def hexagon(self) -> str | None:
        """The NPU's generation, "V73"; None where the phone compiles."""
        return None if self.soc is None else SOCS[self.soc].hexagon

    @property
    def fp16(self) -> Literal["documented", "unverified"]:
        """Whether Qualcomm documents FP16 for this generation; "unverified" ones were only compiled and emulated."""
        return "documented" if self.hexagon and int(self.hexagon[1:]) >= FP16_SINCE else "unverified"


class Target(BaseModel):
    """A target as its TOML file says it. Lengths are in tokens.

    ``prefill_chunk`` is the most prompt tokens one call takes; longer prompts go in chunks. ``delegate`` "none" is the
    form that every TFLite since ``min_runtime`` runs, with whatever delegate that runtime applies by itself. With ``npu``
    the bundle also holds an artifact for that NPU; all else then describes the CPU artifact it falls back to.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str = ""
    summary: str
    runtime: Literal["tflite", "executorch"]
    delegate: Literal["xnnpack", "none"]
    cache_length: int = Field(ge=2, le=1 << 20)
    prefill_chunk: int = Field(ge=1, le=1 << 20)
    min_runtime: str
    npu: NpuOptions | None = None

    @model_serializer(mode="wrap")
    def _without_absent_npu(self, write):
        values = write(self)
        if values.get("npu") is None:  # readers of bundles without one need not know the field
            values.pop("npu", None)
        return values

    @model_validator(mode="after")
    def _consistent(self):
        if (self.runtime, self.delegate) not in PRECISIONS:
            raise ValueError(f"delegate {self.delegate!r} does not exist for runtime {self.runtime!r}")
        if self.prefill_chunk >= self.cache_length:
            raise ValueError(
                f"prefill_chunk {self.prefill_chunk} does not fit cache_length {self.cache_length}; the cache must be longer, to leave room for the answer"
            )
        if self.npu is not None and self.delegate != "xnnpack":
            raise ValueError("npu needs delegate 'xnnpack', which runs the CPU artifact beside it")
        if self.npu is not None and self.runtime == "executorch" and self.npu.compile != "ahead":
            raise ValueError('runtime "executorch" compiles for an NPU ahead of time only; expected npu.compile = "ahead" and a soc')
        if self.npu is not None and self.npu.prefill_lengths[-1] >= self.cache_length:
            raise ValueError(
                f"npu.prefill_lengths {list(self.npu.prefill_lengths)} do not fit cache_length {self.cache_length}; leave out the longest or make the cache longer"
            )
        return self

    def precisions(self, kind: str) -> tuple[str, ...]:
        """Precisions this target can give a layer of ``kind`` (embedding, linear or core)."""
        possible = PRECISIONS[self.runtime, self.delegate][kind]
        return possible if self.npu is None else tuple(p for p in possible if p in NPU_PRECISIONS[kind])

    @property
    def artifact_file(self) -> str:
        return "model.tflite" if self.runtime == "tflite" else "model.pte"

    def check_model(self, decoder: Decoder) -> None:
        """Raises `FirstTokenError` if the model cannot keep to this target's shapes."""
        window = min((state.window for state in states(decoder) if state.window is not None), default=None)
        if window is not None and self.cache_length > window:
            raise FirstTokenError(
                f"target {self.name!r}: cache_length {self.cache_length} is longer than the model's sliding window of {window} tokens, "
                f"which firsttoken does not implement; use a target with cache_length {window} or less (--cache-length)"
            )
        if self.cache_length > decoder.max_positions:
            raise FirstTokenError(
                f"target {self.name!r}: cache_length {self.cache_length} is longer than the {decoder.max_positions} positions the model was trained for; "
                f"use --cache-length {decoder.max_positions} or less"
            )


def load_target(name_or_path: str | Path, cache_length: int | None = None, prefill_chunk: int | None = None) -> Target:
    """Reads a built-in target by name or a user's ``.toml`` by path, with lengths replaced where given. Raises `FirstTokenError`."""
    name, target = read_declaration("export", "target", name_or_path, Target)
    changes: dict[str, Any] = {"name": name}
    if cache_length is not None:
        changes["cache_length"] = cache_length
    if prefill_chunk is not None:
        changes["prefill_chunk"] = prefill_chunk
    elif cache_length is not None and target.prefill_chunk >= cache_length:
        changes["prefill_chunk"] = max(1, cache_length - 1)
    if target.npu is not None and cache_length is not None:
        fitting = [n for n in target.npu.prefill_lengths if n < cache_length]
        changes["npu"] = {**target.npu.model_dump(), "prefill_lengths": fitting or target.npu.prefill_lengths}
    try:
        return Target.model_validate({**target.model_dump(), **changes})
    except ValidationError as error:
        raise FirstTokenError(f"target {name!r}: {first_problem(error, changes)}") from None


def target_names() -> list[str]:
    """Names of the built-in targets."""
    return declaration_names("export")
