"""What a backend is: one way of turning a decoder into a file that a runtime runs.

Everything that is particular to a runtime stands behind this interface, in ``backends/<name>/``; `registry` finds a backend
by the name that a target gives, built in or from another package's entry point.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from firsttoken.backends.lowering_result import Lowered
from firsttoken.backends.recurrence import with_short_calls
from firsttoken.backends.runner import Runner
from firsttoken.bundle.integer_facts import StaticLayer
from firsttoken.bundle.manifest import Artifact, AuditRow, Manifest
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.features import SLIDING_WINDOW, UNDRAFTED, features
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import Layer, plan_layers, states, within
from firsttoken.errors import FirstTokenError
from firsttoken.extras import need
from firsttoken.precisions import PRECISIONS, STATIC, WeightGrid
from firsttoken.progress import Report, silent
from firsttoken.quant.plan import Plan
from firsttoken.targets.target import Target

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class LoweringJob:
    """A checkpoint, the decoder that it is, and every layer's precision by the plan, for a target.

    The decoder is held without the windows that no position of the target's cache lies outside of, the target with calls no longer than the
    decoder's parts take.
    """

    checkpoint: Checkpoint
    decoder: Decoder
    plan: Plan
    target: Target
    precisions: Mapping[str, str]
    begin: int | None = None
    ends: Sequence[int] = ()
    """The tokenizer's token for the beginning of a text, and those that end an answer, for artifacts that can say so themselves."""
    ranges: Mapping[str, StaticLayer] = field(default_factory=dict)
    """What the activations of layers with calibrated scales cover, by the layer's name."""

    @property
    def static(self) -> dict[str, StaticLayer]:
        """The layers that this artifact computes with calibrated scales, by name: their precisions say which."""
        return {name: self.ranges[name] for name, precision in self.precisions.items() if precision in STATIC}

    def group(self, layer: Layer) -> int:
        """How many columns of a row share one scale in a layer that has a weight."""
        return self.plan.group(layer.name, layer.matrix[1][1])

    @property
    def written(self) -> dict[str, str]:
        """Every layer's precision as an audit of the artifact has to have it (`Plan.written`)."""
        return self.plan.written(plan_layers(self.decoder), self.precisions)

    def __post_init__(self) -> None:
        object.__setattr__(self, "decoder", within(self.decoder, self.target.cache_length))
        object.__setattr__(self, "target", with_short_calls(self.target, self.decoder))


@dataclass(frozen=True)
class Estimate:
    """Peak memory (resident) and disk in bytes; ``compiling`` are the seconds that compiling for an NPU takes."""

    memory: int
    disk: int
    compiling: float = 0.0


class Backend(ABC):
    """One runtime with one delegate, as targets name it. The class attributes say what it can give."""

    name: ClassVar[str]
    runtime: ClassVar[str]
    delegate: ClassVar[str | None]
    """What takes the layers inside the runtime; None where the runtime decides by itself, and no audit asks."""
    artifact_file: ClassVar[str]
    package: ClassVar[str]
    """The installed package that runs its artifacts here; a measurement says its version."""
    runtime_memory: ClassVar[int] = 150 << 20
    """Bytes resident once the runtime is loaded, without a model."""
    precisions: ClassVar[Mapping[str, tuple[str, ...]]]
    """What a part can be stored and computed in, by its kind: ``embedding``, ``linear``, ``core``."""
    features: ClassVar[frozenset[str]]
    """What of `decoder.features` it computes."""
    cache_precision: ClassVar[str | None] = None
    """What the KV cache is kept in, whatever the plan asks of a core; None where it is what the plan asks."""
    one_cache: ClassVar[bool] = False
    """Whether all layers' caches have one precision, so that a search does not choose it layer by layer."""
    native_fp16: ClassVar[bool] = True
    """Whether FP16 layers are computed in FP16, and not only stored."""
    half_floats: ClassVar[bool] = False
    """Whether floats between layers are float16, whatever the graph says."""
    half_gelu: ClassVar[bool] = False
    """Whether GELU is looked up in a table, its input and result in float16."""
    outliers_apart: ClassVar[bool] = False
    """Whether it can round the outliers of a layer's input by themselves (`quant.plan.Rule.outliers`)."""
    group_scales: ClassVar[bool] = True
    """Whether int4 may have several scales a row, one a group of columns; one a row it has everywhere."""
    weight_grid: ClassVar[WeightGrid] = WeightGrid()
    """How its format rounds integer weights; the proof computes the plan with it."""
    extra: ClassVar[str | None] = None
    """The extra of firsttoken's own that brings its packages; None where the base install has them."""
    arm_runtimes: ClassVar[tuple[str, ...]] = ()
    """What its artifacts run with on emulated ARM (`arm.emulator.RUNTIMES`)."""
    app_runtimes: ClassVar[tuple[str, ...]] = ()
    """Which runtimes of the Android app run its artifacts (`device.carried`): ``min_runtime`` counts the first one's versions, others do in any."""
    row_scale_bytes: ClassVar[int] = 12
    """Bytes of the artifact for the scale of a row of integers."""
    group_scale_bytes: ClassVar[int] = 2
    """The same for each group of a row's neighbours, where they have scales."""
    outliers_bytes: ClassVar[int] = 0
    """What a layer's operators for its outliers take of the artifact; measured."""
    shares_tied: ClassVar[bool] = False
    """Whether a head that is the embedding's own tensor is stored once, where both have one precision."""
    fixed_lengths: ClassVar[bool] = False
    """Whether it takes a target's ``prefill_lengths``."""
    packs_weights: ClassVar[bool] = False
    """Whether its runtime can be given packed weights that were made elsewhere (`packing`)."""
    checks_drafts: ClassVar[bool] = False
    """Whether its CPU artifacts can check several guessed tokens in one call (`Runner.check`), and so take a target's ``draft_tokens``."""
    emulated: ClassVar[bool] = False
    """Whether its NPU artifacts can be run on the host (`prove.on_npu`)."""

    def cache_refused(self) -> str | None:
        """Why its runners do not give what their cache holds (`Runner.held_arrays`), None where they do."""
        return "its runtime keeps the cache to itself"

    @property
    def takes_layers(self) -> str:
        """What takes the layers, in words."""
        return f"delegate ({self.delegate})"

    def computed(self, precision: str) -> frozenset[str]:
        """What a layer asked in ``precision`` may be computed in."""
        return PRECISIONS[precision].computed if self.native_fp16 else PRECISIONS[precision].computed | {"fp32"}

    def activations(self, precision: str) -> str:
        """What a layer in ``precision`` rounds its input to as it runs: "fp32", "fp16" (its result too), "fp16-input", "int8" for each token,
        "int8-blocks" (`prove.blocks`) or "int8-float-blocks" (`WeightGrid.float_blocks`). A layer with calibrated scales: "static", its result too."""
        if precision in STATIC:
            return "static"
        if precision == "fp16":
            return "fp16" if self.native_fp16 else "fp32"
        return "fp32" if precision == "fp32" else "int8"

    def on_cpu(self, precisions: Mapping[str, str]) -> dict[str, str]:
        """The precisions of the CPU artifact, by layer, where this backend's NPU has ``precisions``."""
        return dict(precisions)

    def check_target(self, target: Target) -> None:
        """Raises `FirstTokenError` for something in a target that this backend cannot do."""
        if target.prefill_lengths is not None and not self.fixed_lengths:
            raise FirstTokenError(f"target {target.name!r}: {self.name} takes prompts of any length; leave out prefill_lengths")
        if target.npu is not None:
            raise FirstTokenError(f"target {target.name!r}: {self.name} compiles for no NPU; leave out [npu]")
        if target.gpu is not None:
            raise FirstTokenError(f"target {target.name!r}: {self.name} has no artifact for a GPU beside it; leave out [gpu]")

    def check_model(self, decoder: Decoder, target: Target) -> None:
        """Raises `FirstTokenError` for a part that this backend lacks, by its name, or lengths that the model does not have."""
        windows = [state.window for state in states(decoder) if state.window is not None]
        if target.draft_tokens is not None and not self.checks_drafts:
            raise FirstTokenError(
                f"target {target.name!r}: {self.name} has no method that checks drafts; leave out --draft-tokens, or give a target like tflite-xnnpack or executorch-xnnpack"
            )
        needed = features(within(decoder, target.cache_length))  # a window that no position lies outside of is none
        unfit = [feature for feature in UNDRAFTED if feature in needed]
        if target.draft_tokens is not None and unfit:
            raise FirstTokenError(
                f"target {target.name!r}: drafts cannot be checked with {unfit[0]}, which {decoder.family} has ({needed[unfit[0]]}); leave out --draft-tokens"
            )
        for feature, part in needed.items():
            if feature in self.features:
                continue
            hint = ""
            if feature == SLIDING_WINDOW:
                hint = f"; use a target with cache_length {min(windows)} or less (--cache-length {min(windows)}), which never leaves the window"
            raise FirstTokenError(
                f"target {target.name!r}: {self.name} cannot give {feature}, which {decoder.family} needs ({part}) at cache_length {target.cache_length}{hint}"
            )
        if target.cache_length > decoder.max_positions:
            raise FirstTokenError(
                f"target {target.name!r}: cache_length {target.cache_length} is longer than the {decoder.max_positions} positions the model was trained for; "
                f"use --cache-length {decoder.max_positions} or less"
            )

    def check_plan(self, plan: Plan, decoder: Decoder, precisions: Mapping[str, str], target: Target) -> None:  # noqa: B027  most take any that resolves
        """Raises `FirstTokenError` for a plan whose layers, each possible by itself, cannot be had together in one artifact; ``precisions`` are the layers'."""

    def check_search(self, decoder: Decoder, target: Target) -> None:  # noqa: B027  most take any choice of precisions
        """Raises `FirstTokenError` for a model whose layers cannot be chosen one by one (`search`)."""

    def check_installed(self, purpose: str) -> None:
        """Raises `FirstTokenError`, naming the extra, where a package that this backend needs is absent; ``purpose`` begins the sentence."""
        if self.extra is not None:
            need(self.extra, purpose)

    def check_runs(self, purpose: str) -> None:
        """The same for what runs an artifact, where that is more than writing one takes."""
        self.check_installed(purpose)

    def check_tools(self, target: Target, prove: bool) -> None:  # noqa: B027  most backends bring all they need
        """Raises `FirstTokenError`, with what to install, if this machine cannot lower for ``target`` (and ``prove`` it)."""

    @abstractmethod
    def estimate(self, decoder: Decoder, precisions: Mapping[str, str], target: Target, prove: bool) -> Estimate:
        """What lowering (and emulating an NPU for the proof) will take; the proof on the host is not its business."""

    @abstractmethod
    def lower(self, job: LoweringJob, path: Path, report: Report = silent) -> Lowered:
        """Writes the artifact to ``path``, and an NPU's beside it; returns what the manifest says of them.

        Raises `FirstTokenError` for damaged weights or a layer that did not become what was asked, `OSError` for a full disk;
        what was written is then the caller's to remove.
        """

    @abstractmethod
    def audit(self, path: Path, decoder: Decoder, precisions: Mapping[str, str]) -> list[AuditRow]:
        """What every layer of the written artifact is stored and computed in, and whether the delegate took it.

        ``precisions`` are as `Plan.written` writes them, and so is what is stored: int4 with the group that the file has.
        """

    def verify(self, folder: Path, artifact: Artifact) -> None:  # noqa: B027  some runtimes refuse damage themselves
        """Raises `FirstTokenError` for a file that the runtime would die of, or that is not what the manifest says; before anything loads it."""

    @abstractmethod
    def open_runner(self, folder: Path, manifest: Manifest, artifact: Artifact, threads: int | None = None, kept: bool = True) -> Runner:
        """Loads an artifact of a bundle with ``threads`` threads (default: the machine's cores, 4 at most).

        With ``kept`` false nothing is used that an earlier load left in a cache: a proof is of the file alone.
        """

    def open_packed(self, folder: Path, manifest: Manifest, packed: Path, read_only: bool, threads: int | None = None) -> Runner:
        """Loads the CPU artifact with the file of packed weights that is named: packs into it, or, ``read_only``, uses it as it is, unchecked."""
        raise FirstTokenError(f"{self.name}: its runtime takes no packed weights; leave out --pack-for")

    def packed_for(self, folder: Path, manifest: Manifest, isa: str, runtime: str) -> tuple[Path | None, str]:
        """The bundle's file of packed weights for another CPU than this one, with this version of the runtime; or None and why there is none."""
        return None, f"{self.name} takes none"

    def write_without_weights(self, source: Path, destination: Path) -> int:
        """Writes an artifact without the weights that packed files hold; returns how many bytes it does without."""
        raise FirstTokenError(f"{self.name}: its artifact cannot be written without weights; leave out --packed-only")

    def on_gpu(self) -> "Backend":
        """The same backend as its artifacts run on a GPU, here a software one (`prove.on_gpu`). Raises `FirstTokenError` where they are for none."""
        raise FirstTokenError(f"{self.name} has nothing for a GPU; export with a target like tflite-gpu")

    def kept_files(self, manifest: Manifest, artifact: Artifact) -> list[Path]:
        """What loads of the artifact left in a cache, which the next load reads."""
        return []

    def preload(self) -> None:  # noqa: B027  some have nothing to import
        """Imports what running takes, so that a clock that starts afterwards does not measure Python's imports."""

    def one_layer(
        self,
        checkpoint: Checkpoint,
        layer: Layer,
        precision: str,
        group_size: int,
        tokens: int,
        path: Path,
        threads: int,
        apart: bool = False,
    ) -> Callable[[], np.ndarray]:
        """Writes a linear layer alone to ``path`` as artifacts have it, and loads it; returns what runs it once on ``tokens`` states and gives its
        result ``[tokens, rows]``; ``apart``: its outliers by themselves. Raises `FirstTokenError` where this backend cannot."""
        raise FirstTokenError(
            f"{self.name}: the time of single layers cannot be measured here; give measurement files of bundles with --times"
        )

    def weight_rounding(self, precision: str, kind: str, group: int) -> "nn.Module | None":
        """What rounds a weight ``[rows, columns]`` in quantization-aware training as the artifact will; None where torchao's does."""
        return None

    def activation_rounding(self, precision: str, group: int, columns: int) -> "nn.Module | None":
        """What rounds a linear layer's input ``[..., columns]`` in it; None where torchao's does, to int8 with a scale and zero point a token."""
        return None
