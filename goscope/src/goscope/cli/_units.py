"""Durations, times and sizes as people read them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

_UNITS: Final = ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "m"), (60, "m", 1, "s"))
_BAR_CELLS: Final = 20


def duration(ms: float) -> str:
    """Such as ``250ms``, ``4.2s``, ``3m12s``, ``2h5m`` or ``3d4h``."""
    if ms < 1_000:
        return f"{ms:.0f}ms"
    seconds = ms / 1_000
    for size, name, smaller, smaller_name in _UNITS:
        if seconds >= size:
            rest = int(seconds % size / smaller)
            return f"{int(seconds / size)}{name}{f'{rest}{smaller_name}' if rest else ''}"
    return f"{seconds:.1f}s"


def left(ms: int | None) -> str:
    """The time until something expires; None for never."""
    if ms is None:
        return "never"
    return duration(ms) if ms > 0 else "expired"


def moment(ms: int | None) -> str:
    """An epoch time in milliseconds, in UTC."""
    if ms is None:
        return "-"
    try:
        return datetime.fromtimestamp(ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (ValueError, OverflowError, OSError):  # another program wrote it
        return str(ms)


def size(count: int) -> str:
    """Such as ``17 B`` or ``1.2 MiB``."""
    if count < 1_024:
        return f"{count} B"
    value = float(count)
    for unit in ("KiB", "MiB", "GiB"):
        value /= 1_024
        if value < 1_024:
            return f"{value:.1f} {unit}"
    return f"{value / 1_024:.1f} TiB"


def bar(percent: float | None) -> str:
    """The progress of a task in twenty cells, and in percent."""
    if percent is None:
        return f"[{'?' * _BAR_CELLS}]     "
    filled = round(min(max(percent, 0), 100) / 100 * _BAR_CELLS)
    return f"[{'#' * filled}{'-' * (_BAR_CELLS - filled)}] {percent:3.0f}%"
