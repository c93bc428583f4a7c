"""Keys of the cache for collections whose names and keys are anything."""

from __future__ import annotations

from hashlib import sha256
from typing import Final
from urllib.parse import quote

MAX_PART: Final = 200
"""Characters of a name or a key that are stored as they are; a key of the cache has 512."""


def collection_prefix(*names: str) -> str:
    """What all keys of a collection begin with, and those of no other one."""
    return "".join(f"{_part(name)}/" for name in names)


def collection_key(prefix: str, key: str) -> str:
    """The key in the cache of a key in a collection."""
    return f"{prefix}:{_part(key)}"


def _part(text: str) -> str:
    part = quote(text, safe=" !#$&'()+,;<=>?@[]^`{|}", errors="surrogatepass")
    if len(part) <= MAX_PART:
        return part
    # A percent sign before no digit: no text is quoted like that.
    return f"%sha256={sha256(text.encode(errors='surrogatepass')).hexdigest()}"
