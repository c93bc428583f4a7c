"""Durations: a ``timedelta`` or ``"1h30m"``; provider methods also take milliseconds."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from functools import lru_cache
from typing import Final, TypeAlias

Duration: TypeAlias = "timedelta | str"
"""A duration as the scope's own API takes it, such as ``"30s"``; never a bare number."""

Milliseconds: TypeAlias = "timedelta | str | int | float"
"""A duration as provider methods take it; a bare number counts milliseconds."""

_MS_PER_UNIT: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.ASCII)
_WHOLE = re.compile(rf"(?:{_PART.pattern})+", re.ASCII)

MAX_MS: Final = 100 * 366 * _MS_PER_UNIT["d"]
"""A hundred years. More is a mistake, and would overflow the formats of some stores."""


def milliseconds(value: Milliseconds, what: str = "duration") -> int:
    """Convert a duration as provider methods take it to whole milliseconds, rounded up.

    Raises ``ValueError`` for zero, negative, NaN, infinite or bool, ``TypeError`` for other types.
    """
    if type(value) is int and 0 < value <= MAX_MS:
        return value  # the common case: the scope has already converted it
    if isinstance(value, str):
        return _parse(value, what)
    if isinstance(value, bool):
        raise ValueError(f"{what} must be a duration such as '30s', not {value!r}")
    if isinstance(value, timedelta):
        return _checked(value / timedelta(milliseconds=1), value, what)
    if isinstance(value, (int, float)):  # pyright: ignore[reportUnnecessaryIsInstance]  # untyped callers
        return _checked(value, value, what)
    raise TypeError(
        f"{what} must be a timedelta, a string such as '30s', or milliseconds, "
        f"not {type(value).__name__}"
    )


def strict_milliseconds(value: Milliseconds, what: str = "duration") -> int:
    """Convert a duration as the scope's own API takes it. Raises ``TypeError`` for a bare number.

    Half of all readers would take ``5`` for seconds, the other half for milliseconds.
    """
    if type(value) is str:
        return _parse(value, what)  # the common case, in 0.14 instead of 0.35 us
    if _is_number(value):
        raise TypeError(f"{what}={value!r} has no unit: {_with_unit(value)}")
    if not isinstance(value, (str, timedelta, bool)):
        raise TypeError(
            f"{what} must be a timedelta or a string such as '30s', not {type(value).__name__}"
        )
    return milliseconds(value, what)


def ttl_milliseconds(value: Duration | None, what: str = "ttl") -> int | None:
    """Convert a ttl: as `strict_milliseconds`; None, which means that it never ends, stays None."""
    return None if value is None else strict_milliseconds(value, what)


def wait_milliseconds(value: Duration | int | None, what: str = "wait") -> int | None:
    """Convert a wait: as `strict_milliseconds`; 0 means try once, None means no limit."""
    if value is None:
        return None
    if value == timedelta(0) or (type(value) is int and value == 0):
        return 0
    return strict_milliseconds(value, what)


def _with_unit(value: object) -> str:
    if isinstance(value, (int, float)) and value > 0:
        return f"write '{value}s' for {value} seconds or '{value}ms' for {value} milliseconds"
    return "write a positive duration, such as '30s'"


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


@lru_cache(maxsize=512)
def _parse(text: str, what: str) -> int:
    if not _WHOLE.fullmatch(text):
        raise ValueError(
            f"{what} {text!r} is not a valid duration: write numbers with units, "
            f"such as '250ms', '30s', '5m', '1h30m' or '7d'"
        )
    parts = _PART.findall(text)
    return _checked(sum(float(number) * _MS_PER_UNIT[unit] for number, unit in parts), text, what)


def _checked(ms: float, given: object, what: str) -> int:
    if not (0 < ms <= MAX_MS):  # also false for NaN
        raise ValueError(f"{what} must be more than zero and at most 100 years, not {given!r}")
    # Rounded first: 0.035 * 1000 is a little more than 35.
    return max(1, math.ceil(round(ms, 6)))
