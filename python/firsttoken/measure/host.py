"""What this machine is and the state it is in, as far as it tells."""

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

from firsttoken.measure.measurement import Conditions, Cpu, Device

# Flags that change which kernels run, by machine.
CPU_FLAGS = {
    "x86_64": ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_fp16", "amx_int8"),
    "aarch64": ("asimd", "asimdhp", "asimddp", "i8mm", "sve", "sme"),
}
CPU_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "acpitz")


def cpu() -> Cpu:
    """Returns the processor: model, cores this process may use, flags that matter, cores by highest frequency."""
    lines = [line.partition(":") for line in _text(Path("/proc/cpuinfo")).splitlines()]
    fields = {name.strip().lower(): value.strip() for name, _, value in reversed(lines)}  # the first core's
    present = set((fields.get("flags") or fields.get("features") or "").split())
    clusters: dict[str, int] = {}
    for core in os.sched_getaffinity(0):
        if highest := _text(Path(f"/sys/devices/system/cpu/cpu{core}/cpufreq/cpuinfo_max_freq")).strip():
            clusters[highest] = clusters.get(highest, 0) + 1
    return Cpu(
        model=fields.get("model name") or fields.get("hardware") or platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        flags=[flag for flag in CPU_FLAGS.get(platform.machine(), ()) if flag in present],
        clusters=clusters,
    )


def device() -> Device:
    """Returns this machine as a measurement names it."""
    import psutil

    folder = Path("/sys/class/dmi/id")
    maker, product = (_text(folder / name).strip() or None for name in ("sys_vendor", "product_name"))
    processor = cpu()
    return Device(
        kind="host",
        model=product or processor.model,
        manufacturer=maker,
        system=f"{platform.system()} {platform.release()}",
        cpu=processor,
        memory_bytes=psutil.virtual_memory().total,
    )


def conditions() -> Conditions:
    """Returns the state of this machine now; what it does not tell is left out."""
    import psutil

    # psutil has these only where the system does
    sensors = psutil.sensors_temperatures() if hasattr(psutil, "sensors_temperatures") else {}
    temperatures = {f"{name}.{one.label or number}": one.current for name, found in sensors.items() for number, one in enumerate(found)}
    battery = getattr(psutil, "sensors_battery", lambda: None)()
    governors = {_text(path).strip() for path in Path("/sys/devices/system/cpu/cpufreq").glob("policy*/scaling_governor")}
    return Conditions(
        time=datetime.now(UTC).isoformat(timespec="milliseconds"),
        temperatures=temperatures,
        battery_percent=battery and battery.percent,
        charging=battery and battery.power_plugged,
        governors=sorted(governors - {""}),
        available_memory_bytes=psutil.virtual_memory().available,
    )


def processor_temperature(state: Conditions) -> float | None:
    """Returns the hottest of the sensors that speak for the processor, in degrees Celsius."""
    return max((value for name, value in state.temperatures.items() if name.startswith(CPU_SENSORS)), default=None)


def busy_seconds() -> float:
    """Returns the CPU seconds of all processes since boot, without idling and waiting for disks."""
    import psutil

    times = psutil.cpu_times()
    # guest time is already counted as user time
    return sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq"))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
