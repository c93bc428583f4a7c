"""Lending the interpreter to a thread that a busy event loop would keep from it.

A loop without a pause gives the interpreter away only while it looks at its sockets, and has taken
it back before a waiting thread has woken up. Each time the 5 ms begin anew after which CPython
hands it over, so slices of less than that starve a thread for seconds. Unless the loop stands
still for a moment: then the thread does within a millisecond what it was given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from time import perf_counter, sleep, thread_time
from typing import Final, TypeVar, TypeVarTuple

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

PATIENCE: Final = 0.002
LONGEST_PATIENCE: Final = 0.02
"""Seconds a thread is left to itself before it is lent to, ever longer for the same job: one that
is not done by then waits for a disk or for another process."""

LONGEST: Final = 0.002
STEP: Final = 0.0001
"""The most seconds the loop stands still at a time, and between two looks at the thread."""

BUSY: Final = 0.5
"""The share of the time above which a loop is taken for one that starves threads."""


class Lender:
    """Watches over the jobs of one thread. All but `run` belongs to the event loop."""

    def __init__(self) -> None:
        self._out = 0
        self._ended = 0  # counted in the thread
        self._waits_since = 0.0  # the thread for its next job, or the next job for the thread
        self._patience = PATIENCE
        self._timer: asyncio.TimerHandle | None = None
        self._time = self._cpu_time = 0.0

    def run(self, work: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
        """Do the work, in the thread."""
        try:
            return work(*arguments)
        finally:
            self._ended += 1
            self._waits_since = perf_counter()

    def sent(self) -> None:
        """Take note of a job that was given to the thread."""
        if not self._out:
            self._waits_since = perf_counter()
            self._patience = PATIENCE
        self._out += 1
        if self._timer is None:
            self._watch(PATIENCE)

    def returned(self) -> None:
        """Take note of a job whose outcome has arrived, or that was cancelled."""
        self._out -= 1

    @contextmanager
    def watching(self) -> Generator[None]:
        """Lend to the thread while it does something for the block."""
        self.sent()
        try:
            yield
        finally:
            self.returned()

    def _watch(self, seconds: float) -> None:
        self._time, self._cpu_time = perf_counter(), thread_time()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        if not self._out:
            return
        left = self._waits_since + self._patience - perf_counter()
        if left <= 0:
            has_helped = self._is_loop_busy() and self._lend()
            self._patience = PATIENCE if has_helped else min(2 * self._patience, LONGEST_PATIENCE)
            left = self._patience
        self._watch(left)

    def _is_loop_busy(self) -> bool:
        return thread_time() - self._cpu_time > BUSY * (perf_counter() - self._time)

    def _lend(self) -> bool:
        """Stand still until the thread has done all it was given; whether it has done anything."""
        before = self._ended
        until = perf_counter() + LONGEST
        while self._ended < before + self._out and perf_counter() < until:
            sleep(STEP)
        return self._ended != before
