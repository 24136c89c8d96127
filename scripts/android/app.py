"""The app module: compiled against Android's own classes, tested on the JVM with Robolectric."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from android import core
from android.jars import jars
from android.java import classpath
from android.kotlin import compiled
from android.places import APP, WORK, program
from android.resources import PACKAGE, Resources, linked
from android.runtimes import Runtimes, runtimes

TESTS = "dev.firsttoken.core.RunTestsKt"


@dataclass
class App:
    resources: Resources
    classes: Path
    core: Path
    runtimes: Runtimes


def build() -> App:
    """Compiles core, resources and app. Raises `BuildError`."""
    found = runtimes()
    inside = core.build()
    resources = linked(found)
    libraries = [resources.classes, inside, *found.stubs, *found.jars, *jars("core", "android")]
    sources = [APP / "src" / part / "kotlin" for part in ("main", "npu")]
    return App(resources, compiled("app", sources, libraries), inside, found)


def test(only: str = "", pictures: Path | None = None, parity: Path | None = None) -> int:
    """Compiles and runs the tests whose class name contains ``only``; writes screenshots into ``pictures``. Returns 0 when none failed."""
    app = build()
    main = [app.classes, app.core, app.resources.classes, *app.runtimes.jars, *jars("core")]
    libraries = [*main, *app.runtimes.stubs, *jars("app-test", "android")]
    shared = core.built_tests()  # the runner and the files of core's tests
    tests = compiled("app-test", APP / "src" / "test" / "kotlin", [shared, *libraries], friend=app.classes)
    _configure(app, WORK / "classes" / "app-test-configuration")
    properties = [
        "-Drobolectric.offline=true",
        f"-Drobolectric.dependency.dir={WORK / 'jars' / 'robolectric-sdk'}",
        f"-Dfirsttoken.only={only}",
        f"-Dfirsttoken.tests={tests}",
    ]
    jars("robolectric-sdk")
    properties += [f"-Dfirsttoken.pictures={pictures.resolve()}"] if pictures else []
    properties += [f"-Dfirsttoken.parity={parity.resolve()}"] if parity else []
    opened = "--add-opens=java.base/java.io=ALL-UNNAMED"  # Robolectric closes files by a private field of the JDK
    command = [
        program("java"),
        "-Xmx2g",
        opened,
        *properties,
        "-cp",
        classpath(tests, shared, WORK / "classes" / "app-test-configuration", *libraries),
        TESTS,
    ]
    return 1 if subprocess.run(command).returncode else 0


def _configure(app: App, folder: Path):
    """Writes what Robolectric reads to find the app's manifest and resources."""
    file = folder / "com" / "android" / "tools" / "test_config.properties"
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = {
        "android_merged_manifest": app.resources.manifest,
        "android_resource_apk": app.resources.package,
        "android_custom_package": PACKAGE,
    }
    file.write_text("".join(f"{name}={value}\n" for name, value in lines.items()), encoding="utf-8")
