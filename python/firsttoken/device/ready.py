"""Whether a phone can measure now: new enough, app installed, awake, unlocked."""

from firsttoken.device import ACTIVITY, OLDEST_SDK, PACKAGE
from firsttoken.device.adb import Adb, DeviceError
from firsttoken.device.conditions import parse_battery, screen
from firsttoken.device.identify import Phone

LOW_BATTERY = 20  # per cent


def check_ready(adb: Adb, phone: Phone) -> None:
    """Raises `DeviceError` for a phone that is too old, has no app, or is locked; switches its screen on."""
    if phone.sdk < OLDEST_SDK:
        raise DeviceError(
            f"device {adb.name}: Android {phone.android} (API {phone.sdk}); the app needs Android 8 (API {OLDEST_SDK}) or newer"
        )
    check_app(adb)
    unlock(adb)


def check_app(adb: Adb) -> None:
    """Raises `DeviceError` where the app is not installed."""
    if app_path(adb) is None:
        raise DeviceError(
            f"device {adb.name}: the firsttoken app ({PACKAGE}) is not installed; install it with `firsttoken device install APK`"
        )


def app_path(adb: Adb) -> str | None:
    """Returns where the installed app's APK lies on the phone, or None where it is not installed."""
    lines = adb.shell("pm path {}", PACKAGE).text.splitlines()
    return next((line.removeprefix("package:").strip() for line in lines if line.startswith("package:/")), None)


def unlock(adb: Adb) -> None:
    """Switches the screen on and slides an open lock away. Raises `DeviceError` where only its owner can unlock it."""
    state = screen(adb)
    if state.awake is False:
        adb.shell("input keyevent KEYCODE_WAKEUP")
        state = screen(adb)
    if state.locked and not state.secure:
        adb.shell("wm dismiss-keyguard")
        state = screen(adb)
    if state.locked:
        raise DeviceError(
            f"device {adb.name}: locked; unlock it, leave its screen on, then run this again (times behind a lock screen say nothing)"
        )
    if state.awake is False:
        raise DeviceError(f"device {adb.name}: its screen stays off; switch it on, then run this again")


def worries(adb: Adb) -> list[str]:
    """Returns what will make the figures worse than the phone can do, for the user to know; nothing is refused for it."""
    found = []
    text, saver = adb.answers("dumpsys battery", "settings get global low_power")
    battery = parse_battery(text)
    if battery.percent is not None and battery.percent < LOW_BATTERY and not battery.charging:
        found.append(f"battery at {battery.percent:.0f} %: phones slow down when it is low")
    if saver.strip() == "1":
        found.append("battery saver is on: it slows the phone down; switch it off")
    return found


def keep_awake(adb: Adb) -> None:
    """Brings the app to the front, which keeps the screen on: else the phone locks itself while it cools."""
    adb.shell("am start -n {}", ACTIVITY)
