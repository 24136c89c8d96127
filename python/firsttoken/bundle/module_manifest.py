"""``manifest.json`` of a module's bundle: ``kind`` "module" tells it from a decoder's, which has none.

The models here are the source of ``module_manifest.schema.json`` (a test holds them together).
"""

import json
import os
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field, ValidationError

from firsttoken.bundle.manifest import MANIFEST_FILE, SCHEMA_VERSION, AuditRow, FileFacts, Needs
from firsttoken.bundle.part import Part
from firsttoken.checkpoint import read_json
from firsttoken.declarations import first_problem
from firsttoken.errors import FirstTokenError
from firsttoken.quant.module_plan import ModulePlan

KIND: Final = "module"
MODULE_SCHEMA_FILE = Path(__file__).with_name("module_manifest.schema.json")


class ModuleTensor(Part):
    """An input or output under the module's name, and ``file_name``, the artifact's. A dimension is a number, or the name of one that the host chooses.

    A rounded number is ``scale * (integer - zero_point)``; without a scale the numbers are what they are.
    """

    name: str
    file_name: str
    dtype: Literal["float32", "float16", "int8", "uint8", "int16", "int32", "int64", "bool"]
    shape: list[int | str]
    scale: float | None = None
    zero_point: int | None = None


class ModuleEntry(Part):
    """A named entry of the artifact; ``sizes`` are those of the dimensions with a name that it is for, empty where it takes any."""

    name: str
    inputs: list[ModuleTensor] = Field(min_length=1)
    outputs: list[ModuleTensor] = Field(min_length=1)
    sizes: dict[str, int] = Field(default_factory=dict)


class ModuleArtifact(Part):
    """The one file that a runtime loads. ``layers`` are facts of the backend by which it finds them again."""

    file: str
    backend: str
    needs: Needs
    methods: list[ModuleEntry] = Field(min_length=1)
    layers: dict[str, Any] = Field(default_factory=dict)


class LayerFacts(Part):
    """A layer of the module as plans name it, with the precision that it was asked in. ``shape`` is its weight's."""

    name: str
    kind: Literal["linear", "conv", "depthwise", "embedding", "lstm", "other", "core"]
    precision: str
    shape: list[int] | None = None


class ModuleIdentity(Part):
    """``lengths``: sizes for which the artifact was made, by dimension. ``fingerprint``: SHA-256 of weights and operators."""

    name: str
    fingerprint: str = Field(pattern="^[0-9a-f]{64}$")
    parameters: int = Field(ge=0)
    lengths: dict[str, list[int]]


class StudentLineage(Part):
    """The recipe that a student was distilled by, and shares of right answers on what was held out: the teachers' and its own."""

    recipe: str
    recipe_sha256: str
    width: float | None = None
    teachers: dict[str, float] = Field(default_factory=dict)
    accuracy: float | None = None


class SampleFacts(Part):
    """Where inputs are from, how many, and the SHA-256 of the arrays. ``random``: drawn, for want of any."""

    source: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    count: int = Field(ge=1)
    random: bool = False


class OutputFigures(Part):
    """One output against the float module's. ``same_top`` only of one that tells classes; errors in parts of the float output's root mean square."""

    name: str
    same_top: float | None = None
    max_error: float
    mean_error: float
    cosine: float
    worst_cosine: float
    magnitude_ratio: float


class ModuleProof(Part):
    """The written file, run in its runtime, against the float module over ``samples``. Accuracies only with labels; ``outputs`` lacks those that could not
    be compared, which ``misses`` names."""

    samples: SampleFacts
    outputs: list[OutputFigures]
    labelled: int | None = None
    accuracy: float | None = None
    reference_accuracy: float | None = None
    passed: bool
    misses: list[str] = Field(default_factory=list)


class ModuleTarget(Part):
    """What the bundle was exported for."""

    name: str
    runtime: str
    delegate: str


class ModuleManifest(Part):
    """``files``: every file of the bundle but the manifest."""

    schema_version: Literal[2] = SCHEMA_VERSION
    kind: Literal["module"] = KIND
    module: ModuleIdentity
    lineage: StudentLineage | None = None
    plan: ModulePlan
    layers: list[LayerFacts]
    calibration: SampleFacts | None = None
    target: ModuleTarget
    artifact: ModuleArtifact
    labels: list[str] = Field(default_factory=list)
    proof: ModuleProof | None = None
    audit: list[AuditRow] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)
    packages: dict[str, str]
    files: dict[str, FileFacts]

    @property
    def precisions(self) -> dict[str, str]:
        return {layer.name: layer.precision for layer in self.layers}

    @property
    def packed_names(self) -> set[str]:
        """As `Manifest.packed_names`: a module's bundle has none."""
        return set()

    def write(self, folder: Path) -> None:
        """Writes ``manifest.json`` into ``folder`` (which the caller renames into place)."""
        (folder / MANIFEST_FILE).write_text(self.model_dump_json(by_alias=True, indent=1) + "\n", encoding="utf-8")


def is_module_bundle(folder: str | Path) -> bool:
    """Whether a folder is a module's bundle; False for what is none, or cannot be read."""
    path = Path(folder) / MANIFEST_FILE
    if not os.path.isfile(path):
        return False
    try:
        return read_json(path, "").get("kind") == KIND
    except FirstTokenError:
        return False


def read_module_manifest(folder: str | Path) -> ModuleManifest:
    """Reads and checks the manifest of a module's bundle. Raises `FirstTokenError` for a folder that is none, or a foreign version."""
    folder = Path(folder)
    if not os.path.isdir(folder):
        raise FirstTokenError(f"bundle {folder}: not a folder; expected what `firsttoken export` wrote")
    path = folder / MANIFEST_FILE
    values = read_json(path, "a folder without it is not a bundle")
    if (found := values.get("schema_version")) != SCHEMA_VERSION:
        raise FirstTokenError(f"{path}: schema_version {found!r}, this firsttoken reads {SCHEMA_VERSION}; export the module again")
    if values.get("kind") != KIND:
        raise FirstTokenError(f"bundle {folder}: is a decoder's, not a module's; generate, chat, prove and bench take it")
    try:
        manifest = ModuleManifest.model_validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        raise FirstTokenError(f"{path}: {first_problem(error, values)}") from None
    check_module_names(folder, manifest)
    return manifest


def check_module_names(folder: Path, manifest: ModuleManifest) -> None:
    """Raises `FirstTokenError` for a file name that is no plain, printable one, or an artifact without its hash."""
    for name in manifest.files:
        if Path(name).name != name or not name.isprintable() or name in ("", ".", "..", MANIFEST_FILE):
            raise FirstTokenError(f"bundle {folder}: file name {name!r} is not a plain, printable name; export again")
    if manifest.artifact.file not in manifest.files:
        raise FirstTokenError(f"bundle {folder}: the manifest names {manifest.artifact.file!r}, but not its hash under files; export again")


def module_json_schema() -> str:
    """Returns the JSON Schema of the manifest as the text that ``module_manifest.schema.json`` holds."""
    return json.dumps(ModuleManifest.model_json_schema(by_alias=True), indent=1, sort_keys=True) + "\n"
