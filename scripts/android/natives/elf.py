"""What a native library asks of the system it is loaded on, as readelf tells it."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from android.failure import BuildError


@dataclass(frozen=True)
class Symbol:
    """A dynamic symbol; ``version`` is empty where it has none."""

    name: str
    version: str
    is_data: bool
    is_weak: bool
    is_defined: bool


@dataclass(frozen=True)
class NativeLibrary:
    """``versions`` are those it asks of each file in ``needed``."""

    name: str
    needed: tuple[str, ...]
    versions: dict[str, tuple[str, ...]]
    symbols: tuple[Symbol, ...]

    @property
    def defined(self) -> set[str]:
        return {symbol.name for symbol in self.symbols if symbol.is_defined}

    @property
    def undefined(self) -> list[Symbol]:
        return [symbol for symbol in self.symbols if not symbol.is_defined]


def read_library(path: Path) -> NativeLibrary:
    """Reads the dynamic part of a library of any architecture. Raises `BuildError` where it is none."""
    dynamic = _readelf("-d", path)
    needed = re.findall(r"\(NEEDED\)\s+Shared library: \[([^\]]+)\]", dynamic)
    symbols = [found for line in _readelf("--dyn-syms", path).splitlines() if (found := _symbol(line))]
    return NativeLibrary(path.name, tuple(needed), _versions(_readelf("-V", path)), tuple(symbols))


def _symbol(line: str) -> Symbol | None:
    #    Num: value size type bind visibility section name@version (n)
    fields = line.split()
    if len(fields) < 8 or not fields[0].rstrip(":").isdigit() or fields[4] == "LOCAL":
        return None
    name, _, version = fields[7].replace("@@", "@").partition("@")
    return Symbol(name, version, fields[3] in ("OBJECT", "TLS"), fields[4] == "WEAK", fields[6] != "UND")


def _versions(text: str) -> dict[str, tuple[str, ...]]:
    """The section of needed versions: a line for each file, then one for each of its versions."""
    found: dict[str, list[str]] = {}
    file = None
    for line in text.partition("needs section")[2].splitlines():
        if entry := re.search(r"Version: \d+\s+File: (\S+)", line):
            file = found.setdefault(entry[1], [])
        elif file is not None and (entry := re.search(r"Name: (\S+)\s+Flags:", line)):
            file.append(entry[1])
    return {name: tuple(versions) for name, versions in found.items()}


def _readelf(option: str, path: Path) -> str:
    program = shutil.which("readelf")
    if program is None:
        raise BuildError("readelf is not installed; install binutils")
    done = subprocess.run([program, "-W", option, path], capture_output=True, text=True, env={"LC_ALL": "C"})
    if done.returncode or "Error:" in done.stderr:
        raise BuildError(f"{path.name}: not a native library ({(done.stderr.strip() or 'readelf cannot read it').splitlines()[0]})")
    return done.stdout
