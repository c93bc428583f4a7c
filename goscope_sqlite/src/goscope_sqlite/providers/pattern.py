"""Patterns of keys in SQL."""

from __future__ import annotations

from typing import Final

from goscope.backend import split_pattern

_GLOB_ESCAPES: Final = str.maketrans({character: f"[{character}]" for character in "*?["})


def glob(pattern: str) -> str:
    """The pattern for SQLite's GLOB, where ``?`` and ``[`` are special too."""
    return "*".join(part.translate(_GLOB_ESCAPES) for part in split_pattern(pattern))
