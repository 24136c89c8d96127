"""The native library is built once, by the user's own compiler, into the user's own folder; where that fails the reason is said and the bindings run."""

import os
import stat
import subprocess

import numpy as np
import pytest

from firsttoken.backends.executorch import native_build, runner
from firsttoken.backends.executorch.native_build import built, compiler, library_file, standing
from firsttoken.backends.executorch.runner import ExecutorchRunner
from firsttoken.errors import FirstTokenError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Another cache folder, and a process that has asked for nothing yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(native_build, "native_library", native_build.native_library.__wrapped__)
    return tmp_path / "firsttoken/native"


def broken(tmp_path, script: str) -> str:
    """A compiler that does what ``script`` says."""
    path = tmp_path / "c++"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_it_is_built_once_and_only_its_user_can_change_it(folder, monkeypatch):
    assert standing()[0] and "will be built" in standing()[1]
    path = built(compiler())
    assert path.parent == folder and stat.S_IMODE(folder.stat().st_mode) == 0o700 and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(folder) == [path.name]
    monkeypatch.setattr(subprocess, "run", None)
    assert built(compiler()) == path and built(None) == path, "what is built needs no compiler"
    assert standing() == (True, f"built, {path}") and native_build.native_library()[0] is not None


def test_another_version_is_built_anew(folder, monkeypatch):
    before = library_file()
    monkeypatch.setattr(native_build, "version", lambda package: "9.9")
    assert library_file() != before


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'native.cpp:1: error: no such thing' >&2; exit 1", "does not compile native.cpp (native.cpp:1: error: no such thing)"),
        ("kill -9 $$", "does not compile native.cpp (status -9)"),
        ("""for word; do test "$before" = -o && echo text > "$word"; before=$word; done""", "file too short"),
    ],
)
def test_a_compiler_that_fails_is_a_reason_and_leaves_nothing_half(folder, tmp_path, monkeypatch, script, said):
    monkeypatch.setattr(native_build, "compiler", lambda: broken(tmp_path, script))
    library, why = native_build.native_library()
    assert library is None and said in why
    assert not [name for name in os.listdir(folder) if name.startswith(".")]


def test_without_a_compiler_it_is_said_what_to_install(folder, monkeypatch):
    monkeypatch.setattr(native_build, "compiler", lambda: None)
    assert native_build.native_library() == (None, "no C++ compiler (c++, g++, clang++): install g++ or clang")
    assert standing() == (False, "no C++ compiler (c++, g++, clang++): install g++ or clang")


def test_nothing_is_loaded_from_where_others_write(folder, tmp_path):
    path = built(compiler())
    for harmed in (path, folder, folder.parent):
        mode = stat.S_IMODE(harmed.stat().st_mode)
        harmed.chmod(mode | 0o022)
        library, why = native_build.native_library()
        assert library is None and f"{harmed} belongs to another user, can be written by others" in why
        harmed.chmod(mode)
    elsewhere = tmp_path / "elsewhere.so"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    with pytest.raises(FirstTokenError, match="or is a link"):
        built(compiler())


def test_the_bindings_run_where_it_cannot_be_had(lowerings, monkeypatch):
    path, manifest, _ = lowerings.lower("int8")
    monkeypatch.setattr(runner, "native_library", lambda: (None, "no C++ compiler"))
    opened = ExecutorchRunner(path, manifest, 1)
    assert opened.notes == ["ExecuTorch runs by its Python bindings, which pack the weights at every start: no C++ compiler"]
    assert opened.held_arrays() is None and opened.held_types == {}
    with pytest.raises(
        FirstTokenError, match=r"Python bindings keep the cache to themselves, and its C\+\+ runtime is not used: no C\+\+ compiler"
    ):
        opened.hold_again(np.array([1], np.int32), {})
    opened.close()
