"""``manifest.json``: the contract between export, proof, runners and the Android app.

The pydantic models here are the source of the JSON Schema in ``manifest.schema.json`` (a test holds them together).
Written last; a folder without it is not a bundle.
"""

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_serializer

from firsttoken.checkpoint import read_json
from firsttoken.declarations import first_problem
from firsttoken.errors import FirstTokenError
from firsttoken.quant.plan import Plan
from firsttoken.targets.target import Target

SCHEMA_VERSION = 1
MANIFEST_FILE = "manifest.json"
SCHEMA_FILE = Path(__file__).with_name("manifest.schema.json")


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class Tensor(Part):
    """A method's input or output. A dimension is a number, or the name of one that the host chooses at run time."""

    name: str
    shape: list[int | str]
    dtype: Literal["float32", "float16", "int32", "int64"]


class Method(Part):
    """A named entry of the artifact: ``first``, ``extend``, ``decode`` (.tflite) or ``forward`` (.pte)."""

    name: str
    inputs: list[Tensor]
    outputs: list[Tensor]


class Cache(Part):
    """Where the KV cache lives and how it is laid out.

    ``held_by`` "host": the host passes key and value tensors of ``shape`` per layer and appends the returned rows
    along ``axis``. ``held_by`` "artifact": mutable buffers inside, nothing is passed.
    """

    held_by: Literal["host", "artifact"]
    layers: int
    shape: list[int | str]
    axis: int
    dtype: Literal["float32", "float16"]
    length: int
    step: int = 1  # a host-held cache grows in steps of this many rows


class Artifact(Part):
    file: str
    sha256: str
    bytes: int


class CheckpointIdentity(Part):
    name: str
    fingerprint: str
    family: str
    parameters: int
    hidden_size: int
    layers: int
    vocab_size: int


class Tokenizer(Part):
    """``vocab_size`` counts the tokenizer's tokens: logits past it are padding and must never be sampled."""

    files: list[str]
    vocab_size: int
    begin: int | None = None  # written before every prompt when the tokenizer says so
    end: list[int]
    special: dict[str, int]


class Affix(Part):
    text: str
    tokens: list[int]


class Chat(Part):
    """One user turn of the chat template, rendered on the host: prefix + user text + suffix."""

    prefix: Affix
    suffix: Affix


class AuditRow(Part):
    """One layer: precision asked, dtype stored, dtype computed in, and whether the delegate took it."""

    layer: str
    asked: str
    stored: str
    computed: str
    delegated: bool


class Figures(Part):
    """Divergence from the FP32 checkpoint over ``tokens`` positions. KL divergence in nats per token."""

    tokens: int
    mean_kld: float
    p99_kld: float
    p999_kld: float
    same_top: float
    perplexity: float
    reference_perplexity: float
    perplexity_change: float
    magnitude_ratio: float
    first_diverging: str | None = None


class Proof(Part):
    """What was compared with the checkpoint. ``text`` names the held-out text by its SHA-256."""

    text: str
    text_sha256: str
    prefill: Figures
    decode: Figures
    all: Figures
    passed: bool
    misses: list[str] = Field(default_factory=list)


class ArmProof(Part):
    """A passed proof on an emulated ARM core: figures there, on the host over the same positions, and between the two.

    ``kernels`` are the kinds of multiply instructions that ran there; ``text`` as in `Proof`.
    """

    core: str
    runtime: str
    runtime_version: str
    text: str
    text_sha256: str
    windows: int
    arm: Figures
    host: Figures
    arm_against_host: Figures
    kernels: list[str]


class Lineage(Part):
    """Where a distilled checkpoint comes from: its recipe, teachers and data, each by a fingerprint.

    ``teachers`` maps a teacher's place in the recipe to its checkpoint's fingerprint. ``reference`` is the fingerprint
    of the float student that the proof compares with, for one that was trained for quantization after it; else None.
    """

    recipe: str
    recipe_sha256: str
    teachers: dict[str, str]
    training_data: str
    held_out_data: str
    tokens_seen: int
    reference: str | None = None


class HostTable(Part):
    """The embedding as the host finds it: row ``t`` starts ``t * columns`` values after byte ``offset`` of ``file``.

    An int8 row is multiplied by float32 number ``t`` after byte ``scales_offset``. Little endian.
    """

    file: str
    dtype: Literal["float32", "float16", "int8"]
    rows: int = Field(ge=1)
    columns: int = Field(ge=1)
    offset: int = Field(ge=0)
    scales_offset: int | None = Field(None, ge=0)


class NpuGraph(Part):
    """One compiled graph: operators, how many the NPU took, in how many partitions, and what was left behind ("KIND layer: reason")."""

    method: str
    operators: int
    offloaded: int
    partitions: int
    left: list[str] = Field(default_factory=list)


class NpuProof(Part):
    """What the NPU's contexts computed on Qualcomm's HTP backend for x86, and the CPU artifact at the same positions.

    ``backend`` names it with its version; ``last_position`` is the largest position that was run; ``text`` as in `Proof`.
    """

    backend: str
    text: str
    text_sha256: str
    windows: int
    last_position: int
    prefill: Figures
    decode: Figures
    all: Figures
    cpu: Figures
    npu_against_cpu: Figures
    passed: bool
    misses: list[str] = Field(default_factory=list)


class Npu(Part):
    """The artifact for a Snapdragon's NPU, beside the CPU artifact that the rest of the manifest describes.

    ``compiled`` "ahead": for ``soc``, with Qualcomm's libraries of version ``qnn``. "device": the graphs themselves, for the
    QNN delegate on a phone, which compiles them when it loads them; what that takes is known only there.

    Methods are ``first_N`` (up to N tokens from position 0), ``extend_N`` (up to N more over the cache) and ``decode``;
    shapes are fixed, so fewer tokens are padded behind. The host feeds ``embedding`` rows, ``cos`` and ``sin`` of
    ``position * inverse_frequencies`` in FP32 (both halves alike, sin's first half negated), ``last`` (index of the last
    real token), ``cache_mask`` (0 for filled rows, ``masked`` for others) and the cache, and appends the returned rows.
    """

    artifact: Artifact
    compiled: Literal["ahead", "device"]
    soc: str | None = None
    hexagon: str | None = None
    fp16: Literal["documented", "unverified"]
    qnn: str | None = None
    source_sha256: str  # of the graphs that went into the compiler
    weights_shared: bool
    prefill_lengths: list[int] = Field(min_length=1)
    methods: list[Method]
    cache: Cache
    embedding: HostTable
    inverse_frequencies: list[float]
    masked: float
    graphs: list[NpuGraph] = Field(default_factory=list)
    compile_seconds: float = 0.0
    compile_memory: int = 0  # bytes, peak resident
    audit: list[AuditRow] = Field(default_factory=list)
    proof: NpuProof | None = None


class Manifest(Part):
    schema_version: Literal[1] = SCHEMA_VERSION
    artifact: Artifact
    checkpoint: CheckpointIdentity
    lineage: Lineage | None = None
    plan: Plan
    target: Target
    methods: list[Method]
    cache: Cache
    tokenizer: Tokenizer
    chat: Chat | None = None
    proof: Proof | None = None
    audit: list[AuditRow] = Field(default_factory=list)
    proven_on: list[ArmProof] = Field(default_factory=list)
    npu: Npu | None = None
    packages: dict[str, str]

    @model_serializer(mode="wrap")
    def _without_absent_npu(self, write):
        values = write(self)
        if values.get("npu") is None:  # readers of bundles without one need not know the field
            values.pop("npu", None)
        return values

    def write(self, folder: Path):
        """Writes ``manifest.json`` into ``folder`` (which the caller renames into place)."""
        (folder / MANIFEST_FILE).write_text(self.model_dump_json(by_alias=True, indent=1) + "\n", encoding="utf-8")


def read_manifest(folder: str | Path) -> Manifest:
    """Reads and checks a bundle's manifest. Raises `FirstTokenError` for a folder that is not a bundle or a foreign version."""
    folder = Path(folder)
    if not folder.is_dir():
        raise FirstTokenError(f"bundle {folder}: not a folder; expected what `firsttoken export` wrote")
    values = read_json(folder / MANIFEST_FILE, "a folder without it is not a bundle")
    if values.get("schema_version") != SCHEMA_VERSION:
        raise FirstTokenError(
            f"{folder / MANIFEST_FILE}: schema_version {values.get('schema_version')!r}; this firsttoken reads {SCHEMA_VERSION}; export again"
        )
    try:
        return Manifest.model_validate(values)
    except ValidationError as error:
        raise FirstTokenError(f"{folder / MANIFEST_FILE}: {first_problem(error, values)}") from None


def json_schema() -> str:
    """Returns the JSON Schema of the manifest as the text that ``manifest.schema.json`` holds."""
    return json.dumps(Manifest.model_json_schema(by_alias=True), indent=1, sort_keys=True) + "\n"
