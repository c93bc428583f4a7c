"""Yielding the GIL to a thread that a busy event loop would starve.

An event loop that never pauses releases the GIL only while it polls its sockets, and has taken it
back before a waiting thread has woken up. Each poll restarts the 5 ms after which CPython forces a
thread switch, so callbacks shorter than that starve a thread for seconds. If the loop sleeps
instead, the thread completes its job within a millisecond. Beside a loop that works in slices of
1 ms, the longest write took 11 ms with this and 1.2 s without.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from time import perf_counter, sleep, thread_time
from typing import Final, TypeVar, TypeVarTuple

from .fork import begin_call, end_call

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

FIRST_CHECK_S: Final = 0.005
MAX_CHECK_INTERVAL_S: Final = 0.02
"""When to check on a job that is not finished, and how far the checks of the same job back off: a
thread that does not profit from the GIL waits for a disk or for another process."""

MAX_YIELD_S: Final = 0.002
YIELD_STEP_S: Final = 0.0001
"""How long one yield may block the event loop, and how often it checks whether it may stop."""

BUSY_LOOP_SHARE: Final = 0.5
STARVED_THREAD_RATIO: Final = 0.3
"""The loop starves the thread if it used more than this share of the time as CPU time, and the
thread less than this share of the loop's. Above 0, because waking up without getting the GIL is CPU
time too."""


class GilStarvationGuard:
    """Watches the jobs of one thread. Call everything but `run` in the event loop.

    One that is not ``enabled`` never blocks the loop.
    """

    def __init__(self, enabled: bool = True) -> None:
        self._enabled = enabled
        self._pending = 0
        self._finished = 0  # counted in the thread
        self._waiting_since = 0.0  # when the last job finished, or the first one was submitted
        self._check_interval_s = FIRST_CHECK_S
        self._timer: asyncio.TimerHandle | None = None
        self._time = self._loop_time = self._thread_time = 0.0
        self._thread_clock: int | None = None

    def run(self, work: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
        """Do the work, in the thread."""
        if self._thread_clock is None:
            self._thread_clock = _clock_of_this_thread()
        begin_call()
        try:
            return work(*arguments)
        finally:
            end_call()
            self._finished += 1
            self._waiting_since = perf_counter()

    def job_submitted(self) -> None:
        """Watch a job that was submitted to the thread."""
        if not self._pending:
            self._waiting_since = perf_counter()
            self._check_interval_s = FIRST_CHECK_S
        self._pending += 1
        if self._timer is None and self._enabled:
            self._schedule_check(FIRST_CHECK_S)

    def job_finished(self) -> None:
        """Stop watching a job whose outcome has arrived, or that was cancelled."""
        self._pending -= 1

    @contextmanager
    def watch(self) -> Generator[None]:
        """Watch a job that the thread does for the block."""
        self.job_submitted()
        try:
            yield
        finally:
            self.job_finished()

    def _schedule_check(self, delay_s: float) -> None:
        self._time = perf_counter()
        self._loop_time, self._thread_time = thread_time(), self._thread_cpu_time()
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._check)

    def _check(self) -> None:
        self._timer = None
        if not self._pending:
            return
        delay_s = self._waiting_since + self._check_interval_s - perf_counter()
        if delay_s <= 0:
            if self._is_starved() and self._yield_gil():
                self._check_interval_s = FIRST_CHECK_S
            else:
                self._check_interval_s = min(2 * self._check_interval_s, MAX_CHECK_INTERVAL_S)
            delay_s = self._check_interval_s
        self._schedule_check(delay_s)

    def _is_starved(self) -> bool:
        loop_s = thread_time() - self._loop_time
        thread_s = self._thread_cpu_time() - self._thread_time
        elapsed_s = perf_counter() - self._time
        return loop_s > BUSY_LOOP_SHARE * elapsed_s and thread_s < STARVED_THREAD_RATIO * loop_s

    def _thread_cpu_time(self) -> float:
        """CPU seconds of the thread so far; always 0 where they are not known."""
        try:
            return 0.0 if self._thread_clock is None else time.clock_gettime(self._thread_clock)
        except OSError:  # the thread has ended
            return 0.0

    def _yield_gil(self) -> bool:
        """Block the event loop, without the GIL, until the thread finishes one job.

        Return whether it did. One job, although more may be pending: the tasks that wait for a
        finished job submit the next one, and a loop that blocked until all are finished would do
        little else. Beside readers of many keys, that made a 1 ms ticker 4 ms late.
        """
        before = self._finished
        deadline = perf_counter() + MAX_YIELD_S
        while self._finished == before and perf_counter() < deadline:
            sleep(YIELD_STEP_S)
        return self._finished != before


def _clock_of_this_thread() -> int | None:
    if hasattr(time, "pthread_getcpuclockid"):  # absent on macOS and Windows
        return time.pthread_getcpuclockid(threading.get_ident())
    return None
