"""Hexagon generations of Snapdragon SoCs.

Source: the table of ExecuTorch's Qualcomm backend, ``executorch/backends/qualcomm/serialization/qc_schema.py`` (a test
holds the two together); market names from LiteRT's list of supported SoCs. A SoC that is not in it has no generation
here: guessing would be worse.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Soc:
    """``hexagon`` is the architecture as Qualcomm writes it, "V73"."""

    model: str
    name: str
    hexagon: str


SOCS = {
    soc.model: soc
    for soc in (
        Soc("SM8350", "Snapdragon 888", "V68"),
        Soc("SM8450", "Snapdragon 8 Gen 1", "V69"),
        Soc("SM8475", "Snapdragon 8+ Gen 1", "V69"),
        Soc("SM8550", "Snapdragon 8 Gen 2", "V73"),
        Soc("SM8650", "Snapdragon 8 Gen 3", "V75"),
        Soc("SM8750", "Snapdragon 8 Elite", "V79"),
        Soc("SM8845", "Snapdragon", "V81"),
        Soc("SM8850", "Snapdragon 8 Elite Gen 5", "V81"),
    )
}


# How others name what LiteRT has compilers for, too (docs/other-npus.md).
OTHER_VENDORS = {
    "MediaTek": r"MT\d{4}\w*",
    "Samsung": r"(S5)?E\d{4}|EXYNOS\W?\d{4}",
    "Google": r"(GOOGLE[\W_]?)?TENSOR[\W_]?G\d",
    "Intel": r"LNL|PTL",
}


def other_vendor(soc: str) -> str | None:
    """Whose SoC this is, of the vendors that LiteRT compiles for besides Qualcomm."""
    return next((vendor for vendor, names in OTHER_VENDORS.items() if re.fullmatch(names, soc, re.IGNORECASE)), None)


# The first is Android 12's own, the others are vendors' habits before it.
MODEL_PROPERTIES = ("ro.soc.model", "ro.vendor.qti.soc_model", "ro.hardware.chipname")


def find_soc(properties: dict[str, str]) -> tuple[str | None, str | None]:
    """Returns ``(SoC, Hexagon generation)`` from a device's system properties; None for what they do not tell.

    Vendors add letters to the number ("SM8750-AC", "SM8635P"), so the first four digits count.
    """
    model = next((properties[name] for name in MODEL_PROPERTIES if properties.get(name)), None)
    if not model:
        return properties.get("ro.board.platform") or properties.get("ro.hardware") or None, None
    known = SOCS.get(match[0].upper()) if (match := re.match(r"SM\d{4}", model, re.IGNORECASE)) else None
    if known:
        return f"{known.name} ({model})", known.hexagon
    maker = properties.get("ro.soc.manufacturer", "")
    return (f"{maker} {model}" if maker and maker.lower() not in ("unknown", "qti") and not model.startswith(maker) else model), None
