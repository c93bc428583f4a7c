"""Converting times, texts and keys to and from columns."""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

from goscope._tools.codec import DecodeError
from goscope._tools.integer import MAX_INTEGER

PAGE_BYTES: Final = 4096
"""SQLite's default size of a database page."""

MAX_SECONDS: Final = MAX_INTEGER // 1000
"""The latest time in seconds that goscope stores, in 285,000 years.

In SQLite's order any text and any blob, which another program may write into a column of numbers,
is greater.
"""


class Position(NamedTuple):
    """A row in the order of expiry, from which the next page continues."""

    expires_at: float
    rowid: int


START: Final = Position(float("-inf"), 0)


def seconds(ms: int) -> int | float:
    """Epoch milliseconds as the stored seconds: an integer if whole."""
    return ms / 1000 if ms % 1000 else ms // 1000


def from_seconds(stored: object) -> int | None:
    """Stored seconds as epoch milliseconds; None stays None. Raises `DecodeError` for no time."""
    if stored is None:
        return None
    if not (isinstance(stored, int | float) and abs(stored) <= MAX_SECONDS):
        raise DecodeError(f"it expires at {stored!r:.40}, which is not a time")
    return round(stored * 1000)


def is_integer(stored: object) -> bool:
    """Whether the stored value is a number that goscope may have written."""
    return type(stored) is int and abs(stored) <= MAX_INTEGER


def digest(text: object) -> str:
    """The digest that ties a companion row to its text."""
    data = str(text).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def equivalent_rows(text: str) -> int:
    """How many rows a text counts as: writing a long one takes as long as writing several."""
    return 1 + len(text) // PAGE_BYTES
