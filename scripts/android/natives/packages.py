"""Native libraries and Java classes out of an APK's or an AAR's zip file, for one architecture."""

import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

from android.failure import BuildError


@dataclass(frozen=True)
class Package:
    """``versions`` are of what is carried, as the app's resources name them; ``classes`` of an APK are none: they are dex."""

    libraries: tuple[Path, ...]
    classes: tuple[Path, ...]
    versions: dict[str, str]


def from_apk(apk: Path, abi: str, into: Path, versions: dict[str, str]) -> Package:
    """Takes the libraries of ``abi`` out of an APK. Raises `BuildError` where there are none."""
    return Package(_libraries([apk], "lib", abi, into), (), versions)


def from_aars(files: list[Path], abi: str, into: Path) -> Package:
    """Takes libraries and classes out of AARs (and jars that they need, which have classes alone). Raises `BuildError`."""
    aars, classes, versions = [file for file in files if file.suffix == ".aar"], [], {"litert": "", "tflite": "", "executorch": ""}
    into.mkdir(parents=True, exist_ok=True)
    for file in files:
        if file.suffix == ".jar":
            classes.append(file)
            continue
        with _opened(file) as archive:
            if "classes.jar" not in archive.namelist():
                raise BuildError(f"{file}: holds no classes.jar; expected an AAR, or a .jar beside one")
            classes.append(into / f"{file.stem}.jar")
            classes[-1].write_bytes(archive.read("classes.jar"))
        if carried := _carried(file, classes[-1]):
            versions[carried[0]] = carried[1]
    if not any(versions.values()):
        raise BuildError(
            f"{', '.join(map(str, files))}: none has a runtime that the app knows (org.tensorflow.lite.InterpreterImpl, org.pytorch.executorch.Module)"
        )
    return Package(_libraries(aars, "jni", abi, into), tuple(classes), versions)


def _carried(aar: Path, classes: Path) -> tuple[str, str] | None:
    """Which runtime an AAR is, with the version that its file name ends with, as Maven names it."""
    with zipfile.ZipFile(classes) as archive:
        names = set(archive.namelist())
    if "org/pytorch/executorch/Module.class" in names:
        kind = "executorch"
    elif "org/tensorflow/lite/NativeInterpreterWrapper.class" in names:
        kind = "litert" if "litert" in aar.name else "tflite"
    else:
        return None
    version = re.search(r"-(\d+(?:\.\d+)+)$", aar.stem)
    if version is None:
        raise BuildError(f"{aar.name}: the name does not end with a version; call it as Maven does, like litert-2.3.0.aar")
    return kind, version[1]


def _libraries(files: list[Path], folder: str, abi: str, into: Path) -> tuple[Path, ...]:
    into.mkdir(parents=True, exist_ok=True)
    found = []
    for file in files:
        with _opened(file) as archive:
            for name in sorted(archive.namelist()):
                parts = name.split("/")
                if len(parts) == 3 and parts[:2] == [folder, abi] and parts[2].endswith(".so"):
                    found.append(into / parts[2])
                    found[-1].write_bytes(archive.read(name))
    if not found:
        raise BuildError(f"{', '.join(map(str, files))}: no native library for {abi} in {folder}/{abi}")
    return tuple(found)


def _opened(file: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(file)
    except (OSError, zipfile.BadZipFile) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise BuildError(f"{file}: not an APK or AAR ({reason})") from None
