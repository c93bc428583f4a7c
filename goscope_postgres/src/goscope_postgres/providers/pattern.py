"""Patterns of keys in SQL."""

from __future__ import annotations

from typing import Final

from goscope.backend import literal_prefix, prefix_successor, split_pattern

ABOVE_ALL_KEYS: Final = "\U0010ffff" * 600
"""Greater than every key, which has fewer characters."""


def matches(key: str) -> str:
    """The condition that a key comes after $1 and matches `pattern_params`, from $2 on.

    The range lets the server search the index; LIKE alone may read all of it.
    """
    return f"{key} > $1 AND {key} >= $2 AND {key} < $3 AND {key} LIKE $4"


def pattern_params(pattern: str) -> tuple[str, str, str]:
    """The range of the keys that can match, and the pattern for LIKE."""
    start = literal_prefix(pattern)
    below = prefix_successor(start) if start else ABOVE_ALL_KEYS
    return start, below, "%".join(map(_escaped, split_pattern(pattern)))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
