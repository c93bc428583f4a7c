"""The contract with the event loop: a call can be cancelled at every await, and never blocks."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import Awaitable, Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import pytest

from ._base import Conformance, locks_of
from ._checks import HANG_S
from ._operations import Operation, operations_of

T = TypeVar("T")

BLOCKED_S: Final = 0.1
"""How long no call may block the event loop."""

ATTEMPTS: Final = 10
"""How many calls may seem to block. A blocking call always does, a busy machine delays some."""

MAX_AWAITS: Final = 100
"""How many times a call may suspend."""


class EventLoopConformance(Conformance, abstract=True):
    """Every operation of every provider whose contract the class inherits."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        super().pytest_generate_tests(metafunc)
        if "operation" in metafunc.fixturenames:
            operations = operations_of(self)
            metafunc.parametrize("operation", operations, ids=[it.name for it in operations])

    async def test_loop_a_call_can_be_cancelled_at_every_await(
        self, tmp_path: Path, operation: Operation
    ) -> None:
        """A call that is cancelled at any await ends soon, and the store still works."""
        async with self.open_adapter(tmp_path) as adapter:
            for number in range(1, MAX_AWAITS):
                call = CancelledAt(number, operation.call(adapter, 2 * number))
                await _without_hang(call.run(), f"{operation.name}, cancelled at await {number},")
                swallowed = f"{operation.name} swallowed its cancellation at await {number}"
                assert call.was_cancelled or call.suspensions < number, swallowed
                after = operation.call(adapter, 2 * number + 1)
                await _without_hang(after, f"the call after one cancelled at await {number}")
                if call.suspensions < number:
                    return
            pytest.fail(f"{operation.name} suspends {MAX_AWAITS} times: do less in one call")

    async def test_loop_a_cancelled_acquire_keeps_no_lease(self, tmp_path: Path) -> None:
        """The caller has no handle, so nothing could release the lease."""
        async with self.open_adapter(tmp_path) as adapter:
            locks = locks_of(adapter)
            for number in range(1, MAX_AWAITS):
                call = CancelledAt(number, locks.acquire("key", "1h"))
                handle = await call.run()
                if call.suspensions < number:
                    return
                if handle is not None:
                    await handle.release()
                holder = await locks.holder("key")
                assert holder is None, f"acquire() kept the lease when cancelled at await {number}"

    async def test_loop_is_never_blocked(self, tmp_path: Path, operation: Operation) -> None:
        """The event loop runs other tasks while a call waits for the store."""
        async with self.open_adapter(tmp_path) as adapter:
            numbers = itertools.count()
            blocked = await shortest_block(lambda: operation.call(adapter, next(numbers)))
            longest = f"{blocked:.3f} s"
            assert blocked < BLOCKED_S, f"{operation.name} blocked the event loop for {longest}"


class CancelledAt(Generic[T]):
    """An awaited call whose task is cancelled when it suspends for the ``number``-th time."""

    def __init__(self, number: int, call: Awaitable[T]) -> None:
        self.suspensions = 0
        self._number = number
        self._call = call
        self._task: asyncio.Task[Any] | None = None

    @property
    def was_cancelled(self) -> bool:
        return self._task is not None and self._task.cancelled()

    async def run(self) -> T | None:
        """The result if the call finished before it was cancelled, else None."""
        task = asyncio.create_task(self._counted())
        await asyncio.wait([task])
        return None if task.cancelled() else task.result()

    async def _counted(self) -> T:
        self._task = asyncio.current_task()  # an eager task suspends before create_task returns
        return await self

    def __await__(self) -> Generator[Any, Any, T]:
        steps: Any = self._call.__await__()
        step = partial(next, steps)
        while True:
            try:
                awaited = step()
            except StopIteration as done:
                result: T = done.value
                return result
            self.suspensions += 1
            if self.suspensions == self._number and self._task is not None:
                self._task.cancel()
            try:
                yield awaited
                step = partial(next, steps)
            except BaseException as exc:  # the cancellation is for the call
                step = partial(steps.throw, exc)


async def shortest_block(call: Callable[[], Awaitable[object]]) -> float:
    """The shortest of the longest blocks, in seconds, of some calls; the first that is allowed."""
    shortest = math.inf
    for _ in range(ATTEMPTS):
        shortest = min(shortest, await longest_block(call))
        if shortest < BLOCKED_S:
            break
    return shortest


async def longest_block(call: Callable[[], Awaitable[object]]) -> float:
    """The longest time, in seconds, for which the event loop was blocked while the call ran."""
    last = time.perf_counter()
    longest = 0.0

    async def tick() -> None:
        nonlocal last, longest
        while True:
            now = time.perf_counter()
            last, longest = now, max(longest, now - last)
            await asyncio.sleep(0.001)

    ticking = asyncio.create_task(tick())
    try:
        await asyncio.sleep(0)
        await call()
        return max(longest, time.perf_counter() - last)
    finally:
        ticking.cancel()


async def _without_hang(call: Awaitable[object], what: str) -> None:
    try:
        async with asyncio.timeout(HANG_S):
            await call
    except TimeoutError:
        pytest.fail(f"{what} did not end within {HANG_S:g} s")
