"""Which kernels XNNPACK takes on a CPU, as a name: weights packed for one name are of no use to another.

The names are coarse on x86; whether a file fits is asked of the runtime itself (`backends.tflite.kernel_check`). On ARM they are what was
found byte-identical between emulated cores: A55 = A76 = N1, A710 = V1, and the emulator's newest core.
"""

import ctypes
import hashlib
import platform
import re
from functools import lru_cache
from pathlib import Path

CPU_FACTS = Path("/proc/cpuinfo")
ARM = {
    "armv8": "ARMv8.0: no dot product",
    "dotprod": "ARMv8.2 and newer with the dot product, without i8mm",
    "i8mm": "ARM with smmla (i8mm), without SME",
    "sme": "ARM with SME",
}
X86 = {"x86-amx": "amx_int8", "x86-avx512vnni": "avx512_vnni", "x86-avx512": "avx512bw", "x86-avxvnni": "avx_vnni", "x86-avx2": "avx2"}
OLDEST_X86 = "x86-sse"
AT_HWCAP, AT_HWCAP2 = 16, 26  # linux/auxvec.h
DOT_PRODUCT, I8MM, SME = 1 << 20, 1 << 13, 1 << 23  # asm/hwcap.h: the first of HWCAP, the others of HWCAP2


def arm_isa(hwcap: int, hwcap2: int) -> str:
    """The name for an ARM CPU with these bits."""
    if hwcap2 & SME:
        return "sme"
    if hwcap2 & I8MM:
        return "i8mm"
    return "dotprod" if hwcap & DOT_PRODUCT else "armv8"


def x86_isa(flags: set[str]) -> str:
    """The name for an x86 CPU with these flags of /proc/cpuinfo."""
    return next((name for name, flag in X86.items() if flag in flags), OLDEST_X86)


def host_flags() -> set[str]:
    """The flags that all of this machine's x86 cores have; none where the system does not say."""
    try:
        found = re.findall(r"^flags\s*:(.*)$", CPU_FACTS.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
    except OSError:
        return set()
    return set.intersection(*(set(line.split()) for line in found)) if found else set()


def _capabilities() -> tuple[int, int]:
    ask = ctypes.CDLL(None).getauxval
    ask.argtypes, ask.restype = [ctypes.c_ulong], ctypes.c_ulong
    return int(ask(AT_HWCAP)), int(ask(AT_HWCAP2))


@lru_cache(1)
def host_isa() -> str:
    """The name for this machine's CPU."""
    if platform.machine() == "aarch64":
        return arm_isa(*_capabilities())
    return x86_isa(host_flags()) if platform.machine() == "x86_64" else platform.machine()


@lru_cache(1)
def host_key() -> str:
    """A short name for exactly this CPU's features, for what is remembered of them."""
    facts = str(_capabilities()) if platform.machine() == "aarch64" else " ".join(sorted(host_flags()))
    return hashlib.sha256(f"{platform.machine()} {facts}".encode()).hexdigest()[:12]


def names() -> list[str]:
    """Every name that weights can be packed for here."""
    return [*ARM, *([] if host_isa() in ARM else [host_isa()])]
