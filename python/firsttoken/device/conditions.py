"""The state a phone is in: heat, battery, free memory, screen and lock. Every parser is a pure function of a command's output."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from firsttoken.device.adb import Adb
from firsttoken.device.identify import CPU_FOLDER, parse_memory
from firsttoken.measure.measurement import Conditions

# Android's Temperature.TYPE_*; those left out (6 to 8, and -1) are battery currents, voltages and unknown units.
CPU_TYPE, BATTERY_TYPE, SKIN_TYPE = 0, 2, 3
TEMPERATURE_TYPES = {
    0: "cpu",
    1: "gpu",
    2: "battery",
    3: "skin",
    4: "usb",
    5: "power-amplifier",
    9: "npu",
    10: "tpu",
    11: "display",
    12: "modem",
    13: "soc",
}
STATUS_NAMES = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
THROTTLING = 2  # from "moderate" on the phone slows itself down
PLAUSIBLE = (-40.0, 150.0)  # degrees Celsius
MOST_SENSORS = 64
BATTERY_CHARGING, BATTERY_FULL = 2, 5  # BatteryManager.BATTERY_STATUS_*


@dataclass(frozen=True)
class Thermal:
    """``status`` as `STATUS_NAMES` counts, degrees Celsius by ``type/sensor``; None and empty where the phone does not tell."""

    status: int | None
    temperatures: dict[str, float]

    def hottest(self, *kinds: str) -> float | None:
        """Returns the highest temperature of the sensors of these types, or None."""
        return max((value for name, value in self.temperatures.items() if name.partition("/")[0] in kinds), default=None)

    @property
    def surface(self) -> float | None:
        """What phones throttle by and hands feel: the hottest of skin and battery."""
        return self.hottest("skin", "battery")


@dataclass(frozen=True)
class Battery:
    percent: float | None
    charging: bool | None
    temperature: float | None


@dataclass(frozen=True)
class Screen:
    """``locked``: the keyguard is in front. ``secure``: it wants a PIN, pattern or finger. None where the phone does not tell."""

    awake: bool | None
    locked: bool | None
    secure: bool | None


def conditions(adb: Adb) -> Conditions:
    """Returns the state of the phone now; what it does not tell is left out."""
    thermals, batteries, governors, memory = adb.answers(
        "dumpsys thermalservice", "dumpsys battery", f"cat {CPU_FOLDER}/cpu[0-9]*/cpufreq/scaling_governor", "cat /proc/meminfo"
    )
    battery = parse_battery(batteries)
    heat = _complete(adb, parse_thermal(thermals), battery)
    return Conditions(
        time=datetime.now(UTC).isoformat(timespec="milliseconds"),
        thermal_status=heat.status,
        temperatures=heat.temperatures,
        battery_percent=battery.percent,
        charging=battery.charging,
        governors=parse_governors(governors),
        available_memory_bytes=parse_memory(memory).get("MemAvailable"),
    )


def thermal(adb: Adb) -> Thermal:
    """Returns how hot the phone is: from the thermal service (Android 10 and newer), else from the older one, and the battery."""
    thermals, batteries = adb.answers("dumpsys thermalservice", "dumpsys battery")
    return _complete(adb, parse_thermal(thermals), parse_battery(batteries))


def _complete(adb: Adb, heat: Thermal, battery: Battery) -> Thermal:
    temperatures = heat.temperatures or parse_hardware_properties(adb.shell("dumpsys hardware_properties").text)
    if battery.temperature is not None and not any(name.startswith("battery/") for name in temperatures):
        temperatures = {**temperatures, "battery/battery": battery.temperature}
    return Thermal(heat.status, temperatures)


def screen(adb: Adb) -> Screen:
    """Returns whether the screen is on and the keyguard in front."""
    return parse_screen(*adb.answers("dumpsys power", "dumpsys window policy", "dumpsys trust"))


def parse_thermal(text: str) -> Thermal:
    """Returns what ``dumpsys thermalservice`` says.

    Its "current temperatures from HAL" count, the cached ones only where there are none: they may be hours old. A sensor
    that says exactly 0 is not fitted.
    """
    status = re.search(r"^\s*Thermal Status: (\d)\s*$", text, re.MULTILINE)
    for heading in ("Current temperatures from HAL:", "Cached temperatures:"):
        _, found, rest = text.partition(heading)
        section = re.match(r"(?:\s*Temperature\{[^}\n]*\}[ \t]*\n?)*", rest)
        temperatures = _sensors(section[0]) if found and section else {}
        if temperatures:
            break
    return Thermal(int(status[1]) if status and int(status[1]) < len(STATUS_NAMES) else None, temperatures)


def _sensors(section: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for body in re.findall(r"Temperature\{([^}\n]*)\}", section)[:MOST_SENSORS]:
        value, kind, name = (re.search(rf"\b{field}=([^,]*)", body) for field in ("mValue", "mType", "mName"))
        if (
            not (value and kind and name)
            or not re.fullmatch(r"-?\d+(\.\d+)?(E-?\d+)?", value[1])
            or not re.fullmatch(r"-?\d{1,3}", kind[1])
        ):
            continue
        degrees, label = float(value[1]), TEMPERATURE_TYPES.get(int(kind[1]))
        if label and degrees != 0 and PLAUSIBLE[0] < degrees < PLAUSIBLE[1]:
            found[f"{label}/{name[1].strip()[:40]}"] = round(degrees, 2)
    return found


def parse_hardware_properties(text: str) -> dict[str, float]:
    """Returns the temperatures of ``dumpsys hardware_properties`` (Android 8 and 9), where the vendor fills them in."""
    found: dict[str, float] = {}
    for kind, values in re.findall(r"^(CPU|GPU|Battery|Skin) temperatures: \[([^\]]*)\]", text, re.MULTILINE):
        for number, value in enumerate(values.split(",")[:MOST_SENSORS]):
            if re.fullmatch(r"\s*-?\d+(\.\d+)?\s*", value) and float(value) != 0 and PLAUSIBLE[0] < float(value) < PLAUSIBLE[1]:
                found[f"{kind.lower()}/{number}"] = round(float(value), 2)
    return found


def parse_battery(text: str) -> Battery:
    """Returns what ``dumpsys battery`` says: per cent of its scale, whether it charges, degrees Celsius (stored in tenths).

    Only the first entry of each name counts: vendors append logs with the same names.
    """
    fields: dict[str, str] = {}
    for name, value in re.findall(r"^\s+([A-Za-z ]+): (.*?)\s*$", text, re.MULTILINE):
        fields.setdefault(name.lower(), value)
    numbers = {name: int(value) for name, value in fields.items() if re.fullmatch(r"-?\d{1,9}", value)}
    level, scale, tenths = numbers.get("level"), numbers.get("scale", 100), numbers.get("temperature")
    powered = [fields[name] == "true" for name in ("ac powered", "usb powered", "wireless powered", "dock powered") if name in fields]
    charging = numbers["status"] in (BATTERY_CHARGING, BATTERY_FULL) if "status" in numbers else any(powered) if powered else None
    percent = 100.0 * level / scale if level is not None and scale > 0 and 0 <= level <= scale else None
    degrees = tenths / 10 if tenths else None  # 0 is what a phone without the sensor says
    return Battery(percent, charging, degrees if degrees is not None and PLAUSIBLE[0] < degrees < PLAUSIBLE[1] else None)


def parse_governors(text: str) -> list[str]:
    """Returns the CPU frequency governors in use, each once."""
    return sorted({line.strip() for line in text.splitlines() if re.fullmatch(r"\s*[\w-]{1,32}\s*", line)})


def parse_screen(power: str, policy: str, trust: str) -> Screen:
    """Returns the state in ``dumpsys power``, ``dumpsys window policy`` and ``dumpsys trust``.

    The policy names the keyguard ``showing`` (``mIsShowing`` in its second part); the trust service knows whether the
    user in front has a lock that is closed, and has its say where the policy is silent.
    """
    wakefulness = re.search(r"\bmWakefulness=(\w+)", power)
    interactive = re.search(r"\binteractiveState=INTERACTIVE_STATE_(\w+)", policy)
    awake = wakefulness[1] == "Awake" if wakefulness else interactive[1] == "AWAKE" if interactive else None
    showing = re.search(r"^\s*showing=(true|false)\b", policy, re.MULTILINE) or re.search(r"\bmIsShowing=(true|false)\b", policy)
    secure = re.search(r"^\s*secure=(true|false)\b", policy, re.MULTILINE)
    current = re.search(r"\(current\).*?\bdeviceLocked=([01])", trust)
    locked = showing[1] == "true" if showing else current[1] == "1" if current else None
    return Screen(awake, locked, secure[1] == "true" if secure else current[1] == "1" if current else None)
