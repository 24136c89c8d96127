"""Checks the `android { }` block of app/build.gradle.kts by compiling it against the Android Gradle Plugin's own types: Gradle cannot be run here."""

import re
import shutil
from pathlib import Path

from android.failure import BuildError
from android.jars import jars
from android.kotlin import compiled
from android.places import APP, WORK

# What the block sees in a build script: itself as receiver, the version catalog, and the values made above it.
CHECK = """\
import com.android.build.api.dsl.ApplicationExtension
import org.gradle.api.JavaVersion

fun ApplicationExtension.block(promptAssets: java.io.File, npu: Boolean) {{
{body}
}}
"""


def check() -> int:
    """Compiles the block. Raises `BuildError` with the compiler's messages."""
    folder = WORK / "gradle-check"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "Block.kt").write_text(CHECK.format(body=block(APP / "build.gradle.kts")), encoding="utf-8")
    compiled("gradle-check", folder, jars("gradle"))
    print("app/build.gradle.kts: its android block compiles against the Android Gradle Plugin")
    return 0


def block(script: Path) -> str:
    """Returns what is between the braces of ``android { }``, the version catalog's values as text. Raises `BuildError`."""
    text = script.read_text(encoding="utf-8")
    start = text.find("\nandroid {")
    if start < 0:
        raise BuildError(f"{script.name}: has no android block")
    depth, begin = 0, text.index("{", start) + 1
    for place in range(begin - 1, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return re.sub(r"libs\.versions\.[\w.]+\.get\(\)", '"26"', text[begin:place])
    raise BuildError(f"{script.name}: its android block does not end")
