"""Running adb: quoting, limits, stopping, and what its complaints mean."""

import stat
import subprocess
import threading
import time

import pytest

from firsttoken.device.adb import Adb, DeviceError, DeviceGone, Stopped, fill, find_adb, problem
from firsttoken.errors import FirstTokenError

HOSTILE = [
    "plain",
    "with space",
    "'single'",
    '"double"',
    "$(touch pwned)",
    "`touch pwned`",
    "a;b|c&d>e<f",
    "-rf",
    "*?[x]~",
    "back\\slash",
    "new\nline",
    "",
    "ümläut 🙂",
    "$HOME",
    "!history",
]


@pytest.mark.parametrize("value", HOSTILE)
def test_values_reach_the_shell_as_they_are(value, tmp_path):
    """Through a real shell, as adb hands the string to the device's."""
    out = subprocess.run(["sh", "-c", fill("printf '%s|' {} {}", value, "end")], capture_output=True, text=True, cwd=tmp_path)
    assert out.stdout == f"{value}|end|" and not list(tmp_path.iterdir())


def test_no_command_line_can_hold_a_nul():
    with pytest.raises(FirstTokenError, match="NUL"):
        fill("ls {}", "a\0b")


@pytest.mark.parametrize(
    ("complaint", "kind", "said"),
    [
        (
            "error: device unauthorized. This adb server's $ADB_VENDOR_KEYS is not set Try 'adb kill-server' if that seems wrong.",
            DeviceError,
            "accept",
        ),
        ("adb: device unauthorized.", DeviceError, "accept"),
        ("error: device still authorizing", DeviceError, "accept"),
        ("error: device offline", DeviceGone, "cable"),
        ("error: device 'R58M12345' not found", DeviceGone, "cable"),
        ("adb: device 'localhost:6601' not found", DeviceGone, "cable"),
        ("error: no devices/emulators found", DeviceGone, "cable"),
        ("error: closed", DeviceGone, "cable"),
        ("error: protocol fault (couldn't read status): Connection reset by peer", DeviceGone, "cable"),
        ("adb: error: connect failed: closed", DeviceGone, "cable"),
        ("adb: error: failed to read copy response: EOF", DeviceGone, "cable"),
        ("error: insufficient permissions for device: user in plugdev group; are your udev rules wrong?", DeviceError, "udev"),
        ("error: USB permission failure: udev requires plugdev group membership.", DeviceError, "udev"),
        ("error: cannot connect to daemon", FirstTokenError, "adb kill-server"),
    ],
)
def test_complaints_about_the_device(complaint, kind, said):
    error = problem(complaint, "R58")
    assert type(error) is kind and said in str(error)


@pytest.mark.parametrize(
    "complaint",
    [
        "ls: /nowhere: No such file or directory",
        "/system/bin/sh: foo: inaccessible or not found",
        "adb: error: failed to copy 'x' to '/data/x': remote couldn't create file: Permission denied",
        "adb: error: cannot stat 'x': No such file or directory",
        "",
    ],
)
def test_complaints_about_something_else(complaint):
    assert problem(complaint, "R58") is None


def test_no_adb(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("ANDROID_HOME", "ANDROID_SDK_ROOT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(FirstTokenError, match="adb not found on PATH.*apt install adb"):
        find_adb()
    program = tmp_path / "sdk/platform-tools/adb"
    program.parent.mkdir(parents=True)
    program.write_text("")
    program.chmod(0o755)
    monkeypatch.setenv("ANDROID_HOME", str(tmp_path / "sdk"))
    assert find_adb() == str(program)


def program(tmp_path, body: str) -> str:
    """A program in adb's place."""
    path = tmp_path / "adb"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_endless_output_is_cut(tmp_path):
    adb = Adb("R58", program(tmp_path, "exec yes"))
    with pytest.raises(DeviceError, match="more than 100000 bytes"):
        adb.run("shell", "x", limit=100_000)


def test_a_command_that_never_ends(tmp_path):
    adb = Adb("R58", program(tmp_path, "exec sleep 100"))
    with pytest.raises(DeviceGone, match="did not answer in time"):
        adb.run("shell", "x", seconds=0.3)


def test_stopping(tmp_path):
    stop = threading.Event()
    adb = Adb("R58", program(tmp_path, "exec sleep 100"), stop)
    threading.Timer(0.2, stop.set).start()
    began = time.monotonic()
    with pytest.raises(Stopped):
        adb.run("shell", "x")
    assert time.monotonic() - began < 20


def test_an_answer_that_breaks_off_is_no_answer(tmp_path):
    """adb may end with status 0 and nothing said when the connection breaks."""
    adb = Adb("R58", program(tmp_path, "echo half an ans; exit 0"))
    with pytest.raises(DeviceGone, match="broke off"):
        adb.shell("cat x")


def test_a_program_that_does_not_run(tmp_path):
    (tmp_path / "adb").write_text("not a program")
    with pytest.raises(FirstTokenError, match="does not run"):
        Adb("R58", str(tmp_path / "adb")).run("devices")


@pytest.mark.slow
def test_on_a_device(phone):
    adb = Adb(phone.serial)
    done = adb.shell("printf '%s' {}; printf oops >&2; (exit 7)", "a\r\nb\n")
    assert done.code == 7 and done.stdout == b"a\nb\n" and done.stderr == b"oops"
    assert adb.answers("echo one", "echo two; (exit 3)", "nothing-like-this", "printf four") == ["one\n", "two\n", "", "four"]
    for value in HOSTILE:
        assert adb.ask("printf %s {}", value) == value
    with pytest.raises(DeviceError, match=r"`ls /nowhere` failed \(ls: /nowhere: No such file"):
        adb.ask("ls {}", "/nowhere")
    phone.unplug()
    with pytest.raises(DeviceGone, match="cable"):
        adb.shell("true")
