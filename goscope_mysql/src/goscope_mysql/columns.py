"""Converting times, texts and patterns to and from SQL."""

from __future__ import annotations

import hashlib
from typing import Final

from goscope.backend import prefix_successor, split_pattern


def microseconds(ms: int | None) -> int | None:
    """Milliseconds as the columns have them; None stays None."""
    return None if ms is None else ms * 1000


def milliseconds(us: int | None) -> int | None:
    """Stored microseconds as milliseconds, rounded down; None stays None."""
    return None if us is None else us // 1000


def digest(text: str) -> bytes:
    """16 bytes that stand for a text which is too long for an index of two columns."""
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


_LIKE_ESCAPES: Final = str.maketrans({character: f"|{character}" for character in "|%_"})

_ABOVE_ALL_KEYS: Final = "\U0010ffff" * 600
"""Greater than every key, which has fewer characters."""


def matches(key: str) -> str:
    """The condition that a key matches a pattern and comes after another key, see `matching`.

    Bare, LIKE would search a range of the index that ends with U+FFFF, and miss the keys above it.
    """
    return f"{key} > ? AND {key} < ? AND CONCAT({key}) LIKE ? ESCAPE '|'"


MATCHES: Final = matches("`key`")


def matching(pattern: str, after: str = "") -> tuple[str, str, str]:
    """The parameters of `MATCHES`."""
    literals = split_pattern(pattern)
    start = literals[0]
    escaped = "%".join(literal.translate(_LIKE_ESCAPES) for literal in literals)
    # The smallest match is the prefix itself, and this is less.
    return max(after, start[:-1]), prefix_successor(start) if start else _ABOVE_ALL_KEYS, escaped


def placeholders(count: int) -> str:
    """So many question marks, for a list in SQL."""
    return ", ".join("?" * count)
