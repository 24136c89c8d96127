"""native.cpp as a library: compiled once where a C++ compiler is, kept in the user's cache folder, and loaded from nowhere else.

Its name carries a hash of the source, of ExecuTorch's version and place, and of the command, so that another of these is built anew. Nothing needs it:
where it cannot be had, the reason is said and the Python bindings do the work.
"""

import hashlib
import os
import shutil
import stat
import subprocess
import tempfile
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from firsttoken.backends.executorch.native import NativeLibrary
from firsttoken.cache_folder import cache_folder
from firsttoken.errors import FirstTokenError
from firsttoken.quiet import quiet_runtime
from firsttoken.safe_text import visible

SOURCE = Path(__file__).with_name("native.cpp")
LIBRARIES = (
    "executorch",
    "executorch_kernels_optimized",
    "executorch_backend_xnnpack",
    "executorch_threadpool",
    "executorch_kernels_quantized",
)
COMPILERS = ("c++", "g++", "clang++")
COMPILER_SECONDS = 300
KEPT = 4  # builds


@cache
def native_library() -> tuple[NativeLibrary | None, str]:
    """The library, built if it has to be, or None and why there is none; asked once a process."""
    try:
        path = built(compiler())
        with quiet_runtime():
            return NativeLibrary(path), ""
    except (FirstTokenError, OSError) as error:
        return None, visible(str(error))


def standing() -> tuple[bool, str]:
    """Whether there is a native runner or could be, and what to say of it; builds nothing."""
    try:
        found = compiler()
        path = library_file()
        if is_ours(path):
            return True, f"built, {path}"
        return (False, needs_compiler()) if found is None else (True, f"will be built with {found} when a .pte is run first")
    except (FirstTokenError, OSError) as error:
        return False, str(error)


def compiler() -> str | None:
    """A C++ compiler of this machine."""
    return next((path for name in COMPILERS if (path := shutil.which(name))), None)


def needs_compiler() -> str:
    return f"no C++ compiler ({', '.join(COMPILERS)}): install g++ or clang"


def built(compiled_with: str | None) -> Path:
    """Returns the library, compiled unless that was done before. Raises `FirstTokenError` with what is missing or the compiler's complaint."""
    path = library_file()
    if is_ours(path):
        return path
    if compiled_with is None:
        raise FirstTokenError(needs_compiler())
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".building-") as scratch:
        fresh = Path(scratch, path.name)
        try:
            done = subprocess.run(
                [compiled_with, *options(), str(SOURCE), "-o", str(fresh), *links()],
                env=os.environ | {"TMPDIR": scratch}, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
                timeout=COMPILER_SECONDS,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise FirstTokenError(f"{compiled_with} took more than {COMPILER_SECONDS} s for {SOURCE.name}") from None
        if done.returncode:
            complaint = next((line for line in done.stderr.splitlines() if "error" in line), f"status {done.returncode}")
            raise FirstTokenError(f"{compiled_with} does not compile {SOURCE.name} ({complaint.strip()[:200]})")
        os.chmod(fresh, 0o600)
        os.replace(fresh, path)
    remove_older(path)
    return path


def wheel() -> Path:
    """Where ExecuTorch's libraries and headers lie; nothing is imported. Raises `FirstTokenError` where they do not."""
    found = find_spec("executorch")
    for place in found.submodule_search_locations or () if found else ():
        folder = Path(place)
        if (folder / "include/executorch/runtime").is_dir() and all((folder / f"lib/lib{name}.so").is_file() for name in LIBRARIES):
            return folder
    raise FirstTokenError("the executorch package has no C++ headers and libraries here")


def options() -> list[str]:
    include = wheel() / "include"
    return [
        "-shared", "-fPIC", "-std=c++17", "-O2", "-w", "-DC10_USING_CUSTOM_GENERATED_MACROS",
        "-I", str(include), "-I", str(include / "executorch/runtime/core/portable_type/c10"),
    ]  # fmt: skip


def links() -> list[str]:
    """For the linker: ExecuTorch's libraries, also those that only register themselves, found again where they lie now."""
    folder = wheel() / "lib"
    return ["-L", str(folder), f"-Wl,-rpath,{folder}", "-Wl,--no-as-needed", *(f"-l{name}" for name in LIBRARIES)]


def library_file() -> Path:
    """Where the library lies once it is built, in a folder that only its user can write. Raises `FirstTokenError` where there is no such folder."""
    digest = hashlib.sha256(SOURCE.read_bytes())
    digest.update(repr((version("executorch"), options(), links())).encode())
    return own_folder() / f"{SOURCE.stem}-{digest.hexdigest()[:16]}.so"


def own_folder() -> Path:
    """The folder for what is built. Raises `FirstTokenError` where it cannot be made, or where others could put something into it."""
    base = cache_folder()
    if base is None:
        raise FirstTokenError("no cache folder can be written; set XDG_CACHE_HOME to one")
    folder = base / "native"
    folder.mkdir(mode=0o700, exist_ok=True)
    check_own(base, base.stat())
    check_own(folder, folder.lstat())
    return folder


def is_ours(path: Path) -> bool:
    """Whether the library is there; one that another user owns or can write is refused with a `FirstTokenError`."""
    try:
        facts = path.lstat()
    except FileNotFoundError:
        return False
    check_own(path, facts)
    return stat.S_ISREG(facts.st_mode) and facts.st_size > 0


def check_own(path: Path, facts: os.stat_result) -> None:
    """Raises `FirstTokenError` for what others can change, or a link."""
    if facts.st_uid != os.geteuid() or facts.st_mode & 0o022 or stat.S_ISLNK(facts.st_mode):
        raise FirstTokenError(
            f"{path} belongs to another user, can be written by others or is a link, so nothing is loaded from there; chmod go-w or remove it"
        )


def remove_older(newest: Path) -> None:
    older = sorted(newest.parent.glob(f"{SOURCE.stem}-*.so"), key=lambda path: path.stat().st_mtime, reverse=True)
    for stale in older[KEPT:]:
        stale.unlink(missing_ok=True)
