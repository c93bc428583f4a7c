"""A loop that never pauses yields the GIL to its threads; no other loop blocks for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import thread_time

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
    """An event loop and the CPU clocks of two threads, which only advance in `work` and `sleep`."""

    def __init__(self) -> None:
        self.now = 100.0
        self.worked = 0.0
        self.thread_worked = 0.0
        self.timer: tuple[float, Callable[[], None]] | None = None
        self.blocked_s = 0.0
        self.during_sleep: Callable[[], object] = lambda: None

    def call_later(self, seconds: float, callback: Callable[[], None]) -> object:
        assert seconds >= 0
        assert self.timer is None
        self.timer = (self.now + seconds, callback)
        return self.timer

    def work(self, seconds: float, share: float = 1.0, thread: float = 0.0) -> None:
        """Advance the time; the loop and the thread use those shares of it as CPU time."""
        end = self.now + seconds
        while self.timer is not None and self.timer[0] <= end:
            (at, callback), self.timer = self.timer, None
            self._pass(at - self.now, share, thread)
            callback()
        self._pass(max(end - self.now, 0.0), share, thread)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.blocked_s += seconds
        self.during_sleep()

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


def run_job(guard: GilStarvationGuard) -> None:
    """Run one job, as the thread does."""
    guard.run(lambda: None)


def test_a_busy_loop_blocks_until_the_thread_finishes_its_job(loop: Loop) -> None:
    guard = GilStarvationGuard()
    guard.job_submitted()
    loop.during_sleep = lambda: run_job(guard)
    loop.work(FIRST_CHECK_S * 0.9)
    assert loop.blocked_s == 0
    loop.work(FIRST_CHECK_S * 0.2)
    assert loop.blocked_s == pytest.approx(starvation_guard.YIELD_STEP_S)


def test_it_blocks_for_one_job_however_many_are_pending(loop: Loop) -> None:
    guard = GilStarvationGuard()
    for _ in range(5):
        guard.job_submitted()
    loop.during_sleep = lambda: run_job(guard)
    loop.work(FIRST_CHECK_S)
    assert loop.blocked_s == pytest.approx(starvation_guard.YIELD_STEP_S)
    loop.work(FIRST_CHECK_S)
    assert loop.blocked_s == pytest.approx(2 * starvation_guard.YIELD_STEP_S)


def test_a_loop_with_pauses_never_blocks(loop: Loop) -> None:
    guard = GilStarvationGuard()
    guard.job_submitted()
    loop.work(1, share=starvation_guard.BUSY_LOOP_SHARE * 0.9)
    assert loop.blocked_s == 0


def test_a_loop_does_not_block_for_a_thread_with_enough_cpu_time(loop: Loop) -> None:
    guard = GilStarvationGuard()
    run_job(guard)  # makes the thread's clock known
    guard.job_submitted()
    loop.work(1, share=0.9, thread=0.9 * starvation_guard.STARVED_THREAD_RATIO * 1.1)
    assert loop.blocked_s == 0
    loop.work(
        1, share=0.9, thread=0.9 * starvation_guard.STARVED_THREAD_RATIO * 0.9
    )  # waking up without the GIL is CPU time too
    assert loop.blocked_s > 0


def test_a_loop_does_not_block_for_a_thread_that_keeps_up(loop: Loop) -> None:
    guard = GilStarvationGuard()
    for _ in range(100):
        guard.job_submitted()
        loop.work(FIRST_CHECK_S / 2)
        run_job(guard)
        guard.job_finished()
    assert loop.blocked_s == 0


def test_a_loop_does_not_block_for_a_queue_that_shrinks(loop: Loop) -> None:
    guard = GilStarvationGuard()
    for _ in range(100):
        guard.job_submitted()
    for _ in range(100):
        loop.work(FIRST_CHECK_S / 2)
        run_job(guard)
        guard.job_finished()
    assert loop.blocked_s == 0


def test_the_checks_of_a_thread_that_waits_for_something_else_back_off(loop: Loop) -> None:
    guard = GilStarvationGuard()
    guard.job_submitted()
    loop.work(FIRST_CHECK_S)
    assert loop.blocked_s == pytest.approx(MAX_YIELD_S, abs=2 * starvation_guard.YIELD_STEP_S)
    loop.work(10)
    limit_s = 10 / (MAX_CHECK_INTERVAL_S + MAX_YIELD_S) * MAX_YIELD_S
    assert loop.blocked_s < 1.2 * limit_s
    before = loop.blocked_s
    run_job(guard)
    guard.job_finished()
    guard.job_submitted()  # the next job is checked early again
    loop.work(MAX_CHECK_INTERVAL_S + FIRST_CHECK_S)
    assert loop.blocked_s > before


def test_an_ended_thread_raises_no_error(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(_: int) -> float:
        raise OSError("no such thread")

    guard = GilStarvationGuard()
    run_job(guard)
    monkeypatch.setattr("time.clock_gettime", ended)
    guard.job_submitted()
    loop.work(FIRST_CHECK_S)
    assert loop.blocked_s > 0


def test_no_timer_remains_without_a_pending_job(loop: Loop) -> None:
    guard = GilStarvationGuard()
    with pytest.raises(OSError, match="full"), guard.watch():
        raise OSError("full")
    loop.work(1)
    assert loop.timer is None
    assert loop.blocked_s == 0


MAX_TICKS = 4000
"""Without the guard, a thread needs some twenty thousand ticks for what is tested here."""


@asynccontextmanager
async def busy_loop() -> AsyncGenerator[None]:
    """Keep the loop busy with callbacks of 1 ms; the block must end within `MAX_TICKS` of them."""
    ticks = 0

    async def spin() -> None:
        nonlocal ticks
        while ticks < MAX_TICKS:
            ticks += 1
            until = thread_time() + 0.001  # not the wall clock, which runs for other processes too
            while thread_time() < until:
                pass
            await asyncio.sleep(0)

    spinning = asyncio.create_task(spin())
    try:
        yield
        assert ticks < MAX_TICKS
    finally:
        spinning.cancel()
        await asyncio.wait([spinning])


@pytest.mark.asyncio
async def test_writes_and_long_reads_finish_beside_a_busy_loop(path: Path) -> None:
    async with busy_loop(), SQLiteAdapter(path) as adapter:
        for number in range(20):
            await adapter.cache.set(f"key:{number}", number)
        assert len(await adapter.cache.keys("key:*")) == 20


def test_a_reconnected_adapter_finishes_its_writes_beside_a_busy_loop(path: Path) -> None:
    adapter = SQLiteAdapter(path)

    async def use() -> None:
        async with busy_loop(), adapter:
            for number in range(10):
                await adapter.cache.set(f"key:{number}", number)

    for _ in range(2):  # the first loop ends before the next check of the thread
        asyncio.run(use())


@pytest.mark.asyncio
async def test_a_worker_finishes_jobs_and_errors_beside_a_busy_loop() -> None:
    def fail() -> None:
        raise OSError("full")

    worker = Worker("worker")
    async with busy_loop():
        for _ in range(10):
            assert await worker.run(divmod, 7, 2) == (3, 1)
            with pytest.raises(OSError, match="full"):
                await worker.run(fail)
    worker.stop()
