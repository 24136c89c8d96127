"""Which runtimes the APK carries, and what the app is compiled against where it carries none."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from android.jars import aars, catalog, is_available, jars, libraries
from android.java import javac
from android.kotlin import compiled
from android.places import PROJECT, WORK
from android.sources import advice

STUBS = PROJECT / "stubs"


@dataclass
class Runtimes:
    """Versions are empty where the APK carries no such runtime."""

    litert: str
    tensorflow_lite: str
    executorch: str
    jars: list[Path]  # classes that go into the APK
    aars: list[Path]  # whose native libraries go into the APK
    stubs: list[Path]  # folders of classes to compile against, which never go into the APK

    absent: list[str]  # of the runtimes, with the reason

    def __str__(self) -> str:
        tflite = f"LiteRT {self.litert}" if self.litert else f"TensorFlow Lite {self.tensorflow_lite}"
        executorch = f"ExecuTorch {self.executorch}" if self.executorch else "no ExecuTorch"
        npu = "; no NPU libraries (Gradle's -Pnpu adds them): bundles for an NPU run on the CPU" if self.litert else ""
        return f"carries {tflite}; {executorch}{npu}"


def runtimes() -> Runtimes:
    """Returns what can be had: LiteRT, else TensorFlow Lite; ExecuTorch, else stubs of the few classes the app uses of it."""
    versions = catalog()["versions"]
    litert, executorch = is_available("litert"), is_available("executorch")
    bundles = ["litert" if litert else "tensorflow-lite", *(["executorch"] if executorch else [])]
    return Runtimes(
        litert=versions["litert"] if litert else "",
        tensorflow_lite="" if litert else versions["tensorflow-lite"],
        executorch=versions["executorch"] if executorch else "",
        jars=jars(*bundles),
        aars=[aar for bundle in bundles for aar in aars(bundle)],
        absent=[*([] if litert else [_absent("litert", "LiteRT")]), *([] if executorch else [_absent("executorch", "ExecuTorch")])],
        # of Qualcomm's delegate there are only stubs: a Gradle build with -Pnpu carries it
        stubs=[
            *([] if executorch else [_stubs("executorch")]),
            *([] if litert else [_kotlin_stubs("litert")]),
            _stubs("qnn", jars(bundles[0])),
        ],
    )


REFUSED = {
    "litert": "bundles for LiteRT 2.x are refused, tflite-compat runs",
    "executorch": ".pte bundles are refused",
}


def _absent(bundle: str, name: str) -> str:
    wanted = libraries(bundle)
    files = ", ".join(f"{artifact}-{version}" for _, artifact, version in wanted)
    asked = advice([library for library in wanted if library[1] == bundle])
    todo = asked or "Maven's central repository has it: check the network"
    return f"{name} {wanted[0][2]} cannot be fetched: {REFUSED[bundle]}. {todo}, or the files ({files}) with --aar"


def _stubs(name: str, libraries: list[Path] = ()) -> Path:
    into = WORK / "classes" / f"{name}-stubs"
    shutil.rmtree(into, ignore_errors=True)
    javac((STUBS / name).rglob("*.java"), into, libraries)
    return into


def _kotlin_stubs(name: str) -> Path:
    """Stubs of a Kotlin library are Kotlin, since named and default arguments are part of what is called."""
    return compiled(f"{name}-stubs", STUBS / name, jars("core"))
