"""Checks the blocks of the Gradle build by compiling them against the plugins' own types: Gradle cannot be run here."""

import re
import shutil
from pathlib import Path

from android.failure import BuildError
from android.jars import jars
from android.kotlin import compiled
from android.places import APP, PROJECT, WORK

# What a block sees in a build script: itself as receiver, the version catalog, and the values made above it.
CHECKED = {
    "Android": (
        APP / "build.gradle.kts",
        "android",
        "com.android.build.api.dsl.ApplicationExtension",
        "promptAssets: java.io.File, nativeBuild: java.io.File, npu: Boolean",
    ),
    "Kotlin": (PROJECT / "core" / "build.gradle.kts", "kotlin", "org.jetbrains.kotlin.gradle.dsl.KotlinJvmExtension", ""),
}
CHECK = """\
import org.gradle.api.JavaVersion
import org.jetbrains.kotlin.gradle.dsl.JvmTarget

fun {type}.block{name}({values}) {{
{body}
}}
"""


def check() -> int:
    """Compiles the blocks. Raises `BuildError` with the compiler's messages."""
    folder = WORK / "gradle-check"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, (script, block_name, type_name, values) in CHECKED.items():
        text = CHECK.format(type=type_name, name=name, values=values, body=block(script, block_name))
        (folder / f"{name}.kt").write_text(text, encoding="utf-8")
    compiled("gradle-check", folder, jars("gradle"))
    print("app/build.gradle.kts: its android block compiles against the Android Gradle Plugin")
    print("core/build.gradle.kts: its kotlin block compiles against the Kotlin Gradle plugin")
    return 0


def block(script: Path, name: str) -> str:
    """Returns what is between the braces of the block ``name``, the version catalog's values as text. Raises `BuildError`."""
    text = script.read_text(encoding="utf-8")
    start = text.find(f"\n{name} {{")
    if start < 0:
        raise BuildError(f"{script.name}: has no {name} block")
    depth, begin = 0, text.index("{", start) + 1
    for place in range(begin - 1, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return re.sub(r"libs\.versions\.[\w.]+\.get\(\)", '"26"', text[begin:place])
    raise BuildError(f"{script.name}: its {name} block does not end")
