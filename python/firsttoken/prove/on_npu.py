"""Proving a bundle's NPU artifact: its QNN contexts on Qualcomm's HTP backend for x86, beside the CPU artifact.

A context whose weights are shared between graphs does not load on x86 (it ends the process). Where the artifact has
such, every graph is compiled again by itself, from the same source to the byte (its hash is in the manifest), with the
same libraries and for the same SoC.
"""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from firsttoken.backends.interface import Backend, LoweringJob
from firsttoken.backends.registry import find_backend
from firsttoken.backends.tflite_hexagon.audit import audit
from firsttoken.backends.tflite_hexagon.compile import compile_for
from firsttoken.backends.tflite_hexagon.compiled import Context, read_compiled
from firsttoken.backends.tflite_hexagon.cost import compile_cost, emulation_cost, npu_weight_bytes
from firsttoken.backends.tflite_hexagon.libraries import HostLibraries, find_libraries
from firsttoken.backends.tflite_hexagon.runner import HexagonRunner
from firsttoken.backends.tflite_hexagon.source import write_source
from firsttoken.bundle.manifest import AuditRow, Manifest, Method, Proof, read_manifest
from firsttoken.bundle.npu_proof import NpuProof
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import parameter_count
from firsttoken.errors import FirstTokenError
from firsttoken.file_hash import hash_file
from firsttoken.machine import MARGIN, available_memory
from firsttoken.progress import Report, silent
from firsttoken.prove.gate import missed_scales, missed_structure
from firsttoken.prove.ground import FEWEST_COMPARED, apart, open_ground
from firsttoken.prove.verdict import sum_up
from firsttoken.prove.windows import Window
from firsttoken.prove.windows import proof_limits as host_limits
from firsttoken.units import lasting, readable

# What a proof may cost without being asked for more: the emulator multiplies about a thousandth as fast as the CPU.
WEIGHT_TOKENS = 1.6e10
MOST_TOKENS, FEWEST_TOKENS = 2048, 24
MOST_POSITIONS, FEWEST_POSITIONS = 160, 16
LARGE = 10**8  # weights past which a stated sample is run (`ground.sample`)
FULLY = 10**7  # weights up to which every position of the CPU's proof can be run in a quarter of an hour
STAND_IN_SOC = "SM8550"  # graphs that a phone compiles are compiled here for this one
UNPACKED = 1.25  # a context this much larger than the stored weights no longer holds them as stored
CONTEXT_BYTES = 4 << 20  # of graphs and tables, whatever the weights


@dataclass(frozen=True)
class NpuResult:
    """Both artifacts' proofs over the same positions, what goes into the manifest, and the NPU's audit."""

    cpu: Proof
    npu: Proof
    summary: NpuProof
    audit: list[AuditRow]
    backend: Backend


def prove_on_npu(
    bundle: str | Path,
    checkpoint: str | Path | Checkpoint,
    held_out: str | Path | None = None,
    windows: int | None = None,
    threads: int | None = None,
    report: Report = silent,
    most: tuple[int, int] | None = None,
    say: Callable[[str], None] = lambda line: None,
    fully: bool = False,
) -> NpuResult:
    """Runs the NPU's contexts and the CPU artifact on the same held-out text, prefill and decode, over one cache each.

    ``windows`` asks for a number of windows of text instead of about two minutes' worth (past `LARGE` weights: a sample), ``most`` for other bounds in
    tokens and positions, ``fully`` for all that the CPU's proof runs, of models up to `FULLY` weights; ``threads`` are the CPU's; ``say`` is told what it will take before it starts. Misses are the plan's bounds on the NPU and operators or weights
    that are not as asked; a missed bound is not an error here. Raises `FirstTokenError` if the bundle has no NPU artifact,
    is damaged or was made from another checkpoint, or if the libraries are missing or others than it was compiled with.
    """
    folder = Path(bundle)
    manifest = read_manifest(folder)
    artifact = manifest.npu_artifact
    if artifact is None or artifact.npu is None:
        raise FirstTokenError(f"bundle {folder}: has no NPU artifact; export with a target like tflite-hexagon-sm8550")
    backend = find_backend(artifact.backend)
    if not backend.emulated:
        raise FirstTokenError(
            f"bundle {folder}: its NPU artifact is of the backend {backend.name}, which has no runtime for this machine; "
            "prove the CPU artifact with --on host, and the NPU's graphs with a target tflite-hexagon-*"
        )
    libraries = find_libraries()

    def limits(decoder: Decoder) -> tuple[int, int] | None:
        return None if fully and parameter_count(decoder) <= min(FULLY, LARGE) else emulation_limits(decoder)

    ground = open_ground(folder, manifest, checkpoint, held_out, limits, LARGE, windows, most, report)
    source, decoder, precisions, stretches = ground.source, ground.decoder, ground.precisions, ground.windows
    say(check_cost(decoder, precisions, manifest, stretches))
    cpu = ground.cpu(threads, report)
    with tempfile.TemporaryDirectory(prefix="firsttoken-npu-") as scratch:
        source_file = Path(scratch) / "source.tflite"
        write_same_source(source, decoder, manifest, precisions, source_file, report)
        asked = ground.asked
        rows = audit(source_file, decoder, asked, artifact.npu)
        contexts = proof_contexts(folder, manifest, decoder, precisions, source_file, libraries, report)
        npu = ground.other(lambda: HexagonRunner(folder, manifest, contexts, libraries), backend, cpu, report, "HTP backend for x86")
    cpu_proof, npu_proof = (sum_up(manifest, each, stretches, ground.name, ground.text, FEWEST_COMPARED) for each in (cpu, npu))
    npu_proof.misses += missed_structure(rows, asked, backend, manifest.target.npu_options.allow_partial)
    npu_proof.misses += missed_scales(rows, manifest.calibration) + unpacked(manifest, decoder, precisions)
    npu_proof.passed = not npu_proof.misses
    summary = NpuProof(
        backend=emulator_name(manifest, libraries),
        text=ground.name,
        text_sha256=npu_proof.text_sha256,
        windows=len(stretches),
        last_position=ground.last_position,
        twin=npu_proof.twin,
        prefill=npu_proof.prefill,
        decode=npu_proof.decode,
        all=npu_proof.all,
        cpu=cpu_proof.all,
        npu_against_cpu=apart(npu),
        passed=npu_proof.passed,
        misses=npu_proof.misses,
    )
    return NpuResult(cpu_proof, npu_proof, summary, rows, backend)


def emulator_name(manifest: Manifest, libraries: HostLibraries) -> str:
    """Names what ran the contexts, and how it differs from the phone where it does."""
    name = f"QNN {libraries.version}, HTP backend for x86"
    if manifest.need_npu()[1].compiled == "ahead":
        return name
    return f"{name}, the same graphs compiled ahead of time for {STAND_IN_SOC} (the phone's own compiler was not run)"


def emulation_limits(decoder: Decoder) -> tuple[int, int]:
    """Returns the most tokens and the most compared positions for a model of this size."""
    scale = WEIGHT_TOKENS / parameter_count(decoder)
    tokens = int(min(MOST_TOKENS, max(FEWEST_TOKENS, scale)))
    return tokens, min(int(min(MOST_POSITIONS, max(FEWEST_POSITIONS, scale / 10))), host_limits(decoder)[1])


def check_cost(decoder: Decoder, precisions: Mapping[str, str], manifest: Manifest, windows: list[Window]) -> str:
    """Returns a line that says what the proof will take. Raises `FirstTokenError` if there is not the memory for it."""
    cost = emulation_cost(decoder, precisions, manifest.target, [step[:3] for window in windows for step in window.steps()])
    compiling = compile_cost(decoder, precisions, manifest.target, graphs=1)
    seconds, memory = cost.seconds, cost.memory
    artifact, npu = manifest.need_npu()
    if npu.weights_shared or npu.compiled == "device":
        seconds, memory = seconds + len(artifact.methods) * compiling.seconds, max(memory, compiling.memory)
    free = available_memory()
    if memory > free * (1 - MARGIN):
        raise FirstTokenError(
            f"the proof of the NPU artifact needs about {readable(memory)} of memory, {readable(free)} are available; close other programs, "
            "use a larger machine, or export with --no-prove"
        )
    positions, last = sum(len(window.positions) for window in windows), max(int(window.positions.max()) for window in windows)
    return (
        f"proof of the NPU artifact: {positions} positions, up to position {last}, on the HTP backend for x86; "
        f"about {lasting(seconds)} and {readable(memory)} of memory"
    )


def write_same_source(
    source: Checkpoint, decoder: Decoder, manifest: Manifest, precisions: Mapping[str, str], path: Path, report: Report
) -> None:
    """Writes the graphs that the bundle was compiled from. Raises `FirstTokenError` if they come out different."""
    ranges = {} if manifest.calibration is None else manifest.calibration.ranges
    write_source(LoweringJob(source, decoder, manifest.plan, manifest.target, precisions, ranges=ranges), path, report)
    if hash_file(path) != manifest.need_npu()[1].source_sha256:
        raise FirstTokenError(
            f"the graphs made from {source.folder} now are not those that the bundle was compiled from ({manifest.packages.get('firsttoken')}, "
            f"ai-edge-litert {manifest.packages.get('ai-edge-litert')}); export it again"
        )


def proof_contexts(
    folder: Path,
    manifest: Manifest,
    decoder: Decoder,
    precisions: Mapping[str, str],
    source: Path,
    libraries: HostLibraries,
    report: Report,
) -> dict[str, Context]:
    """Returns a context for every method: the artifact's own, or its twins with unshared weights, beside ``source``."""
    artifact, npu = manifest.need_npu()
    needs = artifact.needs
    if npu.compiled == "ahead" and not npu.weights_shared:
        compiled = read_compiled(folder / artifact.file)
        return {graph.name: _whole(graph.contexts, graph.name) for graph in compiled}
    if npu.compiled == "ahead" and libraries.version != needs.qnn:
        raise FirstTokenError(
            f"the bundle was compiled with QNN {needs.qnn}, but {libraries.origin} has {libraries.version}; install that release, or export again"
        )
    contexts = {}
    cost = compile_cost(decoder, precisions, manifest.target, graphs=1)
    for number, method in enumerate(artifact.methods):

        def tell(stage: str, done: float, total: float, unit: str, method: Method = method) -> None:
            report(f"{stage} {method.name} for the proof", done, total, unit)

        twin = source.with_name(f"{method.name}.tflite")
        done = compile_for(
            source,
            twin,
            needs.soc or STAND_IN_SOC,
            libraries,
            False,
            manifest.target.npu_options.allow_partial,
            number,
            cost.seconds,
            tell,
        )
        contexts[method.name] = _whole(done.compiled[0].contexts, method.name)
    return contexts


def _whole(contexts: tuple[Context, ...], method: str) -> Context:
    if len(contexts) != 1:
        raise FirstTokenError(f"graph {method!r} is in {len(contexts)} parts; the proof runs graphs that the NPU took whole")
    return contexts[0]


def unpacked(manifest: Manifest, decoder: Decoder, precisions: Mapping[str, str]) -> list[str]:
    """A line if the compiled artifact is much larger than the weights asked for: then they are not stored as asked."""
    artifact, npu = manifest.need_npu()
    size = manifest.facts(artifact).bytes
    copies = 1 if npu.weights_shared or npu.compiled == "device" else len(artifact.methods)
    stored = npu_weight_bytes(decoder, precisions, manifest.target) * copies
    # Two int4 weights in a byte each would pass for what a context holds besides, where few layers are int4.
    wider = {name: "int8" if precision == "int4" else precision for name, precision in precisions.items()}
    widened = npu_weight_bytes(decoder, wider, manifest.target) * copies
    most = min(UNPACKED * stored, (stored + widened) / 2) if widened > stored else UNPACKED * stored
    if size <= most + CONTEXT_BYTES:
        return []
    return [f"the compiled artifact has {size} bytes for {stored} bytes of weights; they are not stored as the plan asks"]
