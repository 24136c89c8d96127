"""Stand-ins for the system libraries that a phone's native libraries are linked against, made from their own lists of symbols.

Every symbol with bionic's version (``memcpy@LIBC``) becomes a jump: into bionic.c where bionic differs, into this machine's C
library where that has it, else into a message that names the symbol.
"""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from android.failure import BuildError
from android.natives.elf import NativeLibrary, Symbol, read_library
from android.natives.machines import Machine

SOURCE = Path(__file__).with_name("bionic.c")
OWN = "libbionic_own.so"
STREAMS = "__sF"
STREAM_BYTES = 3 * 152
STREAM_POINTERS = ("stdin", "stdout", "stderr")
# Their structures have another layout or size in glibc, so passing them on would be wrong where nobody sees it.
OTHER_LAYOUT = re.compile(r"sem_|pthread_attr_|pthread_barrier|pthread_spin|sigaction|sigprocmask|pthread_sigmask|_?setjmp|_?longjmp|sigsetjmp|siglongjmp|regcomp|regexec|glob$")  # fmt: skip


@dataclass(frozen=True)
class StandIns:
    """``missing`` are the functions that only say their name and end the process when they are called."""

    folder: Path
    preloaded: Path
    missing: tuple[str, ...]


def make(libraries: list[Path], machine: Machine, folder: Path) -> StandIns:
    """Writes the stand-ins that ``libraries`` need together into ``folder``. Raises `BuildError`, also for data that has no stand-in."""
    read = [read_library(path) for path in libraries]
    wanted = _wanted(read)
    files = sorted({name for library in read for name in library.needed} - {library.name for library in read})
    own = set(re.findall(r"\bown_(\w+)\(", SOURCE.read_text(encoding="utf-8")))
    there = {name for path in machine.c_libraries for name in read_library(path).defined}
    data = [symbol for symbol in wanted if symbol.name == STREAMS or symbol.name in STREAM_POINTERS]
    functions = [symbol for symbol in wanted if symbol not in data]
    if unknown := [symbol.name for symbol in functions if symbol.is_data]:
        raise BuildError(f"{', '.join(unknown)}: data of Android's system that has no stand-in; add it to {Path(__file__).name}")
    passed = [s for s in functions if s.name not in own and s.name in there and not OTHER_LAYOUT.match(s.name)]
    missing = [s for s in functions if s.name not in own and s not in passed]
    folder.mkdir(parents=True, exist_ok=True)
    jumps = folder / "jumps.s"
    jumps.write_text(_assembly(machine, passed, [s for s in functions if s.name in own], missing, data), encoding="utf-8")
    names = ",".join(f'"{symbol.name}"' for symbol in passed) or '""'
    definitions = [f"-DBIONIC_FUNCTIONS={len(passed) or 1}", f"-DBIONIC_NAMES={names}"]
    _compile(machine, folder / OWN, ["-O1", *definitions, *machine.language, SOURCE, "-ldl", "-lpthread"])
    versions = _versions_of(read)
    exported: dict[str, list[str]] = {}
    for symbol in wanted:
        exported.setdefault(symbol.version, []).append(symbol.name)
    script = folder / "libc.map"
    nodes = set(exported) | versions.get("libc.so", set())
    script.write_text("".join(_node(name, exported.get(name, [])) for name in sorted(nodes) if name), encoding="utf-8")
    versioning = [f"-Wl,--version-script={script}"] if script.stat().st_size else []
    _compile(machine, folder / "libc.so", ["-nostdlib", *versioning, jumps, f"-L{folder}", f"-l:{OWN}", "-Wl,-rpath,$ORIGIN"])
    for name in files:
        if name != "libc.so":
            _empty(machine, folder, name, versions.get(name, set()))
    return StandIns(folder, folder / OWN, tuple(symbol.name for symbol in missing))


def _wanted(read: list[NativeLibrary]) -> list[Symbol]:
    """What none of the libraries has itself; what is only weakly wanted may stay away."""
    inside = {name for library in read for name in library.defined}
    found = {s.name: s for library in read for s in library.undefined if s.name not in inside and (s.version or not s.is_weak)}
    return sorted(found.values(), key=lambda symbol: symbol.name)


def _versions_of(read: list[NativeLibrary]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for library in read:
        for file, versions in library.versions.items():
            found.setdefault(file, set()).update(versions)
    return found


def _node(version: str, names: list[str]) -> str:
    return f"{version} {{ {'global: ' + '; '.join(names) + ';' if names else ''} }};\n"


def _assembly(machine: Machine, passed: list[Symbol], own: list[Symbol], missing: list[Symbol], data: list[Symbol]) -> str:
    lines = ['.section .note.GNU-stack,"",%progbits', ".text"]
    for place, symbol in enumerate(passed):
        lines += _jump(symbol, machine.jump_through("bionic_functions", 8 * place))
    for symbol in own:
        lines += _jump(symbol, machine.jump_to(f"own_{symbol.name}"))
    for place, symbol in enumerate(missing):
        lines += _jump(symbol, machine.call_with(f"missing_name_{place}", "bionic_missing"))
    # before the library's own constructors, which may already print
    lines += [
        "set_streams:",
        *machine.call_with("streams", "bionic_set_streams"),
        '.section .init_array,"aw"',
        ".balign 8",
        ".quad set_streams",
    ]
    lines += ['.section .rodata.names,"a"', *(f'missing_name_{place}: .asciz "{symbol.name}"' for place, symbol in enumerate(missing))]
    lines += ['.section .data.rel,"aw"', ".balign 16", f"streams: .zero {STREAM_BYTES}"]
    for symbol in data:
        if symbol.name == STREAMS:
            lines += _data(symbol, STREAM_BYTES, "streams")
        else:
            place = 152 * STREAM_POINTERS.index(symbol.name)
            lines += [f"at_{symbol.name}: .quad streams + {place}", *_data(symbol, 8, f"at_{symbol.name}")]
    return "\n".join(lines) + "\n"


def _jump(symbol: Symbol, code: list[str]) -> list[str]:
    return [f".globl {_label(symbol)}", f".type {_label(symbol)},%function", f"{_label(symbol)}:", *code, *_version(symbol)]


def _data(symbol: Symbol, size: int, at: str) -> list[str]:
    label = _label(symbol)
    return [f".globl {label}", f".type {label},%object", f".size {label},{size}", f".set {label},{at}", *_version(symbol)]


def _label(symbol: Symbol) -> str:
    return f"bionic_{symbol.name}" if symbol.version else symbol.name


def _version(symbol: Symbol) -> list[str]:
    return [f".symver {_label(symbol)},{symbol.name}@@{symbol.version}"] if symbol.version else []


def _empty(machine: Machine, folder: Path, name: str, versions: set[str]):
    """A library of the asked name, with the versions that are asked of it; its functions are found in libc.so's stand-in."""
    source, script = folder / "empty.s", folder / f"{name}.map"
    source.write_text('.section .note.GNU-stack,"",%progbits\n.data\n.globl nothing\nnothing: .quad 0\n', encoding="utf-8")
    script.write_text(
        "".join(_node(version, ["nothing"] if n == 0 else []) for n, version in enumerate(sorted(versions))), encoding="utf-8"
    )
    _compile(machine, folder / name, ["-nostdlib", *([f"-Wl,--version-script={script}"] if versions else []), source])


def _compile(machine: Machine, into: Path, arguments: list):
    command = [*machine.compiler, "-w", "-fPIC", "-shared", f"-Wl,-soname,{into.name}", "-o", into, *arguments]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, env=machine.compiler_environment)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
        raise BuildError(f"the stand-in {into.name} cannot be built:\n" + "\n".join(lines[:20]))
