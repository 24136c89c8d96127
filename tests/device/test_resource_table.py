"""The strings of resource tables, against aapt2, which writes them."""

import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from firsttoken.device.resource_table import _Pool, string_resources

APKS = Path(__file__).parent / "apks"
NAMES = ("litert_version", "tflite_version", "executorch_version")


def table(name: str) -> bytes:
    with zipfile.ZipFile(APKS / f"{name}.apk") as archive:
        return archive.read("resources.arsc")


def linked(folder: Path, strings: dict[str, str], *options: str) -> bytes:
    """Returns the table that aapt2 makes of ``strings``."""
    values = folder / "res" / "values"
    values.mkdir(parents=True)
    lines = "".join(f'<string name="{name}" translatable="false">{value}</string>' for name, value in strings.items())
    (values / "strings.xml").write_text(f"<resources>{lines}<integer name='number'>3</integer><color name='red'>#f00</color></resources>")
    (folder / "AndroidManifest.xml").write_text(
        '<manifest xmlns:android="http://schemas.android.com/apk/res/android" package="dev.firsttoken.demo"/>'
    )
    for command in (
        ["aapt2", "compile", "--dir", folder / "res", "-o", folder / "compiled.zip"],
        ["aapt2", "link", "-o", folder / "linked.apk", "--manifest", folder / "AndroidManifest.xml", *options, folder / "compiled.zip"],
    ):
        subprocess.run(command, check=True, capture_output=True)
    with zipfile.ZipFile(folder / "linked.apk") as archive:
        return archive.read("resources.arsc")


def test_the_strings_that_the_app_reads():
    assert string_resources(table("tensorflow-lite"), NAMES) == {"litert_version": "", "tflite_version": "2.16.1", "executorch_version": ""}
    assert string_resources(table("litert-executorch"), ("litert_version", "absent")) == {"litert_version": "2.3.0"}


@pytest.mark.skipif(shutil.which("aapt2") is None, reason="aapt2 is missing; run: sudo apt-get install aapt")
def test_whatever_aapt2_writes(tmp_path):
    strings = {"short": "2.3.0", "long": "x" * 200, "longest": "ü" * 2000, "wide": "日本", "beyond": "a😀b", "empty": ""}
    made = linked(tmp_path, strings)
    found = string_resources(made, [*strings, "number", "red"])
    assert found.pop("beyond").startswith("a") and strings.pop("beyond")
    assert found == strings


def test_a_pool_in_utf_16():
    data = table("tensorflow-lite")
    start = data.index("string".encode("utf-16-le")) - 34  # the names of types are in UTF-16
    assert _Pool(data, start, len(data))[0] == "string"


def test_what_is_no_table_is_refused_wherever_it_is_cut():
    whole = table("litert-executorch")
    for end in range(len(whole)):
        with pytest.raises(ValueError, match="table|chunk|string"):
            string_resources(whole[:end], NAMES)


def test_a_string_that_is_too_long_is_not_read():
    whole = table("tensorflow-lite")
    place = whole.index(b"\x06\x062.16.1")
    with pytest.raises(ValueError, match="expected at most 4096"):
        string_resources(whole[: place + 1] + b"\xff" + whole[place + 2 :], NAMES)
