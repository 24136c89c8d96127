"""What an APK carries, and what that is enough for."""

import zipfile
from pathlib import Path

import pytest

from firsttoken.device.carried import Carried, numbers, read_carried
from firsttoken.errors import FirstTokenError

APKS = Path(__file__).parent / "apks"  # of three strings each, linked by aapt2
CARRIED = {
    "tensorflow-lite": {"TensorFlow Lite": "2.16.1"},
    "litert-executorch": {"LiteRT": "2.3.0", "ExecuTorch": "1.5.1"},
    "no-runtime": {},
}


@pytest.mark.parametrize("name", CARRIED)
def test_what_an_apk_carries(name):
    assert read_carried(APKS / f"{name}.apk", name).versions == CARRIED[name]


def test_in_words():
    assert str(Carried({"LiteRT": "2.3.0", "ExecuTorch": "1.5.1"})) == "LiteRT 2.3.0 and ExecuTorch 1.5.1"
    assert str(Carried({})) == "no runtime"


@pytest.mark.parametrize(
    ("versions", "runtimes", "least", "lacks"),
    [
        ({"LiteRT": "2.3.0"}, ("LiteRT",), "2.0", None),
        ({"LiteRT": "2.0"}, ("LiteRT",), "2.0.0", None),
        ({"LiteRT": "1.4.0"}, ("LiteRT",), "2.0", "needs LiteRT 2.0 or newer, and the app carries LiteRT 1.4.0"),
        ({"TensorFlow Lite": "2.16.1"}, ("LiteRT",), "2.0", "needs LiteRT 2.0 or newer, and the app carries TensorFlow Lite 2.16.1"),
        ({"TensorFlow Lite": "2.16.1"}, ("TensorFlow Lite", "LiteRT"), "2.16", None),
        ({"TensorFlow Lite": "2.9"}, ("TensorFlow Lite", "LiteRT"), "2.16", "needs TensorFlow Lite 2.16 or newer"),
        # LiteRT counts from 1 again
        ({"LiteRT": "2.0.1"}, ("TensorFlow Lite", "LiteRT"), "2.16", None),
        ({"LiteRT": "2.3.0"}, ("ExecuTorch",), "1.5", "needs ExecuTorch 1.5 or newer, and the app carries LiteRT 2.3.0"),
        ({"LiteRT": "2.3.0"}, (), "0.18", "a runtime that the app does not have"),
    ],
)
def test_what_is_lacking(versions, runtimes, least, lacks):
    found = Carried(versions).lacks(runtimes, least)
    assert found is None if lacks is None else lacks in found


def test_versions_are_compared_number_by_number():
    assert numbers("2.16.1") > numbers("2.9") > numbers("2") == numbers("2.0.0") < numbers("2.0.1-rc1")
    assert numbers("2.3.0-beta") == numbers("2.3") and numbers("x") == ()


def packed(path: Path, name: str, data: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return path


def test_what_is_no_apk_of_the_app(tmp_path):
    (tmp_path / "text").write_text("no zip")
    bad = {
        tmp_path / "absent": "No such file",
        tmp_path: "is a folder",
        tmp_path / "text": "not a zip file",
        packed(tmp_path / "other", "classes.dex", b"dex"): "resources.arsc",
        packed(tmp_path / "bomb", "resources.arsc", b"\0" * (2 << 20)): "has 2097152 bytes",
        packed(tmp_path / "zeros", "resources.arsc", b"\0" * 100): "resource table",
    }
    for path, said in bad.items():
        with pytest.raises(FirstTokenError, match=said) as caught:
            read_carried(path, "the.apk")
        assert str(caught.value).startswith("the.apk: does not say which runtimes it carries") and "scripts/build_apk" in str(caught.value)


def test_an_app_of_other_strings(tmp_path):
    with zipfile.ZipFile(APKS / "tensorflow-lite.apk") as archive:
        table = archive.read("resources.arsc")
    other = packed(tmp_path / "other.apk", "resources.arsc", table.replace(b"_version", b"_VERSION"))
    with pytest.raises(FirstTokenError, match="no litert_version or tflite_version or executorch_version in it"):
        read_carried(other, "other")


def test_the_native_runner_needs_its_own_library_and_litert(tmp_path):
    libraries = ("lib/arm64-v8a/libfirsttoken_litert.so", "lib/arm64-v8a/libLiteRt.so")
    for there in ((), libraries[:1], libraries[1:], libraries):
        apk = tmp_path / "the.apk"
        apk.write_bytes((APKS / "litert-executorch.apk").read_bytes())
        with zipfile.ZipFile(apk, "a") as archive:
            for name in there:
                archive.writestr(name, b"")
        assert read_carried(apk, "the.apk").native_runner == (there == libraries)
