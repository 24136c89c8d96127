"""The main job for modules: a module in, proven bundles out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from firsttoken.backends.module_backend import LoweredModule, ModuleBackend, ModuleJob
from firsttoken.backends.module_registry import module_backend_of
from firsttoken.bundle.atomic import Staging
from firsttoken.bundle.files import check_destination, file_facts, rejected_name
from firsttoken.bundle.manifest import Needs
from firsttoken.bundle.module_manifest import LayerFacts, ModuleArtifact, ModuleIdentity, ModuleManifest, ModuleTarget
from firsttoken.errors import FirstTokenError, GateError
from firsttoken.last_words import doing
from firsttoken.module_bundles.prove import entry_of, facts_of, prove_module
from firsttoken.module_bundles.resolve import resolve_module
from firsttoken.modules.layers import ModuleLayer, module_layers
from firsttoken.modules.module import Module
from firsttoken.modules.samples import Arrays, Samples, given_samples
from firsttoken.modules.sources import Source
from firsttoken.pipeline import no_room, package_versions, staged
from firsttoken.precisions import STATIC
from firsttoken.progress import Report, silent
from firsttoken.quant.module_plan import ModulePlan, Resolved, load_module_plan
from firsttoken.quiet import quiet_runtime
from firsttoken.targets.target import Target, load_target

DEFAULT_PLAN, DEFAULT_TARGET = "module-int8", "tflite-xnnpack"
RANDOM_NOTE = (
    "NOTE: no samples were given, so the proof runs on random inputs: it shows that the file computes what the module does, and nothing about real answers; "
    "give inputs with --held-out FILE.npz"
)


@dataclass(frozen=True)
class ModuleTargetJob:
    """One bundle to make, checked: every precision is resolved against the target."""

    target: Target
    backend: ModuleBackend
    resolved: Resolved
    destination: Path


def export_source(
    source: Source,
    output: str | Path,
    plan: str | Path = DEFAULT_PLAN,
    targets: Sequence[str | Path] = (DEFAULT_TARGET,),
    samples: Arrays | None = None,
    held_out: Arrays | None = None,
    prove: bool = True,
    force: bool = False,
    report: Report = silent,
    say: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """Exports a module to one bundle per target, ``output/<target name>/``, and returns those folders.

    ``samples`` are inputs by name for calibrated ranges, ``held_out`` those of the proof, with "labels" as one likes; a student has its own. Everything
    that can be known before is checked before any work. Raises `FirstTokenError` for bad input, and `GateError` for a bundle that missed its proof (it is
    kept as ``<target name>.rejected``; bundles finished before it stay).
    """
    module, chosen = source.module, load_module_plan(plan)
    layers = module_layers(module.program)
    unnamed = unnamed_weights(module, layers)
    check_named(chosen, module, layers, unnamed)
    jobs = plan_jobs(source, layers, chosen, targets, Path(output), force)
    calibration, proof = chosen_samples(source, samples, held_out)
    for job in jobs:
        check_calibrated(chosen, job, calibration)
    if prove and proof.random:
        say(RANDOM_NOTE)
    if unnamed:
        few = f"{', '.join(unnamed[:3])}{f' and {len(unnamed) - 3} more' if len(unnamed) > 3 else ''}"
        say(f"NOTE: {few}: used by operators that no plan names (a product with a bare parameter), so they stay FP32")
    return [make_bundle(source, layers, chosen, job, calibration, proof if prove else None, force, report, say) for job in jobs]


def unnamed_weights(module: Module, layers: Sequence[ModuleLayer]) -> list[str]:
    """Parameters of at least a matrix's shape that belong to no layer."""
    named = {weight for layer in layers for weight in layer.weights}
    program = module.program
    return [
        name for name in program.graph_signature.inputs_to_parameters.values() if name not in named and program.state_dict[name].dim() >= 2
    ]


def check_named(plan: ModulePlan, module: Module, layers: Sequence[ModuleLayer], unnamed: Sequence[str]) -> None:
    """Raises `FirstTokenError` where a plan would find nothing to act on: all would stay FP32, and the proof would pass."""
    if unnamed and not any(layer.weights for layer in layers) and any(rule.precision != "fp32" for rule in plan.rules):
        raise FirstTokenError(
            f"{module.name}: none of its {len(unnamed)} weights ({unnamed[0]} …) is in a layer that a plan can name, so all would stay FP32; "
            "was it decomposed? Save what torch.export.export returns, without run_decompositions(), or give module-fp32"
        )


def plan_jobs(
    source: Source, layers: Sequence[ModuleLayer], plan: ModulePlan, targets: Sequence[str | Path], output: Path, force: bool
) -> list[ModuleTargetJob]:
    """Resolves the plan against every target and checks every destination. Raises `FirstTokenError`."""
    jobs: list[ModuleTargetJob] = []
    for name in targets:
        target = load_target(name)
        backend = module_backend_of(target)
        if any(job.target.name == target.name for job in jobs):
            raise FirstTokenError(f"target {target.name!r} is given twice; each bundle folder is named after its target")
        jobs.append(
            ModuleTargetJob(target, backend, resolve_module(plan, source.module, layers, target.name, backend), output / target.name)
        )
    if not jobs:
        raise FirstTokenError("no target given; name at least one with --target")
    for job in jobs:
        check_destination(job.destination, force)
    return jobs


def chosen_samples(source: Source, samples: Arrays | None, held_out: Arrays | None) -> tuple[Samples | None, Samples]:
    """What calibrates and what proves: what was given, else the student's own. Raises `FirstTokenError`."""
    names = ("--samples" if samples is not None else source.sources[0], "--held-out" if held_out is not None else source.sources[1])
    own_proof = source.held_out if samples is None else None  # samples of the user's own are divided, a student's lie apart
    return given_samples(
        source.module,
        samples if samples is not None else source.calibration,
        held_out if held_out is not None else own_proof,
        names,
    )


def check_calibrated(plan: ModulePlan, job: ModuleTargetJob, calibration: Samples | None) -> None:
    """Raises `FirstTokenError` for calibrated ranges without samples."""
    static = next((name for name, precision in job.resolved.precisions.items() if precision in STATIC), None)
    if static is not None and calibration is None:
        raise FirstTokenError(
            f"plan {plan.name!r}: {job.resolved.precisions[static]} for {static!r} has ranges that real inputs decide, and there are no samples; "
            "give some with --samples FILE.npz (an array for each input, 100 to 500 of your data), or take module-int8, whose ranges are dynamic"
        )


def make_bundle(
    source: Source,
    layers: Sequence[ModuleLayer],
    plan: ModulePlan,
    job: ModuleTargetJob,
    calibration: Samples | None,
    proof: Samples | None,
    force: bool,
    report: Report,
    say: Callable[[str], None],
) -> Path:
    """Writes one bundle under a hidden name, proves it there and renames it into place; returns its folder."""
    name = job.target.name
    with doing(f"exporting {name}"), Staging(job.destination) as staging:
        check_destination(job.destination, force)  # again: opening the staging folder may have restored a bundle
        folder = staging.folder
        try:
            ranges = {layer: str(method) for layer, method in job.resolved.ranges.items()}
            inputs = calibration.inputs if calibration is not None and ranges else {}
            lowering = ModuleJob(source.module, layers, job.resolved.precisions, inputs, ranges)
            with quiet_runtime():
                lowered = job.backend.lower(lowering, folder / job.backend.artifact_file, staged(report, name))
            manifest = describe(source, layers, plan, job, lowered, folder, calibration if ranges else None)
            manifest.write(folder)
            misses: list[str] = []
            if proof is not None:
                manifest.proof, manifest.audit = prove_module(folder, manifest, source.module, proof, report=staged(report, name))
                misses = manifest.proof.misses
                manifest.write(folder)
            if not misses:
                check_destination(job.destination, force)  # something may have been put there in the meantime
                staging.commit(replace=force)
        except OSError as error:
            raise no_room(error, job.destination) from error
        for note in manifest.notes:
            say(f"{name}: {note}")
        if misses:
            rejected = rejected_name(job.destination)
            staging.commit(replace=True, destination=rejected)
            raise GateError(f"{name}: rejected by its proof, kept as {rejected}: {'; '.join(misses)}")
    return job.destination


def describe(
    source: Source,
    layers: Sequence[ModuleLayer],
    plan: ModulePlan,
    job: ModuleTargetJob,
    lowered: LoweredModule,
    folder: Path,
    calibration: Samples | None,
) -> ModuleManifest:
    """The manifest of what was written to ``folder``, without its proof. Raises `FirstTokenError` for a backend whose methods are not the module's."""
    module, target = source.module, job.target
    check_methods(job, lowered, [one.name for one in module.inputs], [one.name for one in module.outputs])
    files = sorted(path.name for path in folder.iterdir())
    return ModuleManifest(
        module=ModuleIdentity(
            name=module.name,
            fingerprint=module.fingerprint,
            parameters=sum(
                tensor.numel() for name, tensor in module.program.state_dict.items() if name in module.program.graph_signature.parameters
            ),
            lengths={name: list(sizes) for name, sizes in module.lengths.items()},
        ),
        lineage=source.lineage,
        plan=plan,
        layers=[
            LayerFacts(
                name=layer.name,
                kind=layer.kind,
                precision=job.resolved.precisions[layer.name],
                shape=None if layer.shape is None else list(layer.shape),
            )
            for layer in layers
        ],
        calibration=None if calibration is None else facts_of(calibration),
        target=ModuleTarget(name=target.name, runtime=target.runtime, delegate=target.delegate),
        artifact=ModuleArtifact(
            file=job.backend.artifact_file,
            backend=job.backend.name,
            needs=Needs(runtime=target.runtime, min_runtime=target.min_runtime),
            methods=[entry_of(method) for method in lowered.methods],
            layers=plain(lowered.layers),
        ),
        labels=list(module.labels),
        notes=[*job.resolved.notes, *lowered.notes],
        packages=package_versions(),
        files={name: file_facts(folder / name) for name in files},
    )


def check_methods(job: ModuleTargetJob, lowered: LoweredModule, inputs: list[str], outputs: list[str]) -> None:
    for method in lowered.methods:
        for side, wanted in ((method.inputs, inputs), (method.outputs, outputs)):
            if sorted(one.name for one in side) != sorted(wanted):
                raise FirstTokenError(
                    f"target {job.target.name!r}: method {method.name!r} of what was written has {', '.join(one.name for one in side)}; expected {', '.join(wanted)}"
                )
    if not lowered.methods:
        raise FirstTokenError(f"target {job.target.name!r}: what was written has no method; expected one or more")


def plain(layers: Mapping[str, object]) -> dict[str, object]:
    """Facts of a backend as JSON gives them back: an audit of the export sees what a later one does."""
    import json

    def of_numpy(value: object) -> object:
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, np.ndarray):
            return value.tolist()
        raise TypeError(f"{type(value).__name__} is no JSON")

    return json.loads(json.dumps(dict(layers), default=of_numpy))
