"""Targets: runtime, delegate and shapes an artifact is made for, one short ``.toml`` each."""

import itertools
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from firsttoken.declarations import declaration_names, first_problem, read_declaration
from firsttoken.errors import FirstTokenError, nearest
from firsttoken.targets.socs import SOCS, other_vendor

# Snapdragons that LiteRT compiles our graphs for. SM8350 (V68) is in its list, but fails for every precision of ours.
NPU_SOCS = tuple(model for model in SOCS if model != "SM8350")
# Qualcomm's documents promise FP16 from this generation on. Older ones compile and run on the emulator.
FP16_SINCE = 73
MOST_DRAFTED = 31  # with the token before them half of what a ring keeps beyond its window (`decoder.walk.RING_SLACK`)


def ascending(lengths: tuple[int, ...]) -> tuple[int, ...]:
    """Raises ``ValueError`` unless lengths of prefill graphs ascend from 2 tokens or more."""
    if lengths[0] < 2 or any(a >= b for a, b in itertools.pairwise(lengths)):
        raise ValueError("expected ascending lengths of at least 2 tokens (decode takes single ones)")
    return lengths


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
        if soc is not None and (vendor := other_vendor(soc)):
            raise ValueError(
                f"a SoC of {vendor}'s: LiteRT's compiler for it wants {vendor}'s own libraries, under its licence, and no graph of ours has been compiled with them; "
                f"docs/other-npus.md names the package and the variables, and scripts/benchmarks/other_npus.py tries it; targets are for {', '.join(NPU_SOCS)}"
            )
        if soc is not None and soc not in NPU_SOCS:
            raise ValueError(
                f"not a Snapdragon that graphs can be compiled for{nearest(soc.upper(), NPU_SOCS)}; expected one of {', '.join(NPU_SOCS)}"
            )
        return soc

    @field_validator("prefill_lengths")
    @classmethod
    def _ascending(cls, lengths: tuple[int, ...]) -> tuple[int, ...]:
        return ascending(lengths)

    @model_validator(mode="after")
    def _compiled_for_one(self) -> Self:
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


class GpuOptions(BaseModel):
    """What a target holds for a phone's GPU, beside the CPU artifact: a graph for each of ``prefill_lengths`` (tokens), and decode. A prompt goes through the
    largest that it fills, and the rest through the smallest that holds it. With ``share_weights`` it takes them from the CPU artifact's file, which has
    to lie beside it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    prefill_lengths: tuple[int, ...] = Field(min_length=1)
    share_weights: bool = True

    @field_validator("prefill_lengths")
    @classmethod
    def _ascending(cls, lengths: tuple[int, ...]) -> tuple[int, ...]:
        return ascending(lengths)


class Target(BaseModel):
    """A target as its TOML file says it. Lengths are in tokens.

    ``prefill_chunk`` is the most prompt tokens one call takes; longer prompts go in chunks. ``delegate`` "none" is the
    form that every TFLite since ``min_runtime`` runs, with whatever delegate that runtime applies by itself. With ``prefill_lengths``
    the graphs have fixed lengths: a prompt goes in pieces, the last one padded. With ``draft_tokens`` so many guessed tokens can be checked in one
    call (`run.drafting`). With ``npu``
    the bundle also holds an artifact for that NPU, with ``gpu`` one for a GPU; all else then describes the CPU artifact it falls back to.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str = ""
    summary: str
    runtime: str = Field(min_length=1)
    delegate: str = Field(min_length=1)
    cache_length: int = Field(ge=2, le=1 << 20)
    prefill_chunk: int = Field(ge=1, le=1 << 20)
    prefill_lengths: tuple[int, ...] | None = Field(None, min_length=1)
    draft_tokens: int | None = Field(None, ge=1, le=MOST_DRAFTED)
    min_runtime: str
    npu: NpuOptions | None = None
    gpu: GpuOptions | None = None

    @model_serializer(mode="wrap")
    def _without_absent_npu(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values = write(self)
        for absent in ("npu", "gpu", "prefill_lengths", "draft_tokens"):
            if values.get(absent) is None:  # readers of bundles without one need not know the field
                values.pop(absent, None)
        return values

    @field_validator("prefill_lengths")
    @classmethod
    def _ascending(cls, lengths: tuple[int, ...] | None) -> tuple[int, ...] | None:
        return lengths and ascending(lengths)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.prefill_chunk >= self.cache_length:
            raise ValueError(
                f"prefill_chunk {self.prefill_chunk} does not fit cache_length {self.cache_length}; the cache must be longer, to leave room for the answer"
            )
        return self

    @property
    def backend(self) -> str:
        """The name of the backend that lowers for it (`backends.registry`): runtime and delegate, or what stands beside the CPU."""
        beside = [name for name, options in (("hexagon", self.npu), ("gpu", self.gpu)) if options is not None]
        return "-".join([self.runtime, *(beside or [self.delegate])])

    @property
    def cpu_backend(self) -> str:
        """The backend of the artifact that runs everywhere, which an NPU's stands beside."""
        return f"{self.runtime}-{self.delegate}"

    @property
    def npu_options(self) -> NpuOptions:
        """``npu`` of a target that has it. Raises `FirstTokenError` for one that has not."""
        if self.npu is None:
            raise FirstTokenError(f"target {self.name!r}: has no [npu]; name a soc and prefill_lengths in one")
        return self.npu

    @property
    def gpu_options(self) -> GpuOptions:
        """``gpu`` of a target that has it. Raises `FirstTokenError` for one that has not."""
        if self.gpu is None:
            raise FirstTokenError(f"target {self.name!r}: has no [gpu]; name prefill_lengths in one")
        return self.gpu


def load_target(
    name_or_path: str | Path, cache_length: int | None = None, prefill_chunk: int | None = None, draft_tokens: int | None = None
) -> Target:
    """Reads a built-in target by name or a user's ``.toml`` by path, with lengths replaced where given. Raises `FirstTokenError`."""
    name, target = read_declaration("export", "target", name_or_path, Target)
    changes: dict[str, Any] = {"name": name}
    if cache_length is not None:
        changes["cache_length"] = cache_length
    if draft_tokens is not None:
        changes["draft_tokens"] = draft_tokens
    if prefill_chunk is not None:
        changes["prefill_chunk"] = prefill_chunk
    elif cache_length is not None and target.prefill_chunk >= cache_length:
        changes["prefill_chunk"] = max(1, cache_length - 1)
    if target.prefill_lengths is not None and cache_length is not None:
        changes["prefill_lengths"] = tuple(n for n in target.prefill_lengths if n < cache_length) or target.prefill_lengths
    if target.npu is not None and cache_length is not None:
        fitting = [n for n in target.npu.prefill_lengths if n < cache_length]
        changes["npu"] = {**target.npu.model_dump(), "prefill_lengths": fitting or target.npu.prefill_lengths}
    if target.gpu is not None and cache_length is not None:
        fitting = [n for n in target.gpu.prefill_lengths if n < cache_length]
        changes["gpu"] = {**target.gpu.model_dump(), "prefill_lengths": fitting or target.gpu.prefill_lengths}
    try:
        return Target.model_validate({**target.model_dump(), **changes})
    except ValidationError as error:
        raise FirstTokenError(f"target {name!r}: {first_problem(error, changes, Target)}") from None


def target_names() -> list[str]:
    """Names of the built-in targets."""
    return declaration_names("export")
