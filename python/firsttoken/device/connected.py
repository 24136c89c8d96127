"""Which devices are connected, and which of them a command means."""

import os
import re
from dataclasses import dataclass

from firsttoken.device.adb import Adb, DeviceError, problem
from firsttoken.device.untrusted import one_line
from firsttoken.errors import FirstTokenError, nearest

STATES = (
    "device",
    "offline",
    "unauthorized",
    "authorizing",
    "connecting",
    "recovery",
    "sideload",
    "bootloader",
    "rescue",
    "host",
    "detached",
    "no device",
    "unknown",
)
ADVICE = {
    "unauthorized": 'unlock it and accept "Allow USB debugging?" on its screen',
    "authorizing": "wait a moment",
    "offline": "plug it in again, or restart the phone",
    "connecting": "wait a moment",
    "no permissions": "install udev rules (Debian, Ubuntu: apt install android-sdk-platform-tools-common) and plug it in again",
}
_LINE = re.compile(rf"^(?P<serial>\S.*?)\s+(?P<state>{'|'.join(STATES)}|no permissions)(?=\s|$|;)")


@dataclass(frozen=True)
class Connected:
    """A device as ``adb devices`` lists it. Only one in ``state`` "device" can be used."""

    serial: str
    state: str

    @property
    def usable(self) -> bool:
        return self.state == "device"

    @property
    def advice(self) -> str:
        return ADVICE.get(self.state, "start Android on it")


def parse_devices(text: str) -> list[Connected]:
    """Returns the devices in the output of ``adb devices -l``, in its order."""
    found = []
    for line in text.splitlines():
        if line.startswith(("*", "List of devices", "adb server")):
            continue
        if match := _LINE.match(line.strip()):
            found.append(Connected(match["serial"], match["state"]))
    return found


def connected(adb: Adb) -> list[Connected]:
    """Returns all devices that adb sees. Raises `FirstTokenError` if it cannot tell."""
    done = adb.run("devices", "-l")
    if done.code:
        raise problem(done.complaint, "") or FirstTokenError(f"`adb devices` failed ({done.complaint}); try `adb kill-server`")
    return parse_devices(done.text)


def choose(found: list[Connected], serials: list[str], everything: bool) -> list[str]:
    """Returns the serial numbers of the devices meant: those asked for, or ``everything``, or the only one there is.

    Without either, ``$ANDROID_SERIAL`` counts, as for adb. Raises `FirstTokenError` or `DeviceError` saying what to do.
    """
    if serials and everything:
        raise FirstTokenError("--serial and --all together; give one of them")
    if not serials and not everything and os.environ.get("ANDROID_SERIAL"):
        serials = [os.environ["ANDROID_SERIAL"]]
    by_serial = {device.serial: device for device in found}
    for serial in serials:
        if serial not in by_serial:
            raise DeviceError(f"device {one_line(serial)!r} is not connected{nearest(serial, by_serial)}; connected: {_names(found)}")
        if not by_serial[serial].usable:
            raise _unusable(by_serial[serial])
    if serials:
        return list(dict.fromkeys(serials))
    usable = [device for device in found if device.usable]
    if not usable:
        if found:
            raise _unusable(found[0])
        raise DeviceError(
            "no device connected; switch on USB debugging (Settings, Developer options), plug the phone in, and look with `firsttoken device list`"
        )
    if everything:
        return [device.serial for device in usable]
    if len(usable) > 1:
        raise DeviceError(f"{len(usable)} devices are connected ({_names(usable)}); choose with --serial, or use them together with --all")
    return [usable[0].serial]


def _unusable(device: Connected) -> DeviceError:
    state = {"unauthorized": "unauthorised"}.get(device.state, device.state)
    return DeviceError(f"device {one_line(device.serial, 80)}: {state}; {device.advice}, then run this again")


def _names(found: list[Connected]) -> str:
    return ", ".join(one_line(device.serial, 80) for device in found) or "none"
