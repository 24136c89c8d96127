"""What a phone is: model, SoC, Android version, cores, memory, free space. Every parser is a pure function of a command's output."""

import hashlib
import re
from dataclasses import dataclass

from firsttoken.device import STAGING
from firsttoken.device.adb import Adb, DeviceError
from firsttoken.device.untrusted import one_line
from firsttoken.measure.measurement import Cpu, Device
from firsttoken.targets.socs import find_soc

CPU_FLAGS = ("asimd", "fphp", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme")  # those that change which kernels run
CPU_FOLDER = "/sys/devices/system/cpu"
PARTITION = STAGING.rpartition("/")[0]  # of the staging folder, which may not be there yet
IDENTITY_DIGITS = 12
MOST_CORES = 1024


@dataclass(frozen=True)
class Phone:
    """A phone. Bytes for ``memory`` and ``free``; ``clusters`` counts cores by their highest frequency in kHz."""

    serial: str
    identity: str
    model: str
    manufacturer: str | None
    soc: str | None
    hexagon: str | None
    android: str
    sdk: int
    abis: tuple[str, ...]
    memory: int
    free: int | None
    cores: int
    clusters: dict[str, int]
    flags: tuple[str, ...]

    @property
    def name(self) -> str:
        """Maker and model, without saying the maker twice."""
        maker = self.manufacturer or ""
        return self.model if not maker or self.model.lower().startswith(maker.lower()) else f"{maker} {self.model}"

    @property
    def slug(self) -> str:
        """The name for use in a file name: letters, digits and dashes, and the start of the identity."""
        return f"{re.sub('[^A-Za-z0-9]+', '-', self.name).strip('-').lower() or 'phone'}-{self.identity[:4]}"

    def device(self) -> Device:
        """Returns the phone as a measurement names it."""
        return Device(
            kind="phone",
            model=self.model,
            manufacturer=self.manufacturer,
            soc=self.soc,
            hexagon=self.hexagon,
            system=f"Android {self.android} (API {self.sdk})",
            identity=self.identity,
            cpu=Cpu(model=self.soc or "unknown", cores=self.cores, flags=list(self.flags), clusters=self.clusters),
            memory_bytes=self.memory,
        )


def identify(adb: Adb) -> Phone:
    """Asks a connected phone what it is. Raises `DeviceError` for one that does not run Android or does not answer."""
    frequencies = f"for f in {CPU_FOLDER}/cpu[0-9]*/cpufreq/cpuinfo_max_freq; do echo $f $(cat $f); done"
    texts = adb.answers(
        "getprop", "cat /proc/meminfo", frequencies, f"cat {CPU_FOLDER}/possible", "cat /proc/cpuinfo", f"df -k {PARTITION}"
    )
    properties = parse_properties(texts[0])
    if not properties.get("ro.build.version.sdk", "").isdigit():
        raise DeviceError(f"device {adb.name}: does not say its Android version; is it an Android phone that has started completely?")
    memory, clusters, cores = parse_memory(texts[1]), parse_clusters(texts[2]), parse_cores(texts[3])
    soc, hexagon = find_soc(properties)
    total = memory.get("MemTotal")
    if not total:
        raise DeviceError(f"device {adb.name}: /proc/meminfo does not say how much memory it has")
    return Phone(
        serial=adb.serial or "",
        identity=hashlib.sha256((properties.get("ro.serialno") or adb.serial or "").encode()).hexdigest()[:IDENTITY_DIGITS],
        model=one_line(properties.get("ro.product.model") or properties.get("ro.product.name") or "unknown", 80),
        manufacturer=one_line(properties.get("ro.product.manufacturer", ""), 80) or None,
        soc=soc and one_line(soc, 80),
        hexagon=hexagon,
        android=one_line(properties.get("ro.build.version.release", "unknown"), 40),
        sdk=int(properties["ro.build.version.sdk"]),
        abis=tuple(one_line(abi, 40) for abi in properties.get("ro.product.cpu.abilist", "").split(",") if abi),
        memory=total,
        free=parse_free(texts[5]),
        cores=cores or sum(clusters.values()) or 1,
        clusters=clusters,
        flags=parse_flags(texts[4]),
    )


def free_space(adb: Adb) -> int | None:
    """Returns the bytes free where bundles are staged, or None where the device does not tell."""
    return parse_free(adb.shell(f"df -k {PARTITION}").text)


def parse_properties(text: str) -> dict[str, str]:
    """Returns the properties that ``getprop`` lists as ``[name]: [value]``; a value may have several lines."""
    found = re.findall(r"^\[([^\]\n]+)\]: \[(.*?)\]$(?=\n\[[^\]\n]+\]: \[|\s*\Z)", text, re.MULTILINE | re.DOTALL)
    return {name: value.strip() for name, value in found}


def parse_memory(text: str) -> dict[str, int]:
    """Returns the entries of ``/proc/meminfo`` in bytes."""
    return {name: int(kilobytes) * 1024 for name, kilobytes in re.findall(r"^(\w+):\s+(\d{1,15}) kB$", text, re.MULTILINE)}


def parse_free(text: str) -> int | None:
    """Returns the free bytes in the output of ``df -k`` for one folder.

    The columns are counted from the percentage, since a long device name puts them on a line of their own.
    """
    match = re.search(r"\s(\d{1,15})\s+\d{1,3}%\s", text + "\n")
    return int(match[1]) * 1024 if match else None


def parse_cores(text: str) -> int | None:
    """Returns how many cores a list like ``0-7`` or ``0-3,6`` names."""
    total = 0
    for first, last in re.findall(r"(\d{1,4})(?:-(\d{1,4}))?", text.strip()):
        total += int(last or first) - int(first) + 1
    return total if 0 < total <= MOST_CORES else None


def parse_clusters(text: str) -> dict[str, int]:
    """Returns the number of cores by highest frequency in kHz, from lines ``…/cpuN/cpufreq/cpuinfo_max_freq 2841600``."""
    clusters: dict[str, int] = {}
    for frequency in re.findall(r"/cpu\d+/cpufreq/cpuinfo_max_freq (\d{1,9})$", text, re.MULTILINE):
        clusters[frequency] = clusters.get(frequency, 0) + 1
    return dict(sorted(clusters.items(), key=lambda item: -int(item[0])))


def parse_flags(text: str) -> tuple[str, ...]:
    """Returns the processor features of ``/proc/cpuinfo`` that change which kernels run."""
    match = re.search(r"^(?:Features|flags)\s*:\s*(.*)$", text, re.MULTILINE)
    present = set(match[1].split()) if match else set()
    return tuple(flag for flag in CPU_FLAGS if flag in present)
