"""Which runtimes an APK of the firsttoken app carries: what its build wrote into its resources, which the app reads too."""

import zipfile
import zlib
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from firsttoken.device.resource_table import string_resources
from firsttoken.device.untrusted import one_line
from firsttoken.errors import FirstTokenError
from firsttoken.plain_file import open_plain

RESOURCES = "resources.arsc"
NATIVE_RUNNER = ("lib/arm64-v8a/libfirsttoken_litert.so", "lib/arm64-v8a/libLiteRt.so")  # android-demo/native, and what it calls
LARGEST_RESOURCES = 1 << 20  # bytes; the app's has 20 kB
# By their names in `Backend.app_runtimes`: the string that holds the version, empty where the build carries none (CarriedRuntimes.kt).
STRINGS = {"LiteRT": "litert_version", "TensorFlow Lite": "tflite_version", "ExecuTorch": "executorch_version"}


@dataclass(frozen=True)
class Carried:
    """The runtimes in an APK, by name, with their versions; and whether it has the app's own library over LiteRT's C API."""

    versions: Mapping[str, str]
    native_runner: bool = False

    def __str__(self) -> str:
        return " and ".join(f"{name} {version}" for name, version in self.versions.items()) or "no runtime"

    def lacks(self, runtimes: tuple[str, ...], min_runtime: str) -> str | None:
        """Returns what is lacking of what runs an artifact, or None where nothing is.

        ``runtimes`` are a backend's ``app_runtimes``: ``min_runtime`` counts the first one's versions, the others do in every version.
        """
        if not runtimes:
            return "it is for a runtime that the app does not have"
        for number, name in enumerate(runtimes):
            if name in self.versions and (number or numbers(self.versions[name]) >= numbers(min_runtime)):
                return None
        return f"it needs {runtimes[0]} {min_runtime} or newer, and the app carries {self}"


def numbers(version: str) -> tuple[int, ...]:
    """A version such as "2.16.1" for comparing, number by number; what is no number counts as 0, and zeros at the end do not count."""
    found = [int(digits) if (digits := _leading_digits(part)) else 0 for part in version.split(".")]
    while found and found[-1] == 0:
        found.pop()
    return tuple(found)


def _leading_digits(part: str) -> str:
    return part[: next((at for at, letter in enumerate(part) if letter not in "0123456789"), len(part))][:9]


def read_carried(apk: Path | BinaryIO, name: str) -> Carried:
    """Reads what an APK carries; ``name`` is what errors call it. Raises `FirstTokenError` for what is no APK of the app."""
    try:
        with open_plain(apk) if isinstance(apk, Path) else nullcontext(apk) as stream, zipfile.ZipFile(stream) as archive:
            info = archive.getinfo(RESOURCES)
            if info.file_size > LARGEST_RESOURCES:
                raise ValueError(f"{RESOURCES} has {info.file_size} bytes, expected at most {LARGEST_RESOURCES}")
            found = string_resources(archive.read(info), STRINGS.values())
            native_runner = set(NATIVE_RUNNER) <= set(archive.namelist())
    except (zipfile.BadZipFile, zlib.error, KeyError, ValueError, OSError, NotImplementedError, RuntimeError, EOFError) as error:
        raise FirstTokenError(
            f"{name}: does not say which runtimes it carries ({one_line(str(error), 120)}); expected the app's APK, as scripts/build_apk writes it"
        ) from None
    if not found:
        raise FirstTokenError(
            f"{name}: does not say which runtimes it carries (no {' or '.join(STRINGS.values())} in it); expected the app's APK, as scripts/build_apk writes it"
        )
    texts = {runtime: one_line(found.get(string, ""), 40) for runtime, string in STRINGS.items()}
    return Carried({runtime: version for runtime, version in texts.items() if version}, native_runner)
