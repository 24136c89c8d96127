"""Bytes and seconds as one reads them."""


def readable(count: float) -> str:
    """Returns a number of bytes with a binary unit: ``1.5 GiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit in ("B", "KiB") else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def told_apart(one: int, other: int) -> tuple[str, str]:
    """Two numbers of bytes as one reads them, in bytes where they would read alike though they differ."""
    words = readable(one), readable(other)
    return (f"{one:,} B", f"{other:,} B") if one != other and words[0] == words[1] else words


def lasting(seconds: float) -> str:
    """Returns a duration as one reads it: ``40 s``, ``3 min``."""
    return f"{max(1, round(seconds))} s" if seconds < 100 else f"{round(seconds / 60)} min"
