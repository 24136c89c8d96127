"""Where the emulated machine lies and what is said where it is not there."""

import pytest

from firsttoken.arm.cores import CORES, find_core
from firsttoken.arm.folder import FOLDER_VARIABLE, PARTS, arm_folder, missing_parts, part, setup_command
from firsttoken.errors import FirstTokenError
from firsttoken.setup_folder import STAMP


def test_the_variable_names_the_folder_and_the_cache_folder_is_the_default(monkeypatch, tmp_path):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "machine"))
    assert arm_folder() == tmp_path / "machine" and not arm_folder().exists()
    monkeypatch.delenv(FOLDER_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert arm_folder() == tmp_path / "firsttoken" / "arm"


def test_a_part_counts_only_when_it_is_complete(monkeypatch, tmp_path):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    (tmp_path / "emulator").mkdir()
    assert missing_parts() == list(PARTS)
    with pytest.raises(FirstTokenError, match=f"emulator is missing.*; run: {setup_command()}$"):
        part("emulator")
    (tmp_path / "emulator" / STAMP).write_text("")
    assert part("emulator") == tmp_path / "emulator" and "emulator" not in missing_parts()


def test_the_command_is_one_that_exists_here(monkeypatch, tmp_path):
    from pathlib import Path

    monkeypatch.chdir(tmp_path)
    assert Path(setup_command()).is_file()
    monkeypatch.chdir(Path(__file__).parents[2])
    assert setup_command() == "scripts/setup_arm" and Path(setup_command()).is_file()


def test_doctor_says_whether_it_is_there_and_the_command(monkeypatch, tmp_path):
    from firsttoken.arm import debian
    from firsttoken.doctor import examine

    def check():
        return next(check for check in examine() if check.name == "emulated ARM")

    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setattr(debian, "obstacles", list)
    assert check().state == "note" and check().found == "not set up" and setup_command() in check().advice and "360 MB" in check().advice
    monkeypatch.setattr(debian, "obstacles", lambda: ["apt-get is not installed"])
    assert "apt-get is not installed" in check().advice and setup_command() not in check().advice
    for name in PARTS:
        (tmp_path / name).mkdir()
        (tmp_path / name / STAMP).write_text("")
    assert check().state == "ok" and str(tmp_path) in check().found
    (tmp_path / "litert" / STAMP).unlink()
    assert check().found == "incomplete: litert missing"


def test_an_unknown_core_is_named_with_the_nearest():
    assert find_core("cortex-a53").name == "cortex-a53" and not CORES["cortex-a53"].half
    with pytest.raises(
        FirstTokenError,
        match=r"core 'cortex-a67' is unknown \(did you mean 'cortex-a76'.*expected one of cortex-a76, neoverse-v1, cortex-a53",
    ):
        find_core("cortex-a67")
