"""From classes to classes.dex."""

import shutil
import zipfile
from pathlib import Path

from android.app import App
from android.failure import BuildError
from android.jars import catalog, jars
from android.java import classpath, tool
from android.places import APP, WORK, program

R8 = "com.android.tools.r8.R8"


def dexed(app: App) -> Path:
    """Returns ``classes.dex`` of the app and everything it carries, shrunk by R8. Raises `BuildError`."""
    folder = WORK / "dex"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    own = folder / "app.jar"
    _jar(own, app.classes, app.core, app.resources.classes)
    jdk = Path(program("java")).resolve().parents[1]
    [android] = jars("android")
    command = [
        program("java"),
        "-Xmx1500m",
        "-cp",
        classpath(*jars("dexer")),
        R8,
        "--release",
        "--min-api",
        catalog()["versions"]["android-minSdk"],
    ]
    command += [
        "--lib",
        jdk,
        "--lib",
        android,
        "--pg-conf",
        APP / "proguard-rules.pro",
        "--output",
        folder,
        own,
        *app.runtimes.jars,
        *jars("core"),
    ]
    tool(command, "R8")
    found = sorted(folder.glob("classes*.dex"))
    if len(found) != 1:
        raise BuildError(f"R8 made {len(found)} dex files; expected 1, check app/proguard-rules.pro")
    return found[0]


def _jar(file: Path, *folders: Path):
    with zipfile.ZipFile(file, "w") as archive:
        for folder in folders:
            for path in sorted(folder.rglob("*.class")):
                archive.write(path, path.relative_to(folder).as_posix())
