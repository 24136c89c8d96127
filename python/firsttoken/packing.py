"""Packed weights into a bundle: packed where they will be used, or on an emulated core that takes the same kernels, and held against the artifact's own.

XNNPACK packs weights for the CPU that it runs on. A file of them is made by letting the bundle's own artifact be loaded there; what it then
computes has to be equal to the bit, once packed anew and once from the file.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

from firsttoken.arm.cores import PACKS_FOR
from firsttoken.arm.emulator import check_parts, runtime_version, runtimes_of
from firsttoken.arm.runner import ArmRunner
from firsttoken.backends.interface import Backend, Estimate
from firsttoken.backends.isa import ARM, host_isa, names
from firsttoken.backends.registry import find_backend
from firsttoken.backends.runner import Runner
from firsttoken.bundle.files import file_facts
from firsttoken.bundle.manifest import Manifest
from firsttoken.bundle.packed_facts import PackedFile, PackedWeights
from firsttoken.errors import FirstTokenError, nearest

HOST = "host"
PROMPT_TOKENS, DECODED = 4, 1
RECORDED = 8  # of the likeliest tokens after the prompt
COPIES = 1.15  # of the artifact's bytes a packed file takes, erring upwards


@dataclass(frozen=True)
class Packing:
    """The kinds of CPU that weights are packed for, and whether the artifact is left without its own."""

    isas: list[str]
    only: bool


def check_packing(asked: Sequence[str], only: bool, backends: Sequence[tuple[str, Backend, bool]]) -> Packing:
    """What is to be packed, each kind of CPU once. ``backends``: a target's name, its CPU's backend, and whether it has artifacts beside the CPU's.

    Raises `FirstTokenError`, before any work, for a name that is none, a target whose runtime takes no packed weights, and an emulator that is not set up.
    """
    if not asked:
        if only:
            raise FirstTokenError("--packed-only leaves out what packed files hold, and none are asked for; give --pack-for as well")
        return Packing([], False)
    known = names()
    isas = list(dict.fromkeys(host_isa() if name == HOST else name for name in asked))
    for isa in isas:
        if isa not in known:
            raise FirstTokenError(
                f"--pack-for {isa}: unknown, or a CPU that is not here{nearest(isa, known)}; expected one of {', '.join(known)}, or {HOST}"
            )
    for target, backend, others in backends:
        if not backend.packs_weights:
            raise FirstTokenError(
                f"target {target!r}: its runtime takes no packed weights; leave out --pack-for, or give -t tflite-xnnpack"
            )
        if only and others:
            raise FirstTokenError(f"target {target!r}: its other artifacts take weights from the CPU's; leave out --packed-only")
        if any(isa in ARM and isa != host_isa() for isa in isas):
            check_parts(runtimes_of(backend.name))
    return Packing(isas, only)


def with_packing(estimate: Estimate, files: int) -> Estimate:
    """The estimate of a bundle that gets ``files`` files of packed weights besides."""
    return replace(estimate, disk=int(estimate.disk * (1 + COPIES * files)))


def pack(folder: Path, manifest: Manifest, isas: Sequence[str], say: Callable[[str], None]) -> None:
    """Packs the CPU artifact's weights for each of ``isas`` into the bundle in ``folder`` and writes its manifest.

    Raises `FirstTokenError` where logits from a file differ from those of weights packed anew.
    """
    prompt = [int(token) for token in np.linspace(1, manifest.tokenizer.vocab_size - 1, PROMPT_TOKENS)]
    files = []
    for isa in isas:
        path = folder / f"{Path(manifest.cpu.file).stem}.{isa}.packed"
        anew = observed(folder, manifest, isa, path, False, prompt)
        need_equal(anew, observed(folder, manifest, isa, path, True, prompt), f"{path.name}: the packed weights for {isa}")
        os.chmod(path, 0o644)
        manifest.files[path.name] = file_facts(path)
        package = find_backend(manifest.cpu.backend).package
        best = np.argsort(-anew[0], kind="stable")[:RECORDED]
        files.append(
            PackedFile(
                file=path.name, isa=isa, package=package, version=version_on(isa, manifest), artifact_sha256=manifest.facts(manifest.cpu).sha256,
                top=[int(token) for token in best], largest=[float(anew[0][token]) for token in best],
            )
        )  # fmt: skip
        say(f"packed for {isa}: {path.name}, the logits equal to the bit")
    manifest.packed = PackedWeights(only=False, prompt=prompt, files=files)
    manifest.write(folder)


def leave_out_weights(folder: Path, manifest: Manifest, say: Callable[[str], None]) -> None:
    """Writes the CPU artifact of a bundle with packed weights anew without the weights that they hold.

    Raises `FirstTokenError` unless it computes the same to the bit with each file of them, and no number without.
    """
    packed = manifest.packed
    assert packed is not None, "it was packed before"
    backend, artifact = find_backend(manifest.cpu.backend), folder / manifest.cpu.file
    wanted = [observed(folder, manifest, each.isa, folder / each.file, True, packed.prompt) for each in packed.files]
    fresh = artifact.with_name(artifact.name + ".new")
    saved = backend.write_without_weights(artifact, fresh)
    os.replace(fresh, artifact)
    manifest.files[manifest.cpu.file] = file_facts(artifact)
    sha256 = manifest.facts(manifest.cpu).sha256
    manifest.packed = PackedWeights(
        only=True, prompt=packed.prompt, files=[each.model_copy(update={"artifact_sha256": sha256}) for each in packed.files]
    )
    manifest.write(folder)
    for each, rows in zip(packed.files, wanted, strict=True):
        found = observed(folder, manifest, each.isa, folder / each.file, True, packed.prompt)
        need_equal(rows, found, f"{artifact.name} without its weights, with {each.file}")
    need_no_number(folder, manifest, backend, packed.prompt)
    say(f"{artifact.name} is {saved} bytes shorter without the weights that the packed files hold")


def observed(folder: Path, manifest: Manifest, isa: str, packed: Path, read_only: bool, prompt: list[int]) -> list[np.ndarray]:
    """The logits after ``prompt`` and after each of the likeliest tokens that follow, on this CPU or an emulated one."""
    backend = find_backend(manifest.cpu.backend)
    if isa == host_isa():
        runner: Runner = backend.open_packed(folder, manifest, packed, read_only, 1)
    else:
        runner = ArmRunner(folder, PACKS_FOR[isa], runtimes_of(backend.name)[0], weight_cache=packed, read_only=read_only)
    try:
        return logits_of(runner, prompt)
    finally:
        runner.close()


def logits_of(runner: Runner, prompt: list[int]) -> list[np.ndarray]:
    rows = [runner.prefill(prompt).copy()]
    for _ in range(DECODED):
        rows.append(runner.decode(int(rows[-1].argmax())).copy())
    return rows


def version_on(isa: str, manifest: Manifest) -> str:
    """The version of the runtime that packed for ``isa``."""
    backend = find_backend(manifest.cpu.backend)
    return version(backend.package) if isa == host_isa() else runtime_version(runtimes_of(backend.name)[0])


def need_equal(wanted: list[np.ndarray], found: list[np.ndarray], what: str) -> None:
    if any(not np.array_equal(one, other) for one, other in zip(wanted, found, strict=True)):
        furthest = max(float(np.abs(one - other).max()) for one, other in zip(wanted, found, strict=True))
        raise FirstTokenError(
            f"{what}: logits differ by up to {furthest:g} from those of weights packed anew; leave out --pack-for and report it"
        )


def need_no_number(folder: Path, manifest: Manifest, backend: Backend, prompt: list[int]) -> None:
    """Raises `FirstTokenError` where the artifact without weights computes something by itself that may be taken for an answer."""
    anew = folder / ".packed-anew"
    try:
        runner = backend.open_packed(folder, manifest, anew, False, 1)
        try:
            rows = logits_of(runner, prompt)
        finally:
            runner.close()
    finally:
        anew.unlink(missing_ok=True)
    if any(np.isfinite(row).any() for row in rows):
        raise FirstTokenError(
            f"{manifest.cpu.file} without its weights still computes numbers by itself, which a program could take for answers; leave out --packed-only"
        )
