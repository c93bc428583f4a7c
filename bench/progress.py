"""Telling whoever waits how far it is."""

from __future__ import annotations

import sys
from time import perf_counter
from typing import Final

_BEGAN: Final = perf_counter()


def say(text: str) -> None:
    """Tell what comes now, and after how many seconds."""
    print(f"{perf_counter() - _BEGAN:5.0f} s  {text}", file=sys.stderr, flush=True)
