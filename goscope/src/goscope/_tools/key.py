"""Rules for keys, prefixes and patterns."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from ..errors import ConfigurationError

MAX_KEY_LENGTH: Final = 512
MAX_LEASE_KEY_LENGTH: Final = MAX_KEY_LENGTH + 16
"""A feature's lease is named after its key: ``idempotency:`` and the key."""

RESERVED_PREFIXES: Final = frozenset({"cache:", "circuit:", "lock:", "lease:"})
_PREFIX = re.compile(r"[A-Za-z0-9_.-]+:", re.ASCII)


def check_key(key: str, what: str = "key", limit: int = MAX_KEY_LENGTH) -> str:
    """Return the key if it is valid: non-empty, at most 512 characters, no NUL or lone surrogate.

    Raises ``TypeError`` for anything but a string, ``ValueError`` otherwise.
    """
    if type(key) is str and 0 < len(key) <= limit and key.isascii() and "\0" not in key:
        return key  # the common case skips the checks below
    if not isinstance(key, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # untyped callers
        raise TypeError(f"{what} must be a string, not {type(key).__name__}")
    if not key:
        raise ValueError(f"{what} is empty")
    if len(key) > limit:
        raise ValueError(
            f"{what} {key[:40]!r}... has {len(key)} characters, at most {limit} are "
            f"allowed: use a digest of the long part"
        )
    if "\0" in key:
        raise ValueError(f"{what} {key!r} contains a NUL character")
    try:
        key.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"{what} {key!r} contains a lone surrogate, which is not valid text"
        ) from None
    return key


def check_prefix(prefix: object) -> str:
    """Return the prefix, "" for None. Raises `ConfigurationError` if it is invalid."""
    if prefix is None or prefix == "":
        return ""
    if not isinstance(prefix, str) or not _PREFIX.fullmatch(prefix):
        raise ConfigurationError(
            f"key_prefix {prefix!r} must be letters, digits, '_', '.' or '-', then one colon, "
            f"such as 'shop:'"
        )
    if prefix in RESERVED_PREFIXES:
        raise ConfigurationError(
            f"key_prefix {prefix!r} is reserved: it would collide with the names that goscope uses"
        )
    return prefix


def check_pattern(pattern: str) -> str:
    """Return the pattern if it is valid: a key in which ``*`` stands for any run of characters."""
    return check_key(pattern, "pattern")


@lru_cache(maxsize=256)
def pattern_regex(pattern: str) -> re.Pattern[str]:
    """Compile a pattern for backends that match in Python; use ``fullmatch``."""
    first, *rest = (re.escape(part) for part in pattern.split("*"))
    if not rest:
        return re.compile(first)
    *middle, last = rest
    # Atomic groups: the leftmost match of a part is as good as any other, so no backtracking.
    found = "".join(f"(?>.*?{part})" for part in middle)
    return re.compile(f"{first}{found}.*{last}", re.DOTALL)


def literal_prefix(pattern: str) -> str:
    """The text that every match of the pattern begins with."""
    return pattern.split("*", 1)[0]
