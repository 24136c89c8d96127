"""Files out of wheels for ARM."""

import subprocess
import zipfile

import pytest

from firsttoken.arm import wheels
from firsttoken.errors import FirstTokenError


def wheel(tmp_path, **members: str):
    path = tmp_path / "made-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return path


def test_members_go_where_they_are_placed_and_others_nowhere(tmp_path):
    made = wheel(tmp_path, **{"package/a.py": "a", "package/b.so": "b", "package/tests/c.py": "c"})
    wheels.unpack(made, tmp_path / "out", {"package/a.py": "a.py", "package/b.so": "lib/b.so"}.get)
    files = {str(path.relative_to(tmp_path / "out")): path.read_text() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert files == {"a.py": "a", "lib/b.so": "b"}


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil"])
def test_members_outside_the_folder_are_refused(tmp_path, name):
    with pytest.raises(FirstTokenError, match="outside its folder"):
        wheels.unpack(wheel(tmp_path, **{name: "x"}), tmp_path / "out" / "deeper")
    assert not list(tmp_path.rglob("evil"))


def test_a_damaged_wheel_is_one_error(tmp_path):
    (tmp_path / "x.whl").write_bytes(b"PK but no archive")
    with pytest.raises(FirstTokenError, match=r"x.whl: cannot be unpacked"):
        wheels.unpack(tmp_path / "x.whl", tmp_path / "out")


def test_what_pip_complains_of_is_the_error(monkeypatch, tmp_path):
    asked = []

    def run(command, **_):
        asked.append(command)
        return subprocess.CompletedProcess(command, 1, "", "ERROR: No matching distribution found for nothing==9\n")

    monkeypatch.setattr(wheels.subprocess, "run", run)
    with pytest.raises(FirstTokenError, match=r"pip download nothing==9 failed \(ERROR: No matching distribution"):
        wheels.fetch(["nothing==9"], tmp_path)
    assert "--only-binary=:all:" in asked[0] and "--no-deps" in asked[0]
