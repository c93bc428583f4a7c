"""Rules for keys, prefixes and patterns."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from ..errors import ConfigurationError

MAX_KEY_LENGTH: Final = 512
MAX_LEASE_KEY_LENGTH: Final = MAX_KEY_LENGTH + 16
"""A feature's lease is named after its key: ``idempotency:`` and the key."""

RESERVED_PREFIXES: Final = frozenset({"cache:", "circuit:", "collection:", "lock:", "lease:"})
_PREFIX = re.compile(r"[A-Za-z0-9_.-]+:", re.ASCII)
_COLLECTION = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)


def check_key(key: str, what: str = "key", limit: int = MAX_KEY_LENGTH) -> str:
    """Return the key if it is valid: non-empty, at most 512 characters, no NUL or lone surrogate.

    Raises ``TypeError`` for anything but a string, ``ValueError`` otherwise.
    """
    if type(key) is str and 0 < len(key) <= limit and key.isascii() and "\0" not in key:
        return key  # the common case skips the checks below
    if not isinstance(key, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # untyped callers
        raise TypeError(f"{what} must be a string, not {type(key).__name__}")
    if not key:
        raise ValueError(f"{what} is empty: pass a string that names something")
    if len(key) > limit:
        raise ValueError(
            f"{what} {key[:40]!r}... has {len(key)} characters, at most {limit} are "
            f"allowed: use a digest of the long part, such as "
            f"hashlib.sha256(text.encode()).hexdigest()"
        )
    if "\0" in key:
        raise ValueError(f"{what} {key!r} contains a NUL character: remove it")
    try:
        key.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"{what} {key!r} contains a lone surrogate, which is not valid text: replace it"
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


def check_collection(name: str) -> str:
    """Return the name of a collection if it is valid.

    Raises ``TypeError`` for anything but a string, ``ValueError`` otherwise.
    """
    if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # untyped callers
        raise TypeError(f"the name of a collection must be a string, not {type(name).__name__}")
    if not is_collection(name):
        raise ValueError(
            f"the name of a collection must be 1 to 64 letters, digits, '_', '.' or '-', "
            f"not {name[:80]!r}"
        )
    return name


def is_collection(name: str) -> bool:
    """Whether a collection may have the name."""
    return _COLLECTION.fullmatch(name) is not None


FINISH_MARK: Final = "task-finished:"
"""Begins the name of a lease that nobody holds: a finished task leaves it for those that wait."""

ESCAPED_STAR: Final = "\0*"
"""A literal ``*`` in a pattern. No key contains a NUL, so no pattern without this changes."""

_STAR = re.compile(r"(?<!\0)\*")


def escape_pattern(text: str) -> str:
    """The text as a part of a pattern in which ``*`` stands for itself.

    ``gs.cache.keys(escape_pattern(name) + ":*")`` finds the keys that begin with the name, whatever
    is in it. Every other character stands for itself anyway, a backslash included.
    """
    return text.replace("*", ESCAPED_STAR)


def check_pattern(pattern: str) -> str:
    """Return the pattern if it is valid: a key in which ``*`` stands for any run of characters."""
    is_text = isinstance(pattern, str)  # pyright: ignore[reportUnnecessaryIsInstance]  # untyped callers
    check_key(pattern.replace(ESCAPED_STAR, "*") if is_text else pattern, "pattern")
    return pattern


def split_pattern(pattern: str) -> list[str]:
    """The literal texts of a pattern, between which any run of characters may stand."""
    return [part.replace(ESCAPED_STAR, "*") for part in _STAR.split(pattern)]


@lru_cache(maxsize=256)
def pattern_regex(pattern: str) -> re.Pattern[str]:
    """Compile a pattern for backends that match in Python; use ``fullmatch``."""
    first, *rest = (re.escape(part) for part in split_pattern(pattern))
    if not rest:
        return re.compile(first)
    *middle, last = rest
    # Atomic groups: the leftmost match of a part is as good as any other, so no backtracking.
    found = "".join(f"(?>.*?{part})" for part in middle)
    return re.compile(f"{first}{found}.*{last}", re.DOTALL)


def literal_prefix(pattern: str) -> str:
    """The text that every match of the pattern begins with."""
    return split_pattern(pattern)[0]


def prefix_successor(prefix: str) -> str:
    """The smallest string greater than every string with this prefix, in byte order."""
    last = ord(prefix[-1])
    if last == 0x10FFFF:
        return prefix_successor(prefix[:-1])
    after = last + 1
    # UTF-8 cannot encode surrogates: the character after U+D7FF is U+E000.
    return prefix[:-1] + chr(0xE000 if 0xD800 <= after < 0xE000 else after)
