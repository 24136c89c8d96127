"""The core module: plain Kotlin, so its tests run on the JVM."""

import shutil
import subprocess
from pathlib import Path

from android.jars import jars
from android.java import classpath
from android.kotlin import compiled
from android.places import PROJECT, REPOSITORY, program

SOURCES = PROJECT / "core" / "src"
SCHEMA = REPOSITORY / "python" / "firsttoken" / "bundle" / "manifest.schema.json"
PACKED_SCHEMA = "firsttoken/manifest.schema.json"  # where ManifestReader.kt looks for it
TESTS = "dev.firsttoken.core.RunTestsKt"
TIMER = "dev.firsttoken.core.tokenizer.TimeTokenizerKt"


def build() -> Path:
    """Compiles the module and returns the folder of its classes, with what it reads beside them. Raises `BuildError`."""
    folder = compiled("core", SOURCES / "main" / "kotlin", jars("core"))
    (folder / PACKED_SCHEMA).parent.mkdir(exist_ok=True)
    shutil.copyfile(SCHEMA, folder / PACKED_SCHEMA)
    return folder


def test(only: str = "", parity: Path | None = None) -> int:
    """Compiles and runs the tests whose class name contains ``only``; returns 0 when none failed. Raises `BuildError`."""
    properties = [f"-Dfirsttoken.only={only}"] + ([f"-Dfirsttoken.parity={parity.resolve()}"] if parity else [])
    return _java(TESTS, properties, [])


def time_tokenizer(file: Path, text: Path) -> int:
    """Prints how long loading ``file`` and encoding ``text`` take on this machine's JVM."""
    return _java(TIMER, [], [str(file), str(text)])


def built_tests() -> Path:
    """Compiles the module's tests and returns the folder of their classes. Raises `BuildError`."""
    return compiled("core-test", SOURCES / "test" / "kotlin", jars("core", "core-test"), friend=build())


def _java(main: str, properties: list[str], arguments: list[str]) -> int:
    tests, core = built_tests(), build()
    command = [program("java"), "-Xmx1g", *properties, "-cp", classpath(tests, core, *jars("core", "core-test")), main, *arguments]
    return 1 if subprocess.run(command, check=False).returncode else 0
