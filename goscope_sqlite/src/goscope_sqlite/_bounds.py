"""The options that bound the size of a file."""

from __future__ import annotations

import re
from typing import Final, NamedTuple, TypeAlias

from goscope.errors import ConfigurationError

Size: TypeAlias = str | int
"""A number of bytes, or a text such as ``"50MB"`` or ``"1GiB"``."""

MIN_SIZE: Final = 1024 * 1024

_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?) ?([kMGT]i?B|KB|KiB|B|)", re.ASCII)
_POWERS: Final = {"": 0, "k": 1, "K": 1, "M": 2, "G": 3, "T": 4}


class Bounds(NamedTuple):
    """How large the cache may become; None sets no limit.

    ``max_bytes`` is about the file, with everything that is in it.
    """

    max_bytes: int | None = None
    max_entries: int | None = None

    @property
    def is_set(self) -> bool:
        return self.max_bytes is not None or self.max_entries is not None


def bounds(max_size: Size | None, max_entries: int | None) -> Bounds:
    """Check the options. Raises `ConfigurationError`."""
    if max_entries is not None and (type(max_entries) is not int or max_entries < 1):
        raise ConfigurationError(f"max_entries must be a number of at least 1, not {max_entries!r}")
    return Bounds(None if max_size is None else _bytes(max_size), max_entries)


def _bytes(size: object) -> int:
    match = _SIZE.fullmatch(str(size)) if type(size) in (str, int) else None
    if match is None:
        raise ConfigurationError(
            f"max_size {size!r} is not a valid size: write a number of bytes, or a text such as "
            f"'50MB' or '1GiB'"
        )
    number, unit = match.groups()
    step = 1024 if "i" in unit else 1000
    found = int(float(number) * step ** _POWERS[unit[:-1].rstrip("i")])
    if found < MIN_SIZE:
        raise ConfigurationError(
            f"max_size must be at least 1MiB, since empty tables take a part of it, not {size!r}"
        )
    return found
