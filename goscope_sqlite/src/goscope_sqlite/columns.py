"""How times, texts and keys are written into columns."""

from __future__ import annotations

import hashlib
from typing import Final

PAGE_BYTES: Final = 4096
"""The size of a database page, unless the creator of the file chose another."""


def seconds(ms: int) -> int | float:
    """Epoch milliseconds as the seconds that are stored: whole ones as an integer."""
    return ms / 1000 if ms % 1000 else ms // 1000


def from_seconds(stored: float | None) -> int | None:
    """Stored seconds as epoch milliseconds; None stays None."""
    return None if stored is None else round(stored * 1000)


def digest(text: object) -> str:
    """The digest by which a companion row recognises the text it belongs to."""
    data = str(text).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def equivalent_rows(text: str) -> int:
    """How many rows a text counts for when it is written: a long one takes as long as several."""
    return 1 + len(text) // PAGE_BYTES


def prefix_successor(prefix: str) -> str:
    """The smallest string greater than every one that begins with ``prefix``, in byte order."""
    last = ord(prefix[-1])
    if last == 0x10FFFF:
        return prefix_successor(prefix[:-1])
    after = last + 1
    # Surrogates are not text: the character after U+D7FF is U+E000.
    return prefix[:-1] + chr(0xE000 if 0xD800 <= after < 0xE000 else after)
