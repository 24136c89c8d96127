"""The proof of a module's bundle: the written file, run in its own runtime on held-out inputs, against the float module."""

from pathlib import Path

from firsttoken.backends.module_backend import ArtifactTensor, LoweredModule, ModuleMethod
from firsttoken.backends.module_registry import find_module_backend
from firsttoken.bundle.files import check_files
from firsttoken.bundle.manifest import AuditRow
from firsttoken.bundle.module_manifest import ModuleEntry, ModuleManifest, ModuleProof, ModuleTensor, SampleFacts, read_module_manifest
from firsttoken.errors import FirstTokenError
from firsttoken.module_bundles.compare import accuracy_of, figures_of, missed_bounds, run_float
from firsttoken.module_bundles.structure import missed_structure
from firsttoken.modules.layers import module_layers
from firsttoken.modules.module import Module
from firsttoken.modules.samples import Samples
from firsttoken.modules.sources import Source
from firsttoken.progress import Report, silent
from firsttoken.quiet import quiet_runtime
from firsttoken.safe_text import visible


def lowered_of(manifest: ModuleManifest) -> LoweredModule:
    """What the backend wrote, as the manifest keeps it."""
    methods = tuple(
        ModuleMethod(entry.name, tuple(map(tensor_of, entry.inputs)), tuple(map(tensor_of, entry.outputs)), entry.sizes)
        for entry in manifest.artifact.methods
    )
    return LoweredModule(methods, manifest.artifact.layers, tuple(manifest.notes))


def tensor_of(one: ModuleTensor) -> ArtifactTensor:
    return ArtifactTensor(one.name, one.file_name, one.dtype, tuple(one.shape), one.scale, one.zero_point)


def entry_of(method: ModuleMethod) -> ModuleEntry:
    """A method as the manifest has it."""
    sides = [
        [
            ModuleTensor.model_validate(
                {
                    "name": one.name,
                    "file_name": one.file_name,
                    "dtype": one.dtype,
                    "shape": list(one.shape),
                    "scale": one.scale,
                    "zero_point": one.zero_point,
                }
            )
            for one in side
        ]
        for side in (method.inputs, method.outputs)
    ]
    return ModuleEntry(name=method.name, inputs=sides[0], outputs=sides[1], sizes=dict(method.sizes))


def facts_of(samples: Samples) -> SampleFacts:
    return SampleFacts(source=samples.source, sha256=samples.sha256, count=samples.count, random=samples.random)


def prove_module(
    folder: Path, manifest: ModuleManifest, module: Module, samples: Samples, threads: int | None = None, report: Report = silent
) -> tuple[ModuleProof, list[AuditRow]]:
    """Runs the bundle in ``folder`` over ``samples`` and looks at every layer; a missed bound is in the proof's ``misses``.

    Raises `FirstTokenError` for a file that the runtime does not load or run, or another module than the bundle was made from.
    """
    check_same(folder, manifest, module)
    backend, lowered, layers = find_module_backend(manifest.artifact.backend), lowered_of(manifest), module_layers(module.program)
    path = folder / manifest.artifact.file
    report("proof", 0, 3, "steps")
    wanted = run_float(module, samples.inputs)
    report("proof", 1, 3, "steps")
    try:
        with quiet_runtime():
            runner = backend.open(path, lowered.methods, threads)
            try:
                got = runner.run(samples.inputs)
            finally:
                runner.close()
        report("proof", 2, 3, "steps")
        rows = backend.audit(path, lowered, layers, manifest.precisions)
        structure = missed_structure(rows, module, layers, manifest.precisions)
    except (
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        IndexError,
    ) as error:  # what a backend's facts are is the backend's, and a manifest may be anyone's
        raise FirstTokenError(
            f"bundle {folder}: its manifest does not fit {path.name} and the module ({type(error).__name__}: {visible(error, 80)}); export again"
        ) from error
    figures, wrong = figures_of(module, wanted, got)
    misses = [
        *wrong,
        *structure,
        *missed_bounds(manifest.plan.gate, figures, samples.random),
    ]
    proof = ModuleProof(samples=facts_of(samples), outputs=figures, passed=True)
    name = module.outputs[0].name
    if samples.labels is not None and (samples.labels >= 0).any() and not wrong:
        proof.labelled = int((samples.labels >= 0).sum())
        proof.accuracy, proof.reference_accuracy = accuracy_of(got[name], samples.labels), accuracy_of(wanted[name], samples.labels)
        if not proof.reference_accuracy - proof.accuracy <= manifest.plan.gate.accuracy_drop:
            misses.append(
                f"{proof.accuracy:.2%} of {proof.labelled} labels right, {proof.reference_accuracy:.2%} in FP32; the plan allows a loss of {manifest.plan.gate.accuracy_drop:.2%}"
            )
    proof.misses, proof.passed = misses, not misses
    report("proof", 3, 3, "steps")
    return proof, rows


def check_same(folder: Path, manifest: ModuleManifest, module: Module) -> None:
    """Raises `FirstTokenError` where the bundle was made from another module."""
    if manifest.module.fingerprint != module.fingerprint:
        raise FirstTokenError(
            f"bundle {folder}: was exported from {manifest.module.name!r} with the fingerprint {manifest.module.fingerprint[:12]}…, and {module.name} has "
            f"{module.fingerprint[:12]}…; give the module it was made from, or export again"
        )


def prove_bundle(
    folder: str | Path, source: Source, samples: Samples, threads: int | None = None, report: Report = silent
) -> tuple[ModuleProof, list[AuditRow]]:
    """`prove_module` of a finished bundle, whose files are checked first. Raises `FirstTokenError`."""
    folder = Path(folder)
    manifest = read_module_manifest(folder)
    check_files(folder, manifest, report)
    return prove_module(folder, manifest, source.module, samples, threads, report)
