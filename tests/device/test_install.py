"""What is an APK of ours, and what the package manager says."""

import zipfile

import pytest

from firsttoken.device.install import check_apk, parse_install
from firsttoken.errors import FirstTokenError


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("Success\n", 0, None),
        ("Performing Push Install\nSuccess\n", 0, None),
        (
            "Failure [INSTALL_FAILED_UPDATE_INCOMPATIBLE: Package dev.firsttoken.demo signatures do not match previously installed version; ignoring!]\n",
            1,
            "signed with another key",
        ),
        # Android 8: no colon, exit status 0
        ("Failure [INSTALL_FAILED_OLDER_SDK]\n", 0, "older than the app needs"),
        ("Failure [INSTALL_FAILED_USER_RESTRICTED: Install canceled by user]\n", 1, "Install via USB"),
        ("Failure [INSTALL_FAILED_NO_MATCHING_ABIS: Failed to extract native libraries, res=-113]\n", 1, "arm64-v8a"),
        ("Failure [INSTALL_FAILED_NEW_REASON: something]\n", 1, "INSTALL_FAILED_NEW_REASON: something"),
        ("Exception occurred while executing 'install':\njava.lang.SecurityException: no\n", 255, "Exception occurred"),
        ("", 1, "exit status 1"),
        ("no word of it\n", 0, "no word of it"),
    ],
)
def test_parse_install(text, code, said):
    found = parse_install(text, code)
    assert found is None if said is None else said in found


def apk(path, manifest=None, name="AndroidManifest.xml"):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, manifest if manifest is not None else "dev.firsttoken.demo".encode("utf-16-le"))
    return path


def test_check_apk(tmp_path):
    check_apk(apk(tmp_path / "utf16.apk"))
    check_apk(apk(tmp_path / "utf8.apk", b"..dev.firsttoken.demo.."))
    (tmp_path / "text.apk").write_text("no zip")
    (tmp_path / "folder.apk").mkdir()
    whole = apk(tmp_path / "whole.apk").read_bytes()
    (tmp_path / "cut.apk").write_bytes(whole[: len(whole) // 2])
    bad = {
        "missing.apk": "does not exist", "folder.apk": "is a folder", "text.apk": "not an APK", "cut.apk": "not an APK",
        apk(tmp_path / "other.apk", b"com.example").name: "not the firsttoken app",
        apk(tmp_path / "nomanifest.apk", name="x").name: "not an APK",
        apk(tmp_path / "bomb.apk", b"\0" * (5 << 20)).name: "5242880 bytes",
    }  # fmt: skip
    for name, said in bad.items():
        with pytest.raises(FirstTokenError, match=said):
            check_apk(tmp_path / name)
