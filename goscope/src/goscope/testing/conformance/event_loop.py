"""The contract with the event loop: any call can be cancelled anywhere, and none blocks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import pytest

from ._base import Conformance, locks_of
from ._operations import Operation, operations_of

T = TypeVar("T")

PATIENCE: Final = 10.0
"""Seconds of real time after which a call that should take milliseconds is taken for hung."""

BLOCKED: Final = 0.1
"""Seconds without a turn of the event loop that no call may cause."""


class EventLoopConformance(Conformance, abstract=True):
    """Every operation of every provider whose contract the class inherits."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        super().pytest_generate_tests(metafunc)
        if "operation" in metafunc.fixturenames:
            claimed = operations_of(self)
            metafunc.parametrize("operation", claimed, ids=[it.name for it in claimed])

    async def test_loop_a_call_can_be_cancelled_at_every_await(
        self, tmp_path: Path, operation: Operation
    ) -> None:
        """Wherever it is cancelled the call ends soon, and the store goes on working."""
        async with self.open_adapter(tmp_path) as adapter:
            for number in range(1, 100):
                call = CancelledAt(number, operation.call(adapter, 2 * number))
                await _in_time(call.run(), f"{operation.name}, cancelled at its await {number},")
                swallowed = f"{operation.name}, cancelled at its await {number}, did not say so"
                assert call.was_cancelled or call.suspensions < number, swallowed
                after = operation.call(adapter, 2 * number + 1)
                await _in_time(after, f"the call after one cancelled at its await {number}")
                if call.suspensions < number:
                    return
            pytest.fail(f"{operation.name} suspends at least 100 times: do less in one call")

    async def test_loop_an_acquire_cancelled_at_any_await_keeps_nothing(
        self, tmp_path: Path
    ) -> None:
        """The caller has no handle, so nobody could ever release the lease."""
        async with self.open_adapter(tmp_path) as adapter:
            locks = locks_of(adapter)
            for number in range(1, 100):
                call = CancelledAt(number, locks.acquire("key", "1h"))
                handle = await call.run()
                if call.suspensions < number:
                    return
                if handle is not None:
                    await handle.release()
                holder = await locks.holder("key")
                assert holder is None, f"cancelled at its await {number}, acquire kept the lease"

    async def test_loop_no_call_blocks_it(self, tmp_path: Path, operation: Operation) -> None:
        """While a call waits for the store the event loop serves others."""
        async with self.open_adapter(tmp_path) as adapter:
            # The best of some: whoever blocks does it each time, a busy machine only now and then.
            blocked = [
                await longest_step(partial(operation.call, adapter, number)) for number in range(4)
            ]
            longest = f"{min(blocked):.3f} s"
            assert min(blocked) < BLOCKED, f"{operation.name} blocked the event loop for {longest}"


class CancelledAt(Generic[T]):
    """An awaited call whose task is cancelled when it suspends for the ``number``-th time."""

    def __init__(self, number: int, call: Awaitable[T]) -> None:
        self.suspensions = 0
        self._number = number
        self._call = call
        self._task: asyncio.Task[T] | None = None

    @property
    def was_cancelled(self) -> bool:
        return self._task is not None and self._task.cancelled()

    async def run(self) -> T | None:
        """The result if the call was done before it was cancelled, else None."""
        self._task = asyncio.create_task(self._counted())
        await asyncio.wait([self._task])
        return None if self._task.cancelled() else self._task.result()

    async def _counted(self) -> T:
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
            except BaseException as exc:  # the cancellation, which belongs to the call
                step = partial(steps.throw, exc)


async def longest_step(call: Callable[[], Awaitable[object]]) -> float:
    """The longest time in seconds the event loop had no turn while the call ran."""
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


async def _in_time(call: Awaitable[object], what: str) -> None:
    try:
        async with asyncio.timeout(PATIENCE):
            await call
    except TimeoutError:
        pytest.fail(f"{what} did not end within {PATIENCE:g} s")
