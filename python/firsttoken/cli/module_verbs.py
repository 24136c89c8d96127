"""The verbs as they go for modules: `export`, `prove` and `bench` hand over to these."""

from pathlib import Path
from typing import TYPE_CHECKING

from firsttoken.cli.output import Output
from firsttoken.extras import need

if TYPE_CHECKING:
    from rich.table import Table

    from firsttoken.bundle.manifest import AuditRow
    from firsttoken.bundle.module_manifest import ModuleManifest, ModuleProof
    from firsttoken.module_bundles.bench import Timed


def export_module_source(
    given: Path,
    output: Path,
    plan: str | None,
    targets: list[str],
    prove: bool,
    force: bool,
    samples: Path | None,
    held_out: Path | None,
    lengths: dict[str, list[int]] | None,
    labels: list[str],
    width: float | None,
    audit: bool,
    out: Output,
) -> None:
    """``firsttoken export`` of a student's folder, a .pt2 or my_model.py:build."""
    need("executorch", "reading a module, which is PyTorch's,")
    from firsttoken.bundle.module_manifest import read_module_manifest
    from firsttoken.module_bundles.export import DEFAULT_PLAN, DEFAULT_TARGET, export_source
    from firsttoken.modules.samples import read_samples
    from firsttoken.modules.sources import open_source
    from firsttoken.report.progress_bar import progress_bar

    calibration, proof = (None if path is None else read_samples(path) for path in (samples, held_out))
    source = open_source(given, width, lengths, labels)
    with progress_bar() as report:
        folders = export_source(
            source, output, plan or DEFAULT_PLAN, targets or [DEFAULT_TARGET], calibration, proof, prove, force, report, out.say
        )
    manifests = {folder: read_module_manifest(folder) for folder in folders}
    out.document({"bundles": [{"folder": folder, "manifest": manifest} for folder, manifest in manifests.items()]})
    for folder, manifest in manifests.items():
        show_bundle(folder, manifest, out, audit)


def show_bundle(folder: Path, manifest: "ModuleManifest", out: Output, audit: bool) -> None:
    from firsttoken.units import readable

    facts = manifest.files[manifest.artifact.file]
    out.show(
        f"{folder}: {manifest.artifact.file}, {readable(facts.bytes)}, plan {manifest.plan.name}, {manifest.module.parameters:,} parameters"
    )
    for method in manifest.artifact.methods:
        sides = (", ".join(f"{one.name} {one.dtype} {one.shape}" for one in side) for side in (method.inputs, method.outputs))
        out.show(f"  {method.name}: {' → '.join(sides)}")
    if manifest.proof is None:
        out.show("  not proven (--no-prove)")
        return
    show_proof(manifest.proof, manifest.audit, out, audit)


def show_proof(proof: "ModuleProof", rows: "list[AuditRow]", out: Output, audit: bool) -> None:
    out.show(proof_table(proof))
    if proof.accuracy is not None:
        out.show(f"  right of {proof.labelled} labels: {proof.accuracy:.2%}, in FP32 {proof.reference_accuracy:.2%}")
    out.show(*([audit_table(rows)] if audit else (f"  {line}" for line in audit_lines(rows))))


def proof_table(proof: "ModuleProof") -> "Table":
    from firsttoken.report.tables import table

    return table(
        f"against the float module, {proof.samples.count} samples: {proof.samples.source}",
        ("output", "same class", "largest error", "mean error", "cosine", "worst cosine", "magnitude"),
        [
            (
                one.name,
                "–" if one.same_top is None else f"{one.same_top:.2%}",
                f"{one.max_error:.2e}",
                f"{one.mean_error:.2e}",
                f"{one.cosine:.6f}",
                f"{one.worst_cosine:.6f}",
                f"{one.magnitude_ratio:.4f}",
            )
            for one in proof.outputs
        ],
    )


def audit_table(rows: "list[AuditRow]") -> "Table":
    from firsttoken.report.tables import table

    columns = ("layer", "asked", "stored", "computed", "delegated")
    return table(
        None, columns, [(row.layer, row.asked, row.stored, row.computed, "yes" if row.delegated else "no") for row in rows], left=5
    )


def audit_lines(rows: "list[AuditRow]") -> list[str]:
    """How many layers are stored and computed in what."""
    found: dict[tuple[str, str, str], int] = {}
    for row in rows:
        kind = (row.asked, row.computed, "" if row.delegated else ", outside the delegate")
        found[kind] = found.get(kind, 0) + 1
    return [f"{count} layers {asked}, computed in {computed}{outside}" for (asked, computed, outside), count in sorted(found.items())]


def prove_module_bundle(
    bundle: Path, given: Path, held_out: Path | None, width: float | None, threads: int | None, audit: bool, out: Output
) -> None:
    """``firsttoken prove`` of a module's bundle against the module that it was made from."""
    need("executorch", "reading a module, which is PyTorch's,")
    from firsttoken.bundle.module_manifest import read_module_manifest
    from firsttoken.errors import FirstTokenError, GateError
    from firsttoken.module_bundles.export import RANDOM_NOTE
    from firsttoken.module_bundles.prove import prove_bundle
    from firsttoken.modules.given import is_module_source
    from firsttoken.modules.samples import given_samples, read_samples
    from firsttoken.modules.sources import open_source
    from firsttoken.report.progress_bar import progress_bar

    if not is_module_source(given):
        raise FirstTokenError(
            f"bundle {bundle} is a module's, and {given} is none; give the student's folder, the .pt2 or the my_model.py:build it was made from"
        )
    manifest = read_module_manifest(bundle)
    width = manifest.lineage.width if width is None and manifest.lineage is not None else width
    source = open_source(given, width, dict(manifest.module.lengths), manifest.labels)
    own = source.held_out if held_out is None else read_samples(held_out)
    _, samples = given_samples(source.module, None, own, ("", source.sources[1] if held_out is None else str(held_out)))
    if samples.random:
        out.say(RANDOM_NOTE)
    with progress_bar() as report:
        proof, rows = prove_bundle(bundle, source, samples, threads, report)
    out.show(str(bundle))
    show_proof(proof, rows, out, audit)
    out.document({"bundle": bundle, "passed": proof.passed, "misses": proof.misses, "proof": proof, "audit": rows})
    if proof.misses:
        raise GateError(f"{bundle}: the proof failed: {'; '.join(proof.misses)}")
    out.show("proven: every bound of the plan is kept and every layer is as asked")


def bench_module_bundles(bundles: list[Path], repeat: int | None, threads: int | None, cold: bool, markdown: bool, out: Output) -> None:
    """``firsttoken bench`` of modules' bundles."""
    from firsttoken.bundle.module_manifest import is_module_bundle
    from firsttoken.errors import FirstTokenError
    from firsttoken.module_bundles.bench import bench_modules
    from firsttoken.report.progress_bar import progress_bar

    if others := [bundle for bundle in bundles if not is_module_bundle(bundle)]:
        raise FirstTokenError(
            f"{others[0]} is no module's bundle, and {next(b for b in bundles if b not in others)} is one; measure them apart"
        )
    with progress_bar() as report:
        rows = bench_modules(bundles, repeat or 50, threads or 1, cold, report)
    columns, cells = bench_rows(rows)
    if markdown:
        out.show("\n".join("| " + " | ".join(line) + " |" for line in (columns, ("---",) * len(columns), *cells)))
    else:
        out.show(bench_table(rows))
    out.show(times_said(rows))
    out.document({"modules": [row.document for row in rows]})


def bench_rows(rows: "list[Timed]") -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Columns and cells of what `bench_modules` returned."""
    from firsttoken.units import readable

    figures = ("load", "first", "warm", "warm_min", "warm_p90", *(("cold",) if any(row.cold for row in rows) else ()))
    cells = []
    for row in rows:
        times = row.summary
        sizes = ", ".join(f"{name} {size}" for name, size in row.sizes.items()) or "–"
        cells.append((str(row.bundle), row.plan, sizes, readable(row.artifact_bytes), *(f"{times[name]:.3f}" for name in figures)))
    return ("bundle", "plan", "sizes", "file", *(name.replace("_", " ") for name in figures)), cells


def bench_table(rows: "list[Timed]") -> "Table":
    """The table for the terminal."""
    from firsttoken.report.tables import table

    columns, cells = bench_rows(rows)
    return table(None, columns, cells, left=3)


def times_said(rows: "list[Timed]") -> str:
    """How the times were taken, in words."""
    threads = rows[0].threads
    said = f"milliseconds, medians, {threads} {'thread' if threads == 1 else 'threads'}; warm: runs behind the first of 3 processes each, files in the page cache"
    return said + (f"; cold: load and first run, file {rows[0].pages}" if rows[0].cold else "")
