"""Where small reads and writes run: in the event loop while they are fast, else in a thread."""

from __future__ import annotations

import math
from time import perf_counter
from typing import Final, Literal, TypeAlias

Place: TypeAlias = Literal["auto", "loop", "thread"]

SLOW_S: Final = 0.001
MIN_SLOW: Final = 3
WINDOW_MASK: Final = 0xFF
THREAD_S: Final = 0.05
"""An operation is slow from this duration on, when its pages come from the disk. When so many of
the last eight were slow, which are the bits of the window, they run in the thread for this long."""


class PlaceRule:
    """Decides for one kind of operation, by how long the recent ones took in the event loop.

    They run in the thread until ``thread_until``, on the clock of ``perf_counter``. One that took
    ``fast_s`` at most need not be recorded.
    """

    def __init__(self, place: Place) -> None:
        self.thread_until = math.inf if place == "thread" else 0.0
        self._slow_after_s = SLOW_S if place == "auto" else math.inf
        self.fast_s = self._slow_after_s
        self._slow_bitmap = 0  # one bit for each recent operation

    def record(self, seconds: float) -> None:
        """Record how long an operation took in the event loop."""
        is_slow = seconds > self._slow_after_s
        self._slow_bitmap = (self._slow_bitmap << 1 | is_slow) & WINDOW_MASK
        # The bitmap stays: after the time in the thread, one more slow one starts the next.
        if is_slow and self._slow_bitmap.bit_count() >= MIN_SLOW:
            self.thread_until = perf_counter() + THREAD_S
        self.fast_s = -1.0 if self._slow_bitmap else self._slow_after_s
