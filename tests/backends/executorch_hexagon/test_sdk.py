"""Which SDK ExecuTorch's Qualcomm backend needs, and what a user reads who does not have it."""

import os
import re
import subprocess
import sys

import pytest

from firsttoken import cli, doctor
from firsttoken.backends.executorch_hexagon import sdk
from firsttoken.backends.tflite_hexagon import libraries
from firsttoken.demo import checkpoint_path
from firsttoken.errors import FirstTokenError

TARGET = "executorch-hexagon-sm8550"


@pytest.fixture(autouse=True)
def no_sdk(monkeypatch):
    for name in libraries.SDK_VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_the_version_is_read_from_the_wheel():
    """Against ExecuTorch's own reading of it; asked of another process, since importing it changes this one's logging."""
    program = "from executorch.backends.qualcomm.scripts.download_qnn_sdk import QNN_VERSION; print(QNN_VERSION)"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert sdk.built_against() == said.split()[-1] and re.fullmatch(r"2\.\d+\.\d+\.\d+", sdk.built_against())


def test_without_an_sdk_nothing_is_made_and_nothing_downloaded(tmp_path, capsys, monkeypatch):
    import urllib.request

    monkeypatch.setattr(urllib.request, "urlretrieve", None)
    assert cli.run(["export", str(checkpoint_path()), "-t", TARGET, "-o", str(tmp_path / "out")]) != 0
    said = capsys.readouterr().err
    assert f"needs SDK {'.'.join(sdk.built_against().split('.')[:2])}, and neither QNN_SDK_ROOT nor QAIRT_SDK_ROOT is set" in said
    assert f"set QNN_SDK_ROOT to its folder qairt/{sdk.built_against()}" in said and len(said.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists() and "QNN_SDK_ROOT" not in os.environ


def test_another_version_is_refused_with_both_named(tmp_path, monkeypatch, make_sdk):
    monkeypatch.setenv("QAIRT_SDK_ROOT", str(make_sdk(tmp_path / "sdk", "2.50.40")))
    with pytest.raises(
        FirstTokenError, match=rf"QAIRT_SDK_ROOT=.* is QNN 2.50.40, but ExecuTorch .* was built against {sdk.built_against()}"
    ):
        sdk.find_sdk()


def test_a_folder_that_is_no_sdk(tmp_path, monkeypatch, make_sdk):
    monkeypatch.setenv("QNN_SDK_ROOT", str(tmp_path))
    with pytest.raises(FirstTokenError, match="has no lib/x86_64-linux-clang/libQnnHtp.so"):
        sdk.find_sdk()
    monkeypatch.setenv("QNN_SDK_ROOT", str(make_sdk(tmp_path / "sdk", "2.37.0", missing="libQnnSystem.so")))
    with pytest.raises(FirstTokenError, match="has no .*libQnnSystem.so"):
        sdk.find_sdk()


def test_the_right_version_fits(tmp_path, monkeypatch, make_sdk):
    version = sdk.built_against().rpartition(".")[0]
    monkeypatch.setenv("QAIRT_SDK_ROOT", str(make_sdk(tmp_path / "sdk", version)))
    found = sdk.find_sdk()
    assert (found.version, found.folder) == (version, tmp_path / "sdk")
    with pytest.raises(FirstTokenError, match="libQnnHtp.so: does not load.*libc"), found.loaded():
        pass
    assert "QNN_SDK_ROOT" not in os.environ, "the environment is as it was"


def test_a_wheel_without_the_backend(monkeypatch):
    monkeypatch.setattr(sdk, "find_spec", lambda name: None)
    with pytest.raises(FirstTokenError, match="has no Qualcomm backend here"):
        sdk.find_sdk()


def test_doctor_says_what_fits(tmp_path, monkeypatch, make_sdk):
    def line():
        return next(check for check in doctor.examine() if check.name == "Hexagon, ExecuTorch")

    assert line().state == "note" and "set QNN_SDK_ROOT" in line().advice
    monkeypatch.setenv("QNN_SDK_ROOT", str(make_sdk(tmp_path / "sdk", sdk.built_against().rpartition(".")[0])))
    assert line().state == "ok" and "fits ExecuTorch's Qualcomm backend" in line().found


@pytest.mark.slow
def test_libraries_of_another_release_fail_where_it_is_said(hexagon_libraries, tmp_path):
    """The real backend on the 2.50 libraries, let past our check: it finds and starts them, and fails when it makes the device."""
    folder = tmp_path / "sdk" / libraries.SDK_FOLDER
    folder.mkdir(parents=True)
    for place in hexagon_libraries.folders:
        for library in place.glob("lib*.so*"):
            (folder / library.name).symlink_to(library)
    program = f"""
from firsttoken.backends.executorch_hexagon import lower, sdk
from firsttoken.targets.target import load_target
import torch
sdk._minor = lambda version: "2.37"
graphs = {{"decode": type("G", (torch.nn.Module,), {{"forward": lambda self, x: x + x, "example": lambda self: (torch.zeros(4),)}})()}}
with sdk.find_sdk().loaded():
    lower.hand_over(graphs, load_target("{TARGET}"))
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "QNN_SDK_ROOT": str(tmp_path / "sdk")},
    )
    assert "FirstTokenError: compiling for SM8550 through ExecuTorch failed: Failed to initialize QNN backend" in done.stderr
    assert "Failed to create device_handle" in done.stdout + done.stderr
