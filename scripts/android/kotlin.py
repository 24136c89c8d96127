"""Compiling Kotlin with the embeddable compiler, only what has changed."""

import hashlib
import shutil
import subprocess
from pathlib import Path

from android.failure import BuildError
from android.jars import jars
from android.java import RELEASE, classpath
from android.places import WORK, program

COMPILER = "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler"


def compiled(module: str, source: Path | list[Path], libraries: list[Path], friend: Path | None = None) -> Path:
    """Returns the folder of ``module``'s classes, compiled from ``source``, a folder or several, where that has changed.

    ``friend`` is a folder of classes whose internal declarations may be used: a module's tests see its inside.
    Raises `BuildError` with the compiler's messages.
    """
    places = source if isinstance(source, list) else [source]
    sources = sorted(path for place in places for path in place.rglob("*.kt"))
    if not sources:
        raise BuildError(f"{places[0]}: holds no Kotlin files")
    folder, stamp = WORK / "classes" / module, WORK / "classes" / f"{module}.stamp"
    digest = _digest(sources, libraries, friend)
    if folder.is_dir() and stamp.is_file() and stamp.read_text() == digest:
        return folder
    java = program("java")
    stamp.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    print(f"Compiling {module} …", flush=True)
    on_path = [*([friend] if friend else []), *libraries]
    friends = [f"-Xfriend-paths={friend}"] if friend else []
    # no -no-jdk: without java.* the errors are misleading ones
    command = [java, "-Xmx1g", "-cp", classpath(*jars("compiler")), COMPILER, "-no-stdlib", "-no-reflect", "-jvm-target", RELEASE]
    command += ["-Werror", "-module-name", module, *friends, "-cp", classpath(*on_path), "-d", str(folder), *map(str, places)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        messages = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise BuildError(f"{module} does not compile:\n" + "\n".join(messages[:60]))
    stamp.write_text(digest)
    return folder


def _digest(sources: list[Path], libraries: list[Path], friend: Path | None) -> str:
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for path in sources:
        digest.update(f"{path}\0".encode() + path.read_bytes() + b"\0")
    digest.update("\n".join(jar.name for jar in libraries).encode())
    # numbers of resources are copied into the classes that use them
    for path in sorted(path for folder in libraries if folder.is_dir() for path in folder.rglob("*.class")):
        digest.update(path.name.encode() + path.read_bytes())
    if friend:
        digest.update(friend.with_name(f"{friend.name}.stamp").read_bytes())
    return digest.hexdigest()
