"""Converting times, texts and keys to and from columns."""

from __future__ import annotations

import hashlib
from typing import Final

PAGE_BYTES: Final = 4096
"""SQLite's default size of a database page."""


def seconds(ms: int) -> int | float:
    """Epoch milliseconds as the stored seconds: an integer if whole."""
    return ms / 1000 if ms % 1000 else ms // 1000


def from_seconds(stored: float | None) -> int | None:
    """Stored seconds as epoch milliseconds; None stays None."""
    return None if stored is None else round(stored * 1000)


def digest(text: object) -> str:
    """The digest that ties a companion row to its text."""
    data = str(text).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def equivalent_rows(text: str) -> int:
    """How many rows a text counts as: writing a long one takes as long as writing several."""
    return 1 + len(text) // PAGE_BYTES


def prefix_successor(prefix: str) -> str:
    """The smallest string greater than every string with this prefix, in byte order."""
    last = ord(prefix[-1])
    if last == 0x10FFFF:
        return prefix_successor(prefix[:-1])
    after = last + 1
    # UTF-8 cannot encode surrogates: the character after U+D7FF is U+E000.
    return prefix[:-1] + chr(0xE000 if 0xD800 <= after < 0xE000 else after)
