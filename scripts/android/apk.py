"""The APK: zipped with aligned native libraries, signed and verified."""

import hashlib
import os
import shutil
import struct
import zipfile
from pathlib import Path

from android import app, core, debug_key
from android.dex import dexed
from android.failure import BuildError
from android.jars import catalog
from android.java import tool
from android.pages import PAGE, misplaced, verdict
from android.places import REPOSITORY, WORK, program

APK = REPOSITORY / "out" / "firsttoken-demo.apk"
ABIS = ("arm64-v8a", "x86_64")
EPOCH = (1981, 1, 1, 1, 1, 2)  # the same input gives the same file
ALIGNMENT = 0xD935  # the extra field that apksigner keeps an entry's place by


def build(target: Path = APK) -> Path:
    """Builds, signs and verifies the APK, writes it to ``target`` and returns that. Raises `BuildError`."""
    made = app.build()
    print(f"APK {made.runtimes}", flush=True)
    for absent in made.runtimes.absent:
        print(absent, flush=True)
    unsigned, signed = WORK / "unsigned.apk", WORK / "signed.apk"
    print("Dexing …", flush=True)
    _zip(unsigned, made, dexed(made))
    _sign(unsigned, signed)
    problems = misplaced(signed)
    if problems:
        raise BuildError(f"{problems[0]} does not start on a page of {PAGE} bytes; this is a bug in scripts/android/apk.py")
    print(verdict(signed))
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    shutil.copyfile(signed, partial)  # the target may be on another file system
    os.replace(partial, target)
    shown = target.relative_to(REPOSITORY) if target.is_relative_to(REPOSITORY) else target
    print(f"{shown}: {target.stat().st_size / 2**20:.1f} MiB, SHA-256 {hashlib.sha256(target.read_bytes()).hexdigest()}")
    print(f"install it: firsttoken device install {shown}; export for it: firsttoken export CHECKPOINT --for-apk {shown}")
    return target


def _zip(file: Path, made: app.App, dex: Path):
    with zipfile.ZipFile(file, "w") as out:
        with zipfile.ZipFile(made.resources.package) as resources:
            for name in resources.namelist():
                _put(out, name, resources.read(name))
        _put(out, "classes.dex", dex.read_bytes())
        _put(out, core.PACKED_SCHEMA, (made.core / core.PACKED_SCHEMA).read_bytes())
        for name, library in native_libraries(made.runtimes.aars).items():
            _put(out, f"lib/{name}", library)


def native_libraries(aars: list[Path]) -> dict[str, bytes]:
    """Returns the native libraries of ``aars`` for `ABIS`, by ABI and name. Raises `BuildError` where an AAR lacks one of the ABIs, or two hold different libraries of one name."""
    found: dict[str, tuple[bytes, Path]] = {}
    for aar in aars:
        with zipfile.ZipFile(aar) as archive:
            inside = [
                name for name in sorted(archive.namelist()) if name.startswith("jni/") and name.endswith(".so") and name.count("/") == 2
            ]
            lacking = [abi for abi in ABIS if inside and not any(name.startswith(f"jni/{abi}/") for name in inside)]
            if lacking:
                raise BuildError(
                    f"{aar.name}: has native libraries, but none for {' and '.join(lacking)}; take the AAR as its makers publish it"
                )
            for name in inside:
                place, library = name.removeprefix("jni/"), archive.read(name)
                if place.split("/")[0] not in ABIS:
                    continue
                if place in found and found[place][0] != library:
                    raise BuildError(
                        f"{aar.name} and {found[place][1].name}: both hold {place}, and not the same; take AARs that are made for each other"
                    )
                found[place] = library, aar
    return {place: library for place, (library, _) in found.items()}


def _put(out: zipfile.ZipFile, name: str, data: bytes):
    """Stores what Android maps from the file, aligned; deflates the rest."""
    align = PAGE if name.endswith(".so") else 4 if name == "resources.arsc" else 0
    entry = zipfile.ZipInfo(name, EPOCH)
    entry.compress_type = zipfile.ZIP_STORED if align else zipfile.ZIP_DEFLATED
    if align:
        padding = -(out.fp.tell() + 30 + len(name) + 6) % align
        entry.extra = struct.pack("<HHH", ALIGNMENT, 2 + padding, align) + bytes(padding)
    out.writestr(entry, data)


def _sign(unsigned: Path, signed: Path):
    oldest, signer = catalog()["versions"]["android-minSdk"], program("apksigner")
    key, certificate = debug_key.written(WORK)
    schemes = ["--v1-signing-enabled", "false", "--v4-signing-enabled", "false"]  # v1 is for Android before 7
    tool(
        [signer, "sign", "--key", key, "--cert", certificate, "--min-sdk-version", oldest, *schemes, "--out", signed, unsigned],
        "apksigner sign",
    )
    tool([signer, "verify", "--min-sdk-version", oldest, signed], "apksigner verify")
