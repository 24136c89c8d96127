"""``manifest.json``: the contract between export, proof, runners and the Android app.

The pydantic models here are the source of the JSON Schema in ``manifest.schema.json`` (a test holds them together).
Written last; a folder without it is not a bundle.
"""

import json
import os
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field, SerializerFunctionWrapHandler, ValidationError, model_serializer

from firsttoken.bundle.chat_facts import Chat
from firsttoken.bundle.draft_facts import DraftProof
from firsttoken.bundle.figures import Figures, TwinFigures
from firsttoken.bundle.gpu_facts import GpuFacts, GpuProof
from firsttoken.bundle.integer_facts import CalibrationFacts, IntegerScale, KeptIntegers
from firsttoken.bundle.npu_proof import NpuGraph, NpuProof
from firsttoken.bundle.packed_facts import PackedProof, PackedWeights
from firsttoken.bundle.part import Part, without_absent
from firsttoken.bundle.prefix_facts import PrefixFacts, PrefixProof
from firsttoken.bundle.witness_facts import Witness
from firsttoken.checkpoint import read_json
from firsttoken.declarations import first_problem
from firsttoken.errors import FirstTokenError
from firsttoken.quant.plan import Plan
from firsttoken.targets.target import Target

SCHEMA_VERSION: Final = 2
MANIFEST_FILE = "manifest.json"
WEIGHTS_BESIDE = ".data"  # behind an artifact's name: the file of its weights, where they are not in it
SCHEMA_FILE = Path(__file__).with_name("manifest.schema.json")


class FileFacts(Part):
    """What a file of the bundle must be."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)


class Tensor(Part):
    """A method's input or output. A dimension is a number, or the name of one that the host chooses at run time."""

    name: str
    shape: list[int | str]
    dtype: Literal["float32", "float16", "int32", "int64"]


class Method(Part):
    """A named entry of the artifact: ``first``, ``extend``, ``decode``, ``check`` (.tflite; `backends.tflite.draft_graph`), ``prefill_N``, ``decode`` (fixed lengths) or ``forward`` (.pte, .onnx)."""

    name: str
    inputs: list[Tensor]
    outputs: list[Tensor]


class State(Part):
    """What one layer remembers between calls: tensors ``key.LAYER`` and ``value.LAYER``, or ``convolution.LAYER``, or ``recurrent.LAYER``, each of ``shape``
    and ``dtype``. A layer may have two.

    ``held_by`` "host": the host passes them and appends the rows that come back along ``axis``. ``held_by`` "artifact":
    mutable buffers inside, nothing is passed. ``advances`` "in_place": the tensors are LiteRT-LM's ``kv_cache_k_LAYER`` and ``kv_cache_v_LAYER``,
    or onnxruntime-genai's ``past_key_values.LAYER.key`` and ``.value`` (``present.LAYER.key`` and ``.value`` bound to the same memory), and the call writes its rows into them. "ring": as "append", but of a layer that sees only the last ``window`` tokens: the row of
    position p is p modulo ``length``, and a mask says which rows a token sees. "replace": what the call returns under the tensor's name is what the
    next call takes, zeros at position 0 (a convolution's last inputs, or a delta rule's state ``[heads, key dim, value dim]``, so nothing can be taken back from it but everything). A dimension with a name is the number of rows passed."""

    layer: int = Field(ge=0)
    kind: Literal["key_value", "convolution", "recurrent"]
    held_by: Literal["host", "artifact"]
    shape: list[int | str]
    dtype: Literal["float32", "float16"]
    advances: Literal["append", "in_place", "ring", "replace"]
    axis: int = Field(ge=0)
    length: int = Field(ge=1)  # the most rows that are used, one a token
    window: int | None = Field(None, ge=1)
    step: int = Field(1, ge=1)  # a host grows it in steps of this many rows


class Rotation(Part):
    """A rotary embedding and the layers that share it: angle = position * inverse frequency (radians), cos and sin times ``factor``.

    Every artifact applies ``factor`` itself; a host that feeds cos and sin feeds them without it.
    """

    layers: list[int]
    inverse_frequencies: list[float] = Field(min_length=1)
    factor: float


class CheckpointIdentity(Part):
    name: str
    fingerprint: str
    family: str
    parameters: int
    hidden_size: int
    layers: int
    vocab_size: int


class TokenizerFacts(Part):
    """``vocab_size`` counts the tokenizer's tokens: logits past it are padding and must never be sampled.

    ``end_asked``: whoever exported named the end tokens, not the checkpoint.
    """

    files: list[str]
    vocab_size: int
    begin: int | None = None  # written before every prompt when the tokenizer says so
    end: list[int]
    end_asked: bool = False
    special: dict[str, int]


class AuditRow(Part):
    """One layer: precision asked, dtype stored, dtype computed in, and whether the delegate took it."""

    layer: str
    asked: str
    stored: str
    computed: str
    delegated: bool
    integers: str = ""  # where they are the checkpoint's own, the format that they are from
    scales: list[IntegerScale] = Field(default_factory=list)  # of the input and of the result, where both are integers


class Proof(Part):
    """What was compared. ``twin``: was it built right? The other figures: is it good enough, against the FP32 checkpoint?

    ``text`` names the held-out text by its SHA-256; ``last_position`` is the last row of the cache that was run. ``witness``: is the checkpoint, against
    which all of it is held, understood? Absent in proofs from before there was one. ``prefix``: of a bundle that keeps a system prompt; ``packed``: of one with
    packed weights; ``draft``: of one that checks drafts.
    """

    text: str
    text_sha256: str
    last_position: int | None = None
    twin: TwinFigures | None = None
    witness: Witness | None = None
    prefill: Figures
    decode: Figures
    all: Figures
    prefix: PrefixProof | None = None
    packed: PackedProof | None = None
    draft: DraftProof | None = None
    passed: bool
    misses: list[str] = Field(default_factory=list)

    @model_serializer(mode="wrap")
    def _without_absent(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_absent(write(self), "prefix", "packed", "draft")


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


class Needs(Part):
    """What a device must have to run an artifact. ``soc``, ``hexagon`` and ``qnn`` (the version of Qualcomm's libraries it was
    compiled with) only for one that was compiled ahead of time for an NPU. ``accelerator`` "gpu": one that LiteRT's GPU accelerator takes whole."""

    runtime: str = Field(min_length=1)
    min_runtime: str
    soc: str | None = None
    hexagon: str | None = None
    qnn: str | None = None
    accelerator: Literal["gpu"] | None = None

    @model_serializer(mode="wrap")
    def _without_absent(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_absent(write(self), "accelerator")


class NpuFacts(Part):
    """What the host feeds to an artifact for a Snapdragon's NPU, and how it was made.

    ``compiled`` "ahead": for ``needs.soc``, with Qualcomm's libraries of version ``needs.qnn``. "device": the graphs themselves,
    for the QNN delegate on a phone, which compiles them when it loads them; what that takes is known only there.

    Methods are ``first_N`` (up to N tokens from position 0), ``extend_N`` (up to N more over the cache) and ``decode``;
    shapes are fixed, so fewer tokens are padded behind. The host feeds ``embedding`` rows, ``cos`` and ``sin`` of
    ``position * inverse_frequencies`` in FP32 (both halves alike, sin's first half negated), ``last`` (index of the last
    real token), ``cache_mask`` (0 for filled rows, ``masked`` for others) and the cache, and appends the returned rows.
    """

    compiled: Literal["ahead", "device"]
    fp16: Literal["documented", "unverified"]
    source_sha256: str  # of the graphs that went into the compiler
    weights_shared: bool
    prefill_lengths: list[int] = Field(min_length=1)
    embedding: HostTable
    masked: float
    graphs: list[NpuGraph] = Field(default_factory=list)
    compile_seconds: float = 0.0
    compile_memory: int = 0  # bytes, peak resident


class Artifact(Part):
    """One file that a runtime loads: what it needs, its methods, what its layers remember, and its own proof and audit.

    ``backend`` is the runtime and what computes in it: "tflite-xnnpack", "executorch-hexagon".
    """

    file: str
    backend: str
    needs: Needs
    methods: list[Method] = Field(min_length=1)
    states: list[State] = Field(min_length=1)
    npu: NpuFacts | None = None
    gpu: GpuFacts | None = None
    proof: Proof | NpuProof | GpuProof | None = None
    audit: list[AuditRow] = Field(default_factory=list)

    @model_serializer(mode="wrap")
    def _without_absent(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_absent(write(self), "gpu")


class Manifest(Part):
    """``artifacts``: the first is the CPU's and runs wherever the runtime does. ``files``: every file of the bundle but the manifest."""

    schema_version: Literal[2] = SCHEMA_VERSION
    checkpoint: CheckpointIdentity
    lineage: Lineage | None = None
    plan: Plan
    calibration: CalibrationFacts | None = None
    kept: list[KeptIntegers] = Field(default_factory=list)
    target: Target
    artifacts: list[Artifact] = Field(min_length=1)
    rotations: list[Rotation]
    tokenizer: TokenizerFacts
    chat: Chat | None = None
    proven_on: list[ArmProof] = Field(default_factory=list)
    proven_on_gpu: GpuProof | None = None
    prefix: PrefixFacts | None = None
    packed: PackedWeights | None = None
    packages: dict[str, str]
    files: dict[str, FileFacts]

    @model_serializer(mode="wrap")
    def _without_absent_gpu(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_absent(write(self), "proven_on_gpu", "prefix", "packed")

    @property
    def cpu(self) -> Artifact:
        return self.artifacts[0]

    @property
    def npu_artifact(self) -> Artifact | None:
        """The artifact for an NPU, where the bundle has one."""
        return next((artifact for artifact in self.artifacts if artifact.npu is not None), None)

    @property
    def gpu_artifact(self) -> Artifact | None:
        """The artifact for a GPU beside the CPU's, where the bundle has one."""
        return next((artifact for artifact in self.artifacts if artifact.gpu is not None), None)

    @property
    def packed_names(self) -> set[str]:
        """The files of packed weights: the bundle is whole without them, where another can be used or packed."""
        return set() if self.packed is None else {packed.file for packed in self.packed.files}

    @property
    def cache_length(self) -> int:
        """The most tokens of prompt and answer together."""
        return self.target.cache_length

    def facts(self, artifact: Artifact) -> FileFacts:
        return self.files[artifact.file]

    def size(self, artifact: Artifact) -> int:
        """Bytes of an artifact, with those of the weights that lie beside it in a file named after it (`WEIGHTS_BESIDE`)."""
        beside = self.files.get(artifact.file + WEIGHTS_BESIDE)
        return self.facts(artifact).bytes + (0 if beside is None else beside.bytes)

    def need_proof(self) -> Proof:
        """Returns the CPU artifact's proof. Raises `FirstTokenError` for a bundle that was never proven."""
        if not isinstance(self.cpu.proof, Proof):
            raise FirstTokenError(f"the bundle of {self.checkpoint.name!r} has no proof; run `firsttoken prove` on it")
        return self.cpu.proof

    def need_npu(self) -> tuple[Artifact, NpuFacts]:
        """Returns the artifact for an NPU and what the host feeds it. Raises `FirstTokenError` for a bundle without one."""
        artifact = self.npu_artifact
        if artifact is None or artifact.npu is None:
            raise FirstTokenError(
                f"the bundle of {self.checkpoint.name!r} has no NPU artifact; export for a Snapdragon (-t tflite-hexagon-sm8650)"
            )
        return artifact, artifact.npu

    def write(self, folder: Path) -> None:
        """Writes ``manifest.json`` into ``folder`` (which the caller renames into place)."""
        (folder / MANIFEST_FILE).write_text(self.model_dump_json(by_alias=True, indent=1) + "\n", encoding="utf-8")


def read_manifest(folder: str | Path) -> Manifest:
    """Reads and checks a bundle's manifest. Raises `FirstTokenError` for a folder that is not a bundle or a foreign version."""
    folder = Path(folder)
    if not os.path.isdir(folder):
        raise FirstTokenError(f"bundle {folder}: not a folder; expected what `firsttoken export` wrote")
    path = folder / MANIFEST_FILE
    values = read_json(
        path, "a folder without it is not a bundle; what another exporter wrote is proven and measured by its file's own path"
    )
    if (found := values.get("schema_version")) != SCHEMA_VERSION:
        raise FirstTokenError(f"{path}: schema_version {found!r}, this firsttoken reads {SCHEMA_VERSION}; export the checkpoint again")
    if values.get("kind") == "module":  # `bundle.module_manifest` reads it
        raise FirstTokenError(
            f"bundle {folder}: is a module's (a classifier, an encoder, a series), which has no tokens; `firsttoken prove` and `bench` take it"
        )
    try:
        manifest = parse_manifest(json.dumps(values))
    except ValidationError as error:
        raise FirstTokenError(f"{path}: {first_problem(error, values)}") from None
    check_names(folder, manifest)
    return manifest


def parse_manifest(text: str) -> Manifest:
    """Returns the manifest in ``text``, taken as strictly as the JSON Schema is. Raises pydantic's ``ValidationError``."""
    return Manifest.model_validate_json(text, strict=True)


def check_names(folder: Path, manifest: Manifest) -> None:
    """Raises `FirstTokenError` for a file name that is no plain, printable one, or a file that the manifest names without its hash."""
    for name in manifest.files:
        if Path(name).name != name or not name.isprintable() or name in ("", ".", "..", MANIFEST_FILE):
            raise FirstTokenError(f"bundle {folder}: file name {name!r} is not a plain, printable name; export again")
    others = [artifact.npu.embedding.file for artifact in manifest.artifacts if artifact.npu is not None]
    others += [artifact.gpu.weights for artifact in manifest.artifacts if artifact.gpu is not None and artifact.gpu.weights is not None]
    others += [*([] if manifest.prefix is None else [manifest.prefix.file]), *sorted(manifest.packed_names)]
    for name in (*(artifact.file for artifact in manifest.artifacts), *others, *manifest.tokenizer.files):
        if name not in manifest.files:
            raise FirstTokenError(f"bundle {folder}: the manifest names {name!r}, but not its hash under files; export again")


def json_schema() -> str:
    """Returns the JSON Schema of the manifest as the text that ``manifest.schema.json`` holds."""
    return json.dumps(Manifest.model_json_schema(by_alias=True), indent=1, sort_keys=True) + "\n"
