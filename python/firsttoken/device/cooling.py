"""Waiting until a phone is cool enough: a warm phone measures its throttling, not the bundle."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from firsttoken.device.adb import Adb, DeviceError, Stopped
from firsttoken.device.conditions import STATUS_NAMES, THROTTLING, Thermal, thermal

POLL_SECONDS = 5.0
WARMER = 2.0  # degrees above the start that still count as cool


@dataclass(frozen=True)
class Cooling:
    """``seconds``: the longest wait. ``limit``: degrees Celsius that skin and battery must be below; None: as cool as at the start."""

    seconds: float = 120.0
    limit: float | None = None


def cool_enough(now: Thermal, start: Thermal, limit: float | None) -> bool | None:
    """Returns whether the phone may go on; None where it does not say how hot it is."""
    if limit is not None:
        return None if now.surface is None else now.surface <= limit and (now.status is None or now.status < THROTTLING)
    if now.status is None and now.surface is None:
        return None
    calm = now.status is None or now.status == 0 or (start.status is not None and now.status <= start.status)
    return calm and (now.surface is None or start.surface is None or now.surface <= start.surface + WARMER)


def too_hot(now: Thermal, limit: float | None) -> str | None:
    """Returns why a phone must not measure now, or None. It throttles, or is above the limit that was asked for."""
    if limit is not None and now.surface is not None and now.surface > limit:
        return f"{now.surface:.1f} °C, above --max-temp {limit:g}"
    if now.status is not None and now.status >= THROTTLING:
        return f"thermal status {STATUS_NAMES[now.status]}{f' at {now.surface:.1f} °C' if now.surface is not None else ''}: it slows itself down"
    return None


def cool_down(adb: Adb, start: Thermal, cooling: Cooling, wait_blindly: bool, say: Callable[[str], None]) -> Thermal:
    """Waits until the phone is cool, at most ``cooling.seconds``, and returns its heat.

    A phone that does not tell its temperature waits the whole time where ``wait_blindly``. Raises `DeviceError` if it
    is too hot to measure after that.
    """
    began, told = time.monotonic(), False
    while True:
        now = thermal(adb)
        cool = cool_enough(now, start, cooling.limit)
        left = cooling.seconds - (time.monotonic() - began)
        if cool or left <= 0 or (cool is None and not wait_blindly):
            break
        if not told:
            heat = f"{now.surface:.1f} °C" if now.surface is not None else "its temperature is unknown"
            say(
                f"cooling, {left:.0f} s at most ({heat}, thermal status {STATUS_NAMES[now.status] if now.status is not None else 'unknown'})"
            )
            told = True
        pause(adb, min(POLL_SECONDS, left))
    if reason := too_hot(now, cooling.limit):
        raise DeviceError(
            f"device {adb.name}: too hot ({reason}) after {time.monotonic() - began:.0f} s; let it cool, or allow more with --cooldown or --max-temp"
        )
    return now


def pause(adb: Adb, seconds: float) -> None:
    """Waits, and raises `Stopped` as soon as the user asks to stop."""
    if adb.stop is None:
        time.sleep(max(0.0, seconds))
    elif adb.stop.wait(max(0.0, seconds)):
        raise Stopped
