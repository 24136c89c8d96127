"""The APK that scripts/build_apk makes: signed, aligned, of the right versions, carrying what it says and no stub."""

import re
import shutil
import struct
import subprocess
import sys
import zipfile

import pytest
from building import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "scripts"))

from android.apk import APK
from android.pages import made_for_smaller, misplaced, verdict

from firsttoken.bundle.manifest import SCHEMA_FILE

pytestmark = pytest.mark.slow

# A benchmark that goes on when its screen is left, awake, with a notification; android-demo/README.md says so to the user.
PERMISSIONS = [
    f"android.permission.{name}"
    for name in ("FOREGROUND_SERVICE", "FOREGROUND_SERVICE_DATA_SYNC", "FOREGROUND_SERVICE_SPECIAL_USE", "POST_NOTIFICATIONS", "WAKE_LOCK")
]


@pytest.fixture(scope="module")
def said(apk_said) -> str:
    return apk_said


def ask(*command) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_is_signed(said):
    text = ask("apksigner", "verify", "--verbose", "--print-certs", "--min-sdk-version", "26", APK)
    assert "Verified using v2 scheme (APK Signature Scheme v2): true" in text and "Number of signers: 1" in text


def test_it_is_what_the_command_expects(said):
    badging = ask("aapt2", "dump", "badging", APK)
    assert "package: name='dev.firsttoken.demo' versionCode='1' versionName='0.1.0'" in badging
    assert "sdkVersion:'26'" in badging and "targetSdkVersion:'35'" in badging
    assert "launchable-activity: name='dev.firsttoken.demo.bundles.BundlesActivity'" in badging
    assert sorted(re.findall(r"^uses-permission\S*: name='([^']+)'", badging, re.MULTILINE)) == PERMISSIONS, (
        "no other permission, and no network"
    )
    manifest = ask("aapt2", "dump", "xmltree", "--file", "AndroidManifest.xml", APK)
    assert "dev.firsttoken.demo.BENCHMARK" in manifest
    from firsttoken.device.install import check_apk

    check_apk(APK)


def test_it_carries_the_schema_that_python_reads(said):
    with zipfile.ZipFile(APK) as archive:
        assert archive.read("firsttoken/manifest.schema.json") == SCHEMA_FILE.read_bytes()


def test_its_native_libraries_are_aligned_and_for_64_bit(said):
    assert misplaced(APK) == []
    with zipfile.ZipFile(APK) as archive:
        libraries = [name for name in archive.namelist() if name.endswith(".so")]
    assert {name.split("/")[1] for name in libraries} == {"arm64-v8a", "x86_64"}


def test_what_may_be_started_from_outside_is_the_list_and_the_benchmark(said):
    manifest = ask("aapt2", "dump", "xmltree", "--file", "AndroidManifest.xml", APK)
    components = re.split(r"\n\s+E: (?=activity|service|provider|receiver)", manifest)[1:]
    exported = {
        re.search(r'android:name\(\S+\)="([^"]+)"', text)[1] for text in components if re.search(r"android:exported\(\S+\)=true", text)
    }
    assert exported == {".bundles.BundlesActivity", ".BenchmarkActivity"}
    assert all("android:exported" in text for text in components)
    service = next(text for text in components if "MeasureService" in text)
    assert "android:foregroundServiceType(0x01010599)=0x40000000" in service and "android.app.PROPERTY_SPECIAL_USE_FGS_SUBTYPE" in service


def test_it_says_on_which_phones_its_libraries_load(said):
    small = made_for_smaller(APK)
    assert verdict(APK) in said.splitlines()
    assert ("do not load them" in said) == bool(small) and all(name in said for name in (name.removeprefix("lib/") for name in small))


def test_the_checks_see_what_is_wrong(said, tmp_path):
    aside = tmp_path / "aside.apk"
    with zipfile.ZipFile(aside, "w") as archive:
        archive.writestr("lib/arm64-v8a/aside.so", b"elf")
        archive.writestr(zipfile.ZipInfo("lib/arm64-v8a/packed.so"), b"elf" * 100, compress_type=zipfile.ZIP_DEFLATED)
    assert misplaced(aside) == ["lib/arm64-v8a/aside.so", "lib/arm64-v8a/packed.so"]
    changed = tmp_path / "changed.apk"
    shutil.copy(APK, changed)
    with zipfile.ZipFile(APK) as archive:
        place = archive.getinfo("classes.dex").header_offset
    with changed.open("r+b") as stream:
        stream.seek(place + 26)
        name, extra = struct.unpack("<HH", stream.read(4))
        stream.seek(place + 30 + name + extra + 1000)
        byte = stream.read(1)[0]
        stream.seek(-1, 1)
        stream.write(bytes([byte ^ 1]))
    done = subprocess.run(["apksigner", "verify", "--min-sdk-version", "26", changed], capture_output=True, text=True, timeout=120)
    assert done.returncode != 0 and "DOES NOT VERIFY" in done.stdout + done.stderr


def test_its_classes_are_those_it_says_it_carries_and_no_stub(said):
    with zipfile.ZipFile(APK) as archive:
        assert [name for name in archive.namelist() if name.endswith(".dex")] == ["classes.dex"]
        dex = archive.read("classes.dex")
        assert "assets/held_out.txt" in archive.namelist()
    for name in (
        "dev/firsttoken/demo/BenchmarkActivity",
        "dev/firsttoken/demo/engine/InterpreterProgram",
        "dev/firsttoken/core/benchmark/Benchmark",
        "org/tensorflow/lite/Interpreter",
    ):
        assert f"L{name};".encode() in dex, name
    assert b"a stub" not in dex
    # a class that is only referred to has no superclass in the file: what counts is a method of it that nobody calls
    assert (b"readLogBuffer" in dex) == ("no ExecuTorch" not in said)


def test_python_reads_which_runtimes_it_carries(said):
    from firsttoken.device.carried import read_carried

    carried = read_carried(APK, "apk").versions
    [line] = [line for line in said.splitlines() if line.startswith("APK carries ")]
    assert carried and all(f"{name} {version}" in line for name, version in carried.items())
    assert ("ExecuTorch" in carried) == ("no ExecuTorch" not in line) and ("LiteRT" in carried) == ("carries LiteRT" in line)


def test_the_held_out_text_is_the_one_that_the_host_cuts_prompts_from(said):
    from firsttoken.demo import held_out_text

    with zipfile.ZipFile(APK) as archive:
        assert archive.read("assets/held_out.txt").decode() == held_out_text()
