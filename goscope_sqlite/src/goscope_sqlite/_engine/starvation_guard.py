"""Lending the interpreter to a thread that a busy event loop would keep from it.

A loop without a pause gives the interpreter away only while it looks at its sockets, and has taken
it back before a waiting thread has woken up. Each time the 5 ms begin anew after which CPython
hands it over, so slices of less than that starve a thread for seconds. Unless the loop stands
still for a moment: then the thread does within a millisecond what it was given.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from time import perf_counter, sleep, thread_time
from typing import Final, TypeVar, TypeVarTuple

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

PATIENCE: Final = 0.005
LONGEST_PATIENCE: Final = 0.02
"""Seconds a thread is left to itself before it is lent to, ever longer for the same job: one that
is not done by then waits for a disk or for another process."""

LONGEST: Final = 0.002
STEP: Final = 0.0001
"""The most seconds the loop stands still at a time, and between two looks at the thread."""

BUSY: Final = 0.5
STARVED: Final = 0.3
"""A loop is taken for one that starves its thread when it worked for more than that share of the
time, and the thread for less than that share of the loop's. What wakes in vain works as well."""


class Lender:
    """Watches over the jobs of one thread. All but `run` belongs to the event loop."""

    def __init__(self) -> None:
        self._out = 0
        self._ended = 0  # counted in the thread
        self._waits_since = 0.0  # the thread for its next job, or the next job for the thread
        self._patience = PATIENCE
        self._timer: asyncio.TimerHandle | None = None
        self._time = self._loop_time = self._thread_time = 0.0
        self._thread_clock: int | None = None

    def run(self, work: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
        """Do the work, in the thread."""
        if self._thread_clock is None:
            self._thread_clock = _clock_of_this_thread()
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
        self._time = perf_counter()
        self._loop_time, self._thread_time = thread_time(), self._time_of_thread()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        if not self._out:
            return
        left = self._waits_since + self._patience - perf_counter()
        if left <= 0:
            has_helped = self._is_starved() and self._lend()
            self._patience = PATIENCE if has_helped else min(2 * self._patience, LONGEST_PATIENCE)
            left = self._patience
        self._watch(left)

    def _is_starved(self) -> bool:
        loop = thread_time() - self._loop_time
        thread = self._time_of_thread() - self._thread_time
        return loop > BUSY * (perf_counter() - self._time) and thread < STARVED * loop

    def _time_of_thread(self) -> float:
        """Seconds the thread has worked so far; always 0 where that is not known."""
        try:
            return 0.0 if self._thread_clock is None else time.clock_gettime(self._thread_clock)
        except OSError:  # it has ended
            return 0.0

    def _lend(self) -> bool:
        """Stand still until the thread has done one job; whether it has.

        Not until it has done all it was given: what waits for a job that is done gives the thread
        the next one, and a loop that stood still for all of them would do little else.
        """
        before = self._ended
        until = perf_counter() + LONGEST
        while self._ended == before and perf_counter() < until:
            sleep(STEP)
        return self._ended != before


def _clock_of_this_thread() -> int | None:
    if hasattr(time, "pthread_getcpuclockid"):  # not on macOS and Windows
        return time.pthread_getcpuclockid(threading.get_ident())
    return None
