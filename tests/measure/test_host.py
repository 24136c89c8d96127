from pathlib import Path

from firsttoken.measure import host
from firsttoken.measure.measurement import Conditions


def test_this_machine():
    device = host.device()
    assert device.kind == "host" and device.memory_bytes > 1 << 28 and device.system.startswith("Linux")
    first = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith(("model name", "Hardware"))), None)
    if first:
        assert device.cpu.model == first.partition(":")[2].strip()


def test_conditions_are_what_the_system_says():
    now = host.conditions()
    assert 0 < now.available_memory_bytes < host.device().memory_bytes
    governor = Path("/sys/devices/system/cpu/cpufreq/policy0/scaling_governor")
    assert (governor.read_text().strip() in now.governors) if governor.exists() else now.governors == []


def test_the_hottest_sensor_of_the_processor():
    state = Conditions(time="", temperatures={"nvme.0": 80.0, "coretemp.0": 50.0, "coretemp.Package": 61.5})
    assert host.processor_temperature(state) == 61.5
    assert host.processor_temperature(Conditions(time="", temperatures={"nvme.0": 80.0})) is None


def test_busy_seconds_grow_with_work():
    before = host.busy_seconds()
    sum(i * i for i in range(3_000_000))
    assert host.busy_seconds() > before
