"""Heat, battery, screen and lock, from the output of Android 8 to 15."""

import outputs
import pytest

from firsttoken.device.conditions import (
    Battery,
    Screen,
    Thermal,
    parse_battery,
    parse_governors,
    parse_hardware_properties,
    parse_screen,
    parse_thermal,
)
from firsttoken.device.cooling import cool_enough, too_hot


def test_thermal_service():
    samsung = parse_thermal(outputs.THERMAL["android12-samsung"])
    assert samsung == Thermal(0, {"cpu/AP": 25.6, "battery/BAT": 23.8, "skin/LRB": 24.7, "power-amplifier/PA": 25.7})
    pixel = parse_thermal(outputs.THERMAL["android14-pixel"])
    assert pixel.status == 2
    assert pixel.temperatures == {
        "cpu/BIG": 71.0,
        "cpu/MID": 66.0,
        "gpu/G3D": 64.0,
        "npu/TPU": 58.0,
        "skin/VIRTUAL-SKIN": 41.3,
        "battery/battery": 36.1,
    }
    assert pixel.surface == 41.3 and pixel.hottest("cpu", "soc") == 71.0
    assert parse_thermal(outputs.THERMAL["android11-no-hal"]) == Thermal(0, {"skin/skin": 31.0})
    assert parse_thermal(outputs.THERMAL["android8"]) == parse_thermal("") == Thermal(None, {})


def test_thermal_service_nonsense():
    assert parse_thermal(
        "Thermal Status: 9\nCurrent temperatures from HAL:\n\tTemperature{mValue=NaN, mType=3, mName=x, mStatus=0}\n"
    ) == Thermal(None, {})
    many = "Current temperatures from HAL:\n" + "".join(
        f"\tTemperature{{mValue=30.0, mType=0, mName=CPU{n}, mStatus=0}}\n" for n in range(10_000)
    )
    assert len(parse_thermal(many).temperatures) == 64


def test_the_older_service():
    assert parse_hardware_properties(outputs.HARDWARE_PROPERTIES) == {
        "cpu/0": 38.0,
        "cpu/1": 39.5,
        "gpu/0": 36.0,
        "battery/0": 27.4,
        "skin/0": 29.9,
    }
    assert parse_hardware_properties("Permission Denial: can't dump hardware_properties") == {}


@pytest.mark.parametrize(
    ("phone", "expected"),
    [
        ("android8", Battery(100.0, True, 27.4)),
        ("android14-samsung", Battery(72.0, False, 35.7)),
        ("emulator-without", Battery(None, True, None)),
    ],
)
def test_battery(phone, expected):
    assert parse_battery(outputs.BATTERY[phone]) == expected


def test_battery_nonsense():
    assert parse_battery("") == parse_battery("Can't find service: battery\n") == Battery(None, None, None)
    assert parse_battery("  level: 300\n  scale: 100\n  temperature: 99999\n") == Battery(None, None, None)
    assert parse_battery("  level: 30\n  scale: 60\n").percent == 50.0


def test_governors():
    assert parse_governors("walt\nwalt\nschedutil\ncat: x: Permission denied\n") == ["schedutil", "walt"]


@pytest.mark.parametrize("android", [8, 11, 14, 15])
@pytest.mark.parametrize(("showing", "secure", "awake"), [(True, True, False), (True, False, True), (False, True, True)])
def test_screen(android, showing, secure, awake):
    state = parse_screen(
        outputs.POWER["awake" if awake else "asleep"], outputs.policy(showing, secure, awake, android), outputs.trust(showing and secure)
    )
    assert (state.awake, state.locked) == (awake, showing)
    # Android 15's policy does not say; whether the lock is closed does as well
    assert state.secure == (secure if android < 15 else showing and secure)


def test_screen_where_services_are_silent():
    assert parse_screen("", "", "") == Screen(None, None, None)
    assert parse_screen("", "", outputs.trust(True)) == Screen(None, True, True)
    assert parse_screen(outputs.POWER["dozing"], "", outputs.trust(False)) == Screen(False, False, False)


COOL, WARM, HOT = Thermal(0, {"skin/s": 30.0, "cpu/c": 80.0}), Thermal(1, {"skin/s": 33.0}), Thermal(2, {"skin/s": 41.0})
UNKNOWN = Thermal(None, {})


def test_cool_enough():
    assert cool_enough(COOL, COOL, None) and not cool_enough(WARM, COOL, None) and not cool_enough(HOT, COOL, None)
    assert cool_enough(WARM, WARM, None)  # it was like that from the start
    assert cool_enough(UNKNOWN, UNKNOWN, None) is None and cool_enough(UNKNOWN, COOL, 35.0) is None
    assert cool_enough(WARM, COOL, 35.0) and not cool_enough(HOT, COOL, 35.0) and not cool_enough(HOT, COOL, 60.0)


def test_too_hot():
    assert too_hot(COOL, None) is None and too_hot(WARM, None) is None and too_hot(UNKNOWN, 30.0) is None
    assert too_hot(HOT, None) == "thermal status moderate at 41.0 °C: it slows itself down"
    assert too_hot(WARM, 30.5) == "33.0 °C, above --max-temp 30.5"
