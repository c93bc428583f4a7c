"""Turning goscope's patterns into those of SCAN."""

from __future__ import annotations

from goscope.backend import split_pattern

from ..keys import glob


def scan_pattern(start: str, pattern: str) -> str:
    """The pattern for names that begin with ``start``: only ``*`` is special in goscope's."""
    return glob(start) + "*".join(map(glob, split_pattern(pattern)))
