"""Packed weights that came with the bundle: which file fits this CPU, this runtime and this artifact, and loading with it.

The runtime checks which kernels a file is for, and not whose weights it holds; so everything else is checked here before it is given one. It gets the
file to read only. An artifact that has no weights of its own is asked its canary besides.
"""

from importlib.metadata import version
from pathlib import Path

import numpy as np

from firsttoken.backends.isa import host_isa, host_key
from firsttoken.backends.runner import Runner
from firsttoken.backends.tflite.kernel_check import taken_here
from firsttoken.backends.tflite.litert import ReadOnly
from firsttoken.backends.tflite.runner import TfliteRunner
from firsttoken.backends.tflite.weight_cache import facts_of
from firsttoken.bundle.files import check_file
from firsttoken.bundle.manifest import Artifact, Manifest
from firsttoken.bundle.packed_facts import PackedFile, PackedWeights
from firsttoken.errors import FirstTokenError
from firsttoken.file_hash import remember_hash, remembered_hash

NEAR = 0.02  # of the largest logit: cores of one name may add in another order


def open_shipped(
    folder: Path, manifest: Manifest, packed: PackedWeights, artifact: Artifact, threads: int | None, kept: bool
) -> TfliteRunner:
    """Loads the artifact of a bundle with packed weights, with the file for this CPU where it can be used.

    Where it cannot, a whole artifact is loaded as any other, with a note. Raises `FirstTokenError` for one without weights of its own. With
    ``kept`` false a whole artifact is loaded by itself.
    """
    path = folder / artifact.file
    if not kept and not packed.only:
        return TfliteRunner(path, manifest, threads, weight_cache=False)
    found, why = usable(folder, manifest, packed, host_isa(), artifact)
    if found is not None and not taken_here(folder / found.file, found.package):
        why = f"{found.file} is for other kernels than {found.package} {found.version} takes on this CPU"
        found = None
    if found is None:
        if packed.only:
            raise FirstTokenError(without_weights(folder, why))
        runner = TfliteRunner(path, manifest, threads, weight_cache=kept)
        runner.notes.append(f"packed weights of the bundle are not used: {why}; the artifact's own are packed (a slower first start)")
        return runner
    file = folder / found.file
    before = facts_of(file)
    runner = TfliteRunner(path, manifest, threads, weight_cache=ReadOnly(file))
    try:
        if facts_of(file) != before:
            raise FirstTokenError(f"{file}: changed while it was loaded; copy it again")
        if packed.only:
            check_canary(runner, path, file, packed, found)
    except BaseException:
        runner.close()
        raise
    runner.packed_for = found.isa
    runner.notes.append(f"packed weights: the bundle's own, for {found.isa} ({found.file})")
    return runner


def usable(
    folder: Path, manifest: Manifest, packed: PackedWeights, isa: str, artifact: Artifact, runtime: str | None = None
) -> tuple[PackedFile | None, str]:
    """The bundle's file of packed weights for CPUs of ``isa`` and version ``runtime`` (default: the installed one), or None and why there is none."""
    found = next((file for file in packed.files if file.isa == isa), None)
    if found is None:
        return None, f"they are for {', '.join(file.isa for file in packed.files)}, and this CPU is {isa}"
    here = version(found.package) if runtime is None else runtime
    if found.version != here:
        return None, f"{found.file} was packed by {found.package} {found.version}, and {here} is what runs here"
    if found.artifact_sha256 != manifest.facts(artifact).sha256:
        return None, f"{found.file} was packed from another {artifact.file}"
    try:
        check_file(folder / found.file, manifest.files[found.file])
    except (FirstTokenError, OSError) as error:
        return None, str(error)
    return found, ""


def without_weights(folder: Path, why: str) -> str:
    return (
        f"bundle {folder}: its artifact has only packed weights, and none can be used here: {why}; "
        f"export it without --packed-only, or again with --pack-for {host_isa()}"
    )


def check_canary(runner: Runner, artifact: Path, file: Path, packed: PackedWeights, found: PackedFile) -> None:
    """Raises `FirstTokenError` unless the loaded artifact answers the bundle's prompt as it did where it was packed. An answer is remembered for this CPU."""
    kind, asked = f"-canary-{host_key()}", found.model_dump_json()
    if remembered_hash(artifact, file, kind=kind) == asked:
        return
    runner.reset()
    logits, wanted = runner.prefill(packed.prompt).copy(), np.array(found.largest)
    runner.reset()
    got, near = np.append(logits[found.top], logits.max()), NEAR * float(np.abs(wanted).max())
    if not np.allclose(got, np.append(wanted, wanted.max()), rtol=0, atol=near):
        raise FirstTokenError(
            f"{file}: with it the bundle's test prompt gives the tokens {found.top} logits of {np.round(got[:-1], 3).tolist()}, where {np.round(wanted, 3).tolist()} "
            "were recorded; it is not this artifact's, export again"
        )
    remember_hash(artifact, file, sha256=asked, kind=kind)
