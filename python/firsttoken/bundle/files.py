"""The bundle folder: where it goes, and whether its files are those the manifest names."""

import os
from pathlib import Path

from firsttoken.bundle.manifest import MANIFEST_FILE, FileFacts, Manifest
from firsttoken.bundle.module_manifest import ModuleManifest
from firsttoken.errors import FirstTokenError
from firsttoken.file_hash import hash_file, remember_hash, remembered_hash
from firsttoken.plain_file import parse_json, read_bytes
from firsttoken.progress import Report, silent
from firsttoken.safe_text import visible

REJECTED = ".rejected"  # behind the name of a bundle that missed its proof


def check_destination(destination: Path, force: bool) -> None:
    """Raises `FirstTokenError` if a bundle cannot be written at ``destination``; changes nothing.

    An existing bundle needs ``force``; a folder that is not a bundle is never replaced.
    """
    for place in (destination, *destination.parents):
        if place.is_dir():
            break
        if os.path.lexists(place):
            kind = "a dangling link" if place.is_symlink() else "a file"
            raise FirstTokenError(f"output {place}: is {kind}; expected a folder, choose another with -o")
    if not os.access(destination.parent if place == destination else place, os.W_OK | os.X_OK):
        raise FirstTokenError(f"output {place}: not writable; choose another with -o")
    if place != destination or not any(destination.iterdir()):
        return
    check_ours(destination)
    if not force:
        raise FirstTokenError(f"output {destination}: a bundle is already there; replace it with --force or choose another with -o")


def check_ours(folder: Path) -> None:
    """Raises `FirstTokenError` unless all that lies in ``folder`` is of a bundle that firsttoken wrote, so that it may be replaced."""
    found = sorted(path.name for path in folder.iterdir())
    if MANIFEST_FILE not in found:
        raise FirstTokenError(
            f"output {folder}: is a folder with other files, not a bundle, and will not be replaced; choose another with -o"
        )
    try:
        values = parse_json(read_bytes(folder / MANIFEST_FILE))
        named = set(values["files"]) | {MANIFEST_FILE}
    except (OSError, ValueError, TypeError, KeyError):
        raise FirstTokenError(
            f"output {folder}: its {MANIFEST_FILE} names no files, so it is not known whose they are, and it will not be replaced; "
            "remove the folder yourself, or choose another with -o"
        ) from None
    if foreign := [name for name in found if name not in named]:
        raise FirstTokenError(
            f"output {folder}: holds {visible(foreign[0])!r}, which is not the bundle's, and will not be replaced; move it away, or choose another with -o"
        )


def rejected_name(destination: Path) -> Path:
    """Where a bundle that missed its proof is kept: ``NAME.rejected``, or with a number where a folder of that name is not ours."""
    for number in range(1, 1000):
        place = destination.with_name(f"{destination.name}{REJECTED}{'' if number == 1 else f'-{number}'}")
        if not os.path.lexists(place):
            return place
        try:
            if not place.is_symlink() and place.is_dir():
                check_ours(place)
                return place
        except FirstTokenError:
            continue
    raise FirstTokenError(
        f"output {destination}: 999 folders beside it are called rejected and are not ours; tidy up, or choose another with -o"
    )


def file_facts(path: Path, report: Report = silent) -> FileFacts:
    """Returns what the manifest says of a file that was just written, and remembers its hash."""
    sha256 = hash_file(path, report)
    remember_hash(path, sha256=sha256)
    return FileFacts(sha256=sha256, bytes=path.stat().st_size)


def check_files(folder: Path, manifest: Manifest | ModuleManifest, report: Report = silent) -> None:
    """Checks size and SHA-256 of every file of the bundle against the manifest. Raises `FirstTokenError` for the first that differs.

    A file found right is remembered, so that the next start does not read all of it again. Files of packed weights are left to whoever uses one.
    """
    for name, facts in manifest.files.items():
        if name in manifest.packed_names:
            continue
        check_file(Path(folder) / name, facts, report)


def check_file(path: Path, facts: FileFacts, report: Report = silent) -> None:
    """Raises `FirstTokenError` unless the file is there and what the manifest says."""
    if not os.path.isfile(path):  # false for a name that no file can have, too
        raise FirstTokenError(f"bundle {path.parent}: {visible(path.name)} is missing; export again")
    size = path.stat().st_size
    if size != facts.bytes:
        raise FirstTokenError(
            f"{path}: {size} bytes, but the manifest says {facts.bytes}; the file is damaged or was replaced, export or copy it again"
        )
    if remembered_hash(path) == facts.sha256:
        return
    got = hash_file(path, report)
    if got != facts.sha256:
        raise FirstTokenError(
            f"{path}: SHA-256 {got[:12]}…, but the manifest says {facts.sha256[:12]}…; the file is damaged or was replaced, export or copy it again"
        )
    remember_hash(path, sha256=got)
