"""The integers that every store can hold, and JavaScript too."""

from __future__ import annotations

from typing import Final

MAX_INTEGER: Final = 2**53 - 1
"""The largest one that JavaScript's numbers represent exactly, like all below it."""


def check_integer(name: str, value: object, least: int = -MAX_INTEGER) -> None:
    """Raise ``ValueError`` unless the value is an int from ``least`` to `MAX_INTEGER`."""
    if not (type(value) is int and least <= value <= MAX_INTEGER):
        raise ValueError(f"{name} must be an int from {least} to 2**53 - 1, not {value!r:.40}")
