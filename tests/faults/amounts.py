"""How much a test does: little in ``make test``, GOSCOPE_TORTURE times much in ``make torture``."""

from __future__ import annotations

import os
import random
from typing import Final

SHARE: Final = float(os.environ.get("GOSCOPE_TORTURE", "0"))
"""The share of the long run, which takes about 30 minutes; 0 for the short one."""

SEED: Final = os.environ.get("GOSCOPE_FAULT_SEED") or str(random.SystemRandom().randrange(10**6))
"""Repeats the random choices of an earlier run."""


def amount(short: int, long: int) -> int:
    """How often to do something."""
    return max(short, round(long * SHARE))


def is_long() -> bool:
    """Whether this is a long run, or a part of one."""
    return SHARE > 0
