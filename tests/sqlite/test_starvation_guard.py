"""A loop that never pauses gives its threads the interpreter; no other loop stands still."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter

import pytest

from goscope_sqlite import SQLiteAdapter
from goscope_sqlite._engine import starvation_guard
from goscope_sqlite._engine.starvation_guard import (
    FIRST_CHECK_S,
    MAX_CHECK_INTERVAL_S,
    MAX_YIELD_S,
    GilStarvationGuard,
)
from goscope_sqlite._engine.worker import Worker


class Loop:
    """A loop and the clocks of two threads, which only go when they are told to."""

    def __init__(self) -> None:
        self.now = 100.0
        self.worked = 0.0
        self.thread_worked = 0.0
        self.timer: tuple[float, Callable[[], None]] | None = None
        self.stood_still = 0.0
        self.meanwhile: Callable[[], object] = lambda: None

    def call_later(self, seconds: float, callback: Callable[[], None]) -> object:
        assert seconds >= 0
        assert self.timer is None
        self.timer = (self.now + seconds, callback)
        return self.timer

    def work(self, seconds: float, share: float = 1.0, thread: float = 0.0) -> None:
        """Let the time pass, in which the loop and the thread work for those shares of it."""
        end = self.now + seconds
        while self.timer is not None and self.timer[0] <= end:
            (at, callback), self.timer = self.timer, None
            self._pass(at - self.now, share, thread)
            callback()
        self._pass(max(end - self.now, 0.0), share, thread)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.stood_still += seconds
        self.meanwhile()

    def clock_gettime(self, _: int) -> float:
        return self.thread_worked

    def _pass(self, seconds: float, share: float, thread: float) -> None:
        self.now += seconds
        self.worked += seconds * share
        self.thread_worked += seconds * thread


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    loop = Loop()
    monkeypatch.setattr(starvation_guard, "perf_counter", lambda: loop.now)
    monkeypatch.setattr(starvation_guard, "thread_time", lambda: loop.worked)
    monkeypatch.setattr("time.clock_gettime", loop.clock_gettime)
    monkeypatch.setattr(starvation_guard, "sleep", loop.sleep)
    monkeypatch.setattr("asyncio.get_running_loop", lambda: loop)
    return loop


def do(guard: GilStarvationGuard) -> None:
    """Do one job, as the thread does."""
    guard.run(lambda: None)


def test_a_busy_loop_stands_still_until_the_thread_is_done(loop: Loop) -> None:
    guard = GilStarvationGuard()
    guard.job_submitted()
    loop.meanwhile = lambda: do(guard)
    loop.work(FIRST_CHECK_S * 0.9)
    assert loop.stood_still == 0
    loop.work(FIRST_CHECK_S * 0.2)
    assert loop.stood_still == pytest.approx(starvation_guard.YIELD_STEP_S)


def test_it_stands_still_for_one_job_whatever_the_thread_was_given(loop: Loop) -> None:
    guard = GilStarvationGuard()
    for _ in range(5):
        guard.job_submitted()
    loop.meanwhile = lambda: do(guard)
    loop.work(FIRST_CHECK_S)
    assert loop.stood_still == pytest.approx(starvation_guard.YIELD_STEP_S)
    loop.work(FIRST_CHECK_S)
    assert loop.stood_still == pytest.approx(2 * starvation_guard.YIELD_STEP_S)


def test_a_loop_that_has_pauses_never_stands_still(loop: Loop) -> None:
    guard = GilStarvationGuard()
    guard.job_submitted()
    loop.work(1, share=starvation_guard.BUSY_LOOP_SHARE * 0.9)
    assert loop.stood_still == 0


def test_a_thread_that_works_as_well_is_left_alone(loop: Loop) -> None:
    guard = GilStarvationGuard()
    do(guard)  # so that it is known which thread it is
    guard.job_submitted()
    loop.work(1, share=0.9, thread=0.9 * starvation_guard.STARVED_THREAD_RATIO * 1.1)
    assert loop.stood_still == 0
    loop.work(
        1, share=0.9, thread=0.9 * starvation_guard.STARVED_THREAD_RATIO * 0.9
    )  # what wakes in vain works too
    assert loop.stood_still > 0


def test_a_thread_that_gets_along_is_left_alone(loop: Loop) -> None:
    guard = GilStarvationGuard()
    for _ in range(100):
        guard.job_submitted()
        loop.work(FIRST_CHECK_S / 2)
        do(guard)
        guard.job_finished()
    assert loop.stood_still == 0


def test_a_queue_that_gets_shorter_is_left_alone(loop: Loop) -> None:
    guard = GilStarvationGuard()
    for _ in range(100):
        guard.job_submitted()
    for _ in range(100):
        loop.work(FIRST_CHECK_S / 2)
        do(guard)
        guard.job_finished()
    assert loop.stood_still == 0


def test_a_thread_that_waits_for_something_else_costs_ever_less(loop: Loop) -> None:
    guard = GilStarvationGuard()
    guard.job_submitted()
    loop.work(FIRST_CHECK_S)
    assert loop.stood_still == pytest.approx(MAX_YIELD_S, abs=2 * starvation_guard.YIELD_STEP_S)
    loop.work(10)
    most = 10 / (MAX_CHECK_INTERVAL_S + MAX_YIELD_S) * MAX_YIELD_S
    assert loop.stood_still < 1.2 * most
    before = loop.stood_still
    do(guard)
    guard.job_finished()
    guard.job_submitted()  # the next job is helped soon again
    loop.work(MAX_CHECK_INTERVAL_S + FIRST_CHECK_S)
    assert loop.stood_still > before


def test_a_thread_that_has_ended_is_no_error(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(_: int) -> float:
        raise OSError("no such thread")

    guard = GilStarvationGuard()
    do(guard)
    monkeypatch.setattr("time.clock_gettime", ended)
    guard.job_submitted()
    loop.work(FIRST_CHECK_S)
    assert loop.stood_still > 0


def test_nothing_is_left_behind_when_nothing_is_out(loop: Loop) -> None:
    guard = GilStarvationGuard()
    with pytest.raises(OSError, match="full"), guard.watch():
        raise OSError("full")
    loop.work(1)
    assert loop.timer is None
    assert loop.stood_still == 0


TURNS = 4000
"""Without help, some twenty thousand of them pass until a thread has done what is tested here."""


@asynccontextmanager
async def busy_loop() -> AsyncGenerator[None]:
    """Keep the loop busy in slices of a millisecond; the block must not last for all of them."""
    turns = 0

    async def spin() -> None:
        nonlocal turns
        while turns < TURNS:
            turns += 1
            until = perf_counter() + 0.001
            while perf_counter() < until:
                pass
            await asyncio.sleep(0)

    spinning = asyncio.create_task(spin())
    try:
        yield
        assert turns < TURNS
    finally:
        spinning.cancel()
        await asyncio.wait([spinning])


@pytest.mark.asyncio
async def test_writes_and_long_reads_get_through_a_busy_loop(path: Path) -> None:
    async with busy_loop(), SQLiteAdapter(path) as adapter:
        for number in range(20):
            await adapter.cache.set(f"key:{number}", number)
        assert len(await adapter.cache.keys("key:*")) == 20


def test_an_adapter_that_was_used_in_another_loop_gets_through_as_well(path: Path) -> None:
    adapter = SQLiteAdapter(path)

    async def use() -> None:
        async with busy_loop(), adapter:
            for number in range(10):
                await adapter.cache.set(f"key:{number}", number)

    for _ in range(2):  # the first loop ends before it would have looked at the thread again
        asyncio.run(use())


@pytest.mark.asyncio
async def test_a_worker_gets_through_a_busy_loop_and_its_errors_too() -> None:
    def fail() -> None:
        raise OSError("full")

    worker = Worker("worker")
    async with busy_loop():
        for _ in range(10):
            assert await worker.run(divmod, 7, 2) == (3, 1)
            with pytest.raises(OSError, match="full"):
                await worker.run(fail)
    worker.stop()
