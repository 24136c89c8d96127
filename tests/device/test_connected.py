"""Which devices there are and which are meant; phones that are there and cannot be used, as a real adb sees them."""

import subprocess
import sys
from pathlib import Path

import pytest
from flow import SHORT, profile, run, until

from firsttoken.device.adb import DeviceError
from firsttoken.device.connected import Connected, choose, parse_devices
from firsttoken.errors import FirstTokenError

LISTED = """\
* daemon not running; starting now at tcp:5037
* daemon started successfully
List of devices attached
8A1X0ABCD              device usb:1-1 product:husky model:Pixel_8_Pro device:husky transport_id:3
emulator-5554          offline transport_id:1
R58M12345              unauthorized usb:1-2 transport_id:5
0123456789ABCDEF       no permissions (missing udev rules? user is in the plugdev group); see [http://developer.android.com/tools/device.html] usb:1-3
adb-8A1X-q2 (2)._adb-tls-connect._tcp device product:husky model:Pixel_8_Pro device:husky transport_id:9
192.168.1.7:5555\tdevice
ZY22	recovery

"""


def test_parse_devices():
    assert [(device.serial, device.state) for device in parse_devices(LISTED)] == [
        ("8A1X0ABCD", "device"),
        ("emulator-5554", "offline"),
        ("R58M12345", "unauthorized"),
        ("0123456789ABCDEF", "no permissions"),
        ("adb-8A1X-q2 (2)._adb-tls-connect._tcp", "device"),
        ("192.168.1.7:5555", "device"),
        ("ZY22", "recovery"),
    ]
    assert parse_devices("List of devices attached\n\n") == parse_devices("") == parse_devices("garbage\n") == []


A, B, OFF, NEW = Connected("a", "device"), Connected("b", "device"), Connected("off", "offline"), Connected("new", "unauthorized")


def test_choose(monkeypatch):
    monkeypatch.delenv("ANDROID_SERIAL", raising=False)
    assert choose([A, OFF], [], False) == ["a"]
    assert choose([A, B], ["b"], False) == ["b"]
    assert choose([A, B], ["b", "a", "b"], False) == ["b", "a"]
    assert choose([A, B, OFF], [], True) == ["a", "b"]
    monkeypatch.setenv("ANDROID_SERIAL", "b")
    assert choose([A, B], [], False) == ["b"] and choose([A, B], ["a"], False) == ["a"] and choose([A, B], [], True) == ["a", "b"]


@pytest.mark.parametrize(
    ("found", "serials", "everything", "said"),
    [
        ([], [], False, "no device connected; switch on USB debugging"),
        ([A, B], [], False, "2 devices are connected (a, b); choose with --serial"),
        ([NEW], [], False, 'device new: unauthorised; unlock it and accept "Allow USB debugging?"'),
        ([OFF], [], True, "device off: offline; plug it in again"),
        ([A, OFF], ["off"], False, "device off: offline"),
        ([Connected("R58M1", "device")], ["R58M2"], False, "device 'R58M2' is not connected (did you mean 'R58M1'?); connected: R58M1"),
        ([A], ["x\x1b[31m; rm -rf /"], False, "is not connected"),
    ],
)
def test_choose_refuses(monkeypatch, found, serials, everything, said):
    monkeypatch.delenv("ANDROID_SERIAL", raising=False)
    with pytest.raises(DeviceError) as refusal:
        choose(found, serials, everything)
    assert said in str(refusal.value) and "\x1b" not in str(refusal.value)


def test_choose_one_way_or_the_other():
    with pytest.raises(FirstTokenError, match="--serial and --all together"):
        choose([A], ["a"], True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "said"),
    [("unauthorized", 'unauthorised; unlock it and accept "Allow USB debugging?" on its screen'), ("offline", "offline; plug it in again")],
)
def test_a_phone_that_cannot_be_used(phones, world, bundle, capsys, kind, said):
    """Seen by a real adb, over the wire."""
    port, world.next_port = world.next_port, world.next_port + 1
    server = subprocess.Popen(
        world.inside(sys.executable, str(Path(__file__).parent / "emulated/stubborn.py"), kind, str(port)),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout.readline() == "listening\n"
        connecting = subprocess.Popen([str(world.bin / "adb"), "connect", f"localhost:{port}"], stdout=subprocess.DEVNULL)
        until(lambda: kind in world.adb("devices").stdout)
        assert profile(bundle, *SHORT) == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert said in line and f"localhost:{port}" in line
        assert run("list") == 0
        assert said.split(";")[0] in capsys.readouterr().out
        # a good one beside it is enough
        phones()
        assert run("clean") == 0
    finally:
        world.adb("disconnect", f"localhost:{port}")
        connecting.kill()
        connecting.wait()
        server.kill()
        server.communicate()
