"""The APK: zipped with aligned native libraries, signed and verified."""

import hashlib
import os
import struct
import zipfile
from pathlib import Path

from android import app, core
from android.dex import dexed
from android.failure import BuildError
from android.jars import catalog
from android.java import tool
from android.places import REPOSITORY, WORK, program

APK = REPOSITORY / "out" / "firsttoken-demo.apk"
ABIS = ("arm64-v8a", "x86_64")
PAGE = 16384  # the largest memory page of Android phones, which native libraries must start on
EPOCH = (1981, 1, 1, 1, 1, 2)  # the same input gives the same file
ALIGNMENT = 0xD935  # the extra field that apksigner keeps an entry's place by


def build() -> Path:
    """Builds, signs and verifies the APK and returns where it is. Raises `BuildError`."""
    made = app.build()
    print(f"APK {made.runtimes}", flush=True)
    unsigned, signed = WORK / "unsigned.apk", WORK / "signed.apk"
    print("Dexing …", flush=True)
    _zip(unsigned, made, dexed(made))
    _sign(unsigned, signed)
    problems = misaligned(signed)
    if problems:
        raise BuildError(f"{problems[0]} does not start on a page of {PAGE} bytes; this is a bug in scripts/android/apk.py")
    APK.parent.mkdir(parents=True, exist_ok=True)
    os.replace(signed, APK)
    print(f"{APK.relative_to(REPOSITORY)}: {APK.stat().st_size / 2**20:.1f} MiB, SHA-256 {hashlib.sha256(APK.read_bytes()).hexdigest()}")
    print(f"install it: firsttoken device install {APK.relative_to(REPOSITORY)}")
    return APK


def misaligned(apk: Path) -> list[str]:
    """Returns the native libraries that are compressed or do not start on a page of 16 KiB."""
    with zipfile.ZipFile(apk) as archive, apk.open("rb") as stream:
        bad = []
        for entry in archive.infolist():
            if entry.filename.endswith(".so"):
                stream.seek(entry.header_offset + 26)
                name, extra = struct.unpack("<HH", stream.read(4))
                if entry.compress_type != zipfile.ZIP_STORED or (entry.header_offset + 30 + name + extra) % PAGE:
                    bad.append(entry.filename)
        return bad


def _zip(file: Path, made: app.App, dex: Path):
    with zipfile.ZipFile(file, "w") as out:
        with zipfile.ZipFile(made.resources.package) as resources:
            for name in resources.namelist():
                _put(out, name, resources.read(name))
        _put(out, "classes.dex", dex.read_bytes())
        _put(out, core.PACKED_SCHEMA, (made.core / core.PACKED_SCHEMA).read_bytes())
        for aar in made.runtimes.aars:
            with zipfile.ZipFile(aar) as archive:
                for name in sorted(archive.namelist()):
                    parts = name.split("/")
                    if len(parts) == 3 and parts[0] == "jni" and parts[1] in ABIS and parts[2].endswith(".so"):
                        _put(out, f"lib/{parts[1]}/{parts[2]}", archive.read(name))


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
    key, oldest = _key(), catalog()["versions"]["android-minSdk"]
    signer = program("apksigner")
    schemes = ["--v1-signing-enabled", "false", "--v4-signing-enabled", "false"]  # v1 is for Android before 7
    tool(
        [signer, "sign", "--ks", key, "--ks-pass", "pass:android", "--min-sdk-version", oldest, *schemes, "--out", signed, unsigned],
        "apksigner sign",
    )
    tool([signer, "verify", "--min-sdk-version", oldest, signed], "apksigner verify")


def _key() -> Path:
    """The debug key of this checkout: made once, so that a new build installs over an older one."""
    key = WORK / "debug.keystore"
    if not key.is_file():
        name = ["-dname", "CN=firsttoken debug", "-alias", "debug", "-keyalg", "RSA", "-keysize", "2048", "-validity", "10000"]
        key.parent.mkdir(parents=True, exist_ok=True)
        tool([program("keytool"), "-genkeypair", "-keystore", key, "-storepass", "android", *name], "keytool")
    return key
