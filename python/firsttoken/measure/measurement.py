"""``*.measurement.json``: one schema for what the host bench and the Android app measured.

The pydantic models here are the source of the JSON Schema in ``measurement.schema.json`` (a test holds them together).
Only single runs are stored; medians and the like are derived from them (`firsttoken.measure.summary`).
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from firsttoken.atomic_file import write_text
from firsttoken.bundle.gpu_facts import GpuProof
from firsttoken.bundle.manifest import Artifact, Manifest, Proof
from firsttoken.bundle.npu_proof import NpuProof
from firsttoken.checkpoint import read_json
from firsttoken.declarations import first_problem
from firsttoken.errors import FirstTokenError
from firsttoken.measure.page_cache import PageState
from firsttoken.plain_file import LARGE_JSON_BYTES
from firsttoken.safe_text import visible

SCHEMA_VERSION: Final = 1
ArtifactKind = Literal["cpu", "gpu", "npu"]
SCHEMA_FILE = Path(__file__).with_name("measurement.schema.json")
LARGEST_FILE = LARGE_JSON_BYTES  # bytes; a longer one is not a measurement
LARGEST_NUMBER = 1e18  # nanoseconds: 31 years; bytes: an exabyte
Nanoseconds = int
RunState = Literal["cold", "warm", "warm-up"]


class MeasurementPart(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Cpu(MeasurementPart):
    """``clusters`` counts cores by their highest frequency in kHz ("2841600": 1, "2419200": 3, …), where it can be read."""

    model: str
    cores: int = Field(ge=1)
    flags: list[str] = Field(default_factory=list)
    clusters: dict[str, int] = Field(default_factory=dict)


class Device(MeasurementPart):
    """What it ran on. ``identity`` is the start of a hash of the serial number, enough to tell two devices apart."""

    kind: Literal["host", "phone"]
    model: str
    manufacturer: str | None = None
    soc: str | None = None
    hexagon: str | None = None
    system: str
    identity: str | None = None
    cpu: Cpu
    memory_bytes: int = Field(gt=0)


class Conditions(MeasurementPart):
    """The state of the device at a moment. What could not be read is absent, never guessed.

    ``thermal_status`` counts as Android does (0 none, 1 light, 2 moderate, 3 severe, 4 critical, 5 emergency,
    6 shutdown); ``temperatures`` are degrees Celsius by sensor; ``governors`` are the CPU frequency governors in use.
    """

    time: str
    thermal_status: int | None = Field(None, ge=0, le=6)
    temperatures: dict[str, float] = Field(default_factory=dict)
    battery_percent: float | None = Field(None, ge=0, le=100)
    charging: bool | None = None
    governors: list[str] = Field(default_factory=list)
    available_memory_bytes: int | None = None


class Stages(MeasurementPart):
    """Nanoseconds from "send" to the first token on the screen; they add up to TTFT.

    ``load`` only where the run loaded the model (a cold run, the first warm-up), ``render`` only in the app.
    """

    load: Nanoseconds | None = Field(None, ge=0)
    tokenize: Nanoseconds = Field(ge=0)
    prefill: Nanoseconds = Field(ge=0)
    sample: Nanoseconds = Field(ge=0)
    detokenize: Nanoseconds = Field(ge=0)
    render: Nanoseconds | None = Field(None, ge=0)

    @property
    def first_token(self) -> Nanoseconds:
        """TTFT: the sum of the stages."""
        return sum(
            value for value in (self.load, self.tokenize, self.prefill, self.sample, self.detokenize, self.render) if value is not None
        )


class Decode(MeasurementPart):
    """The tokens after the first one and the nanoseconds all of them took."""

    tokens: int = Field(ge=1)
    nanoseconds: Nanoseconds = Field(gt=0)


class Drafts(MeasurementPart):
    """What drafting did after the first token: calls of the artifact, tokens that were guessed, and those of them that were right."""

    calls: int = Field(ge=1)
    drafted_tokens: int = Field(ge=0)
    accepted_tokens: int = Field(ge=0)


class Run(MeasurementPart):
    """One prompt up to its first token, and decoding after it.

    ``state``: "cold" is the first prompt of a fresh process, loading included; "warm" a prompt after another one was
    run; "warm-up" that other one, kept apart. ``page_cache``: whether the artifact's pages were "dropped" from memory
    before the load, were "cached", or "unknown" where that cannot be told. ``peak_memory_bytes`` is the process's
    highest resident memory up to the end of the run. ``other_load`` is how many cores all other processes kept busy,
    absent where the run was too short to tell.

    ``turn`` counts the questions of a conversation, from 1; it is absent for a prompt by itself. ``prompt_tokens`` is then the whole
    conversation so far, of which ``cached_tokens`` were in the KV cache already, so that prefill was of the others. ``first_answer`` is the
    nanoseconds from "send" to the first token of the answer itself, where the model wrote its thoughts before it. ``process`` counts the bundle's
    processes from 1; runs of one share what it got, so that comparisons count it as one observation. Absent: all warm runs are of one.
    """

    prompt_tokens: int = Field(ge=1)
    state: RunState
    page_cache: PageState
    at_seconds: float = Field(ge=0)  # since the measurement started
    stages: Stages
    decode: Decode | None = None
    drafts: Drafts | None = None
    peak_memory_bytes: int | None = Field(None, gt=0)
    temperature: float | None = None  # degrees Celsius at the end, of the hottest sensor that speaks for the CPU
    thermal_status: int | None = Field(None, ge=0, le=6)
    other_load: float | None = Field(None, ge=0)
    turn: int | None = Field(None, ge=1)
    cached_tokens: int | None = Field(None, ge=0)
    first_answer: Nanoseconds | None = Field(None, ge=0)
    process: int | None = Field(None, ge=1)


class Failure(MeasurementPart):
    """A run that did not end: what was asked, in which stage it stopped, and why."""

    prompt_tokens: int | None = None
    state: RunState | None = None
    stage: str
    message: str


class ProofFigures(MeasurementPart):
    """The proof's figures that belong beside every speed: mean and 99th percentile KL divergence, same-top-token rate, gate passed."""

    mean_kld: float
    p99_kld: float
    same_top: float
    passed: bool


class BundleIdentity(MeasurementPart):
    """The measured bundle: its folder's name, and what its manifest says."""

    name: str
    checkpoint: str
    fingerprint: str
    plan: str
    target: str
    runtime: str = Field(min_length=1)
    delegate: str
    artifact_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    artifact_bytes: int = Field(gt=0)
    cache_length: int = Field(ge=1)
    proof: ProofFigures | None = None


class RanArtifact(MeasurementPart):
    """Which artifact ran of a bundle that has one for a GPU or a Snapdragon's NPU beside the CPU's.

    ``soc`` is what the NPU's was compiled for, absent where the phone compiles it; ``fallback`` is why the one for ``instead_of`` (absent: the NPU)
    did not run, where that was not asked for. ``proof`` is that artifact's own.
    """

    kind: ArtifactKind
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    bytes: int = Field(gt=0)
    soc: str | None = None
    fallback: str | None = None
    instead_of: Literal["gpu", "npu"] | None = None
    proof: ProofFigures | None = None

    @property
    def place(self) -> str:
        """In words: "on the NPU", or "on the CPU, not on the GPU: …" where it fell back."""
        missed = f", not on the {(self.instead_of or 'npu').upper()}: {self.fallback}" if self.fallback else ""
        return f"on the {self.kind.upper()}{missed}"


class RunnerUsed(MeasurementPart):
    """How the app called a runtime that it can call in two ways: by its "native" library over LiteRT's C API, or by the "java" `Interpreter`.

    ``fallback`` is why it was not the native one. ``packed_for`` is the kind of CPU whose packed weights were taken out of the bundle, ``unpacked`` why none of those
    that it has were.
    """

    kind: Literal["native", "java"]
    fallback: str | None = None
    packed_for: str | None = None
    unpacked: str | None = None


class Result(MeasurementPart):
    """One bundle on one device with one number of threads. ``chat``: whether prompts went through the chat template; ``draft``: where drafts came from.

    ``artifact`` says which ran, and is absent where the bundle has but one; ``runner`` is absent where the runtime is called in one way only.
    """

    bundle: BundleIdentity
    artifact: RanArtifact | None = None
    runtime_version: str
    runner: RunnerUsed | None = None
    threads: int = Field(ge=1)
    chat: bool = False
    draft: Literal["lookup"] | None = None
    before: Conditions
    after: Conditions | None = None  # absent while the measurement is not finished
    runs: list[Run] = Field(default_factory=list)
    failures: list[Failure] = Field(default_factory=list)

    @property
    def proof(self) -> ProofFigures | None:
        """The proof of the artifact that ran."""
        return self.artifact.proof if self.artifact else self.bundle.proof

    @property
    def ran_sha256(self) -> str:
        return self.artifact.sha256 if self.artifact else self.bundle.artifact_sha256

    @property
    def ran_bytes(self) -> int:
        return self.artifact.bytes if self.artifact else self.bundle.artifact_bytes

    @property
    def processor(self) -> str:
        """ "NPU", "GPU" or "CPU", whichever artifact of several ran; empty for a bundle with one."""
        return self.artifact.kind.upper() if self.artifact else ""

    @property
    def title(self) -> str:
        """The bundle's name, and which artifact ran where it has two."""
        return f"{self.bundle.name} ({self.processor})" if self.artifact else self.bundle.name


class Writer(MeasurementPart):
    """The program that measured."""

    name: str
    version: str


class Measurement(MeasurementPart):
    """A file: everything measured on one device in one go."""

    schema_version: Literal[1] = SCHEMA_VERSION
    writer: Writer
    device: Device
    results: list[Result]

    @field_validator("results")
    @classmethod
    def _some(cls, results: list[Result]) -> list[Result]:
        if not results:
            raise ValueError("a measurement holds at least one result")
        return results

    def write(self, path: Path) -> None:
        """Writes the file whole or not at all; an older file stays until the new one is complete."""
        write_text(path, self.model_dump_json(indent=1, exclude_none=True) + "\n")


def identify_bundle(name: str, manifest: Manifest) -> BundleIdentity:
    """Returns what a measurement keeps of a bundle's manifest."""
    facts = manifest.facts(manifest.cpu)
    return BundleIdentity(
        name=name,
        checkpoint=manifest.checkpoint.name,
        fingerprint=manifest.checkpoint.fingerprint,
        plan=manifest.plan.name,
        target=manifest.target.name,
        runtime=manifest.target.runtime,
        delegate=manifest.target.delegate,
        artifact_sha256=facts.sha256,
        artifact_bytes=manifest.size(manifest.cpu),
        cache_length=manifest.cache_length,
        proof=proof_figures(manifest.cpu.proof),
    )


def ran_artifact(
    manifest: Manifest,
    kind: ArtifactKind,
    fallback: str | None = None,
    instead_of: Literal["gpu", "npu"] | None = None,
) -> RanArtifact:
    """Returns what a measurement keeps of the artifact that ran. Raises `FirstTokenError` for a bundle without one of that kind."""
    artifact = artifacts_by_kind(manifest).get(kind)
    if artifact is None:
        raise FirstTokenError(f"the bundle of {manifest.checkpoint.name!r} has no {kind.upper()} artifact")
    facts = manifest.facts(artifact)
    return RanArtifact(
        kind=kind,
        sha256=facts.sha256,
        bytes=manifest.size(artifact),
        soc=artifact.needs.soc,
        fallback=fallback,
        instead_of=instead_of if fallback else None,
        proof=proof_figures(artifact.proof),
    )


def artifacts_by_kind(manifest: Manifest) -> dict[ArtifactKind, Artifact]:
    """The artifacts of a bundle by what they are for, "cpu", "gpu" or "npu", the one that a phone prefers first and the CPU's last."""
    found: dict[ArtifactKind, Artifact] = {}
    for artifact in manifest.artifacts[1:]:
        found.setdefault("npu" if artifact.npu else "gpu", artifact)
    return found | {"cpu": manifest.cpu}


def proof_figures(proof: Proof | NpuProof | GpuProof | None) -> ProofFigures | None:
    """Returns what a measurement keeps of a proof."""
    if proof is None:
        return None
    return ProofFigures(mean_kld=proof.all.mean_kld, p99_kld=proof.all.p99_kld, same_top=proof.all.same_top, passed=proof.passed)


def read_measurement(path: str | Path) -> Measurement:
    """Reads a measurement file of this or an older schema version.

    Raises `FirstTokenError` for a file that is missing, is not a measurement, or comes from a newer firsttoken.
    """
    path = Path(path)
    expected = "expected a file that `firsttoken bench -o` or `firsttoken device profile` wrote"
    found = parse_measurement(read_json(path, expected, LARGEST_FILE), str(path))
    check_numbers(found, path)
    return found


def check_numbers(measurement: Measurement, source: Path) -> None:
    """Raises `FirstTokenError` for a number that nothing can have measured, which no figure can be computed of."""
    for place, value in _numbers(measurement):
        if not abs(value) <= LARGEST_NUMBER:  # also false for nan
            raise FirstTokenError(
                f"{visible(source)}: {place} is {value if isinstance(value, float) else 'a number of more than 18 digits'}; expected a finite number below 1e18"
            )


def _numbers(value: object, place: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _numbers(getattr(value, name), f"{place}.{name}" if place else name)
    elif isinstance(value, dict):
        for name, part in value.items():
            yield from _numbers(part, f"{place}.{visible(name)}")
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from _numbers(part, f"{place}.{number}")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield place, value


def parse_measurement(values: dict, source: str) -> Measurement:
    """Returns the measurement in ``values``, brought up from an older schema version. Raises `FirstTokenError` naming ``source``."""
    found = values.get("schema_version")
    if not isinstance(found, int) or "results" not in values or isinstance(found, bool):
        raise FirstTokenError(
            f"{source}: not a measurement (no schema_version and results); expected what `firsttoken bench -o` or `firsttoken device profile` wrote"
        )
    if found > SCHEMA_VERSION:
        raise FirstTokenError(f"{source}: measurement schema version {found}; this firsttoken reads up to {SCHEMA_VERSION}, update it")
    # A new schema version adds its step here, so that old files stay readable: values = upgrade_1_to_2(values)
    try:
        return Measurement.model_validate(values)
    except ValidationError as error:
        raise FirstTokenError(f"{source}: {first_problem(error, values)}") from None


def json_schema() -> str:
    """Returns the JSON Schema of a measurement as the text that ``measurement.schema.json`` holds."""
    return json.dumps(Measurement.model_json_schema(), indent=1, sort_keys=True) + "\n"
