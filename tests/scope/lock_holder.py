"""A process that holds shared locks; test_lock_processes.py starts this program.

It enters the block of one lock for each body that it is given, and prints "held" when it is in all
of them. If it is to suspend itself, it then starts the timers of the bodies and stops. When all
blocks have ended it prints, as a line of JSON, what each of them raised and what its body noted.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable
from typing import Any

from goscope import LockHandle, Scope
from goscope.backend import SystemClock
from goscope_sqlite import SQLiteAdapter

TIMER_S = 2.0
"""Seconds until the timers of the bodies fire, unless the process is suspended by then."""

ENDLESS_S = 120
"""Seconds that no test lasts: a body that reaches its end was not cancelled."""


class ShiftedClock(SystemClock):
    """The machine's clocks, shifted, or of another boot."""

    def __init__(self, wall_ms: int = 0, steady_ms: int = 0, boot_id: str | None = None) -> None:
        self._wall_ms = wall_ms
        self._steady_ms = steady_ms
        self._boot_id = boot_id

    @property
    def boot_id(self) -> str:
        return self._boot_id or super().boot_id

    def wall_ms(self) -> int:
        return super().wall_ms() + self._wall_ms

    def steady_ms(self) -> int:
        return super().steady_ms() + self._steady_ms


class LockedBody:
    """One body, a method, under the lock of its name. Its timers start when it is ``armed``."""

    def __init__(self, gs: Scope, name: str, ttl: str) -> None:
        self._gs = gs
        self._name = name
        self._ttl = ttl
        self.held = asyncio.Event()
        self.armed = asyncio.Event()
        self.noted: list[Any] = []
        self._limit = asyncio.timeout(None)

    async def run(self) -> dict[str, Any]:
        raised: BaseException | None = None
        task = asyncio.current_task()
        assert task is not None
        try:
            await getattr(self, f"{self._name}_around", self.block)()
        except BaseException as exc:
            raised = exc
        counted = task.cancelling()
        for _ in range(3):
            await asyncio.sleep(0)  # a cancellation that was left behind would be raised here
        notes = getattr(raised, "__notes__", [])
        noted = {"noted": self.noted, "cancelling": counted}
        return {"raised": type(raised).__name__, "notes": notes, **noted}

    async def block(self) -> None:
        async with self._gs.lock(self._name, ttl=self._ttl) as handle:
            self.held.set()
            await self.armed.wait()
            await getattr(self, self._name)(handle)

    async def waiting(self, handle: LockHandle) -> None:
        await asyncio.sleep(ENDLESS_S)

    async def stepping(self, handle: LockHandle) -> None:
        for _ in range(100 * ENDLESS_S):
            self.noted.append(SystemClock().steady_ms())
            await asyncio.sleep(0.01)

    async def writing(self, handle: LockHandle) -> None:
        """Write under the lock when the timer fires, and once more when it is cancelled."""
        try:
            await asyncio.sleep(TIMER_S)
            await self._write(handle)
        except asyncio.CancelledError:
            await self._write(handle)
            raise

    async def _write(self, handle: LockHandle) -> None:
        try:
            await self._gs.cache.set("stock", "late", fence=handle)
        except Exception as exc:
            self.noted.append(type(exc).__name__)
            raise
        self.noted.append("applied")

    async def swallowing(self, handle: LockHandle) -> None:
        try:
            await asyncio.sleep(ENDLESS_S)
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)

    async def failing(self, handle: LockHandle) -> None:
        try:
            await asyncio.sleep(ENDLESS_S)
        finally:
            _ = 1 / 0

    async def limited_inside(self, handle: LockHandle) -> None:
        async with asyncio.timeout(TIMER_S):
            await asyncio.sleep(ENDLESS_S)

    async def limited(self, handle: LockHandle) -> None:
        loop = asyncio.get_running_loop()
        self._limit.reschedule(loop.time() + TIMER_S)
        await asyncio.sleep(ENDLESS_S)

    async def limited_around(self) -> None:
        async with self._limit:
            await self.block()

    async def cancelled(self, handle: LockHandle) -> None:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().call_later(TIMER_S, task.cancel)
        await asyncio.sleep(ENDLESS_S)

    async def grouped(self, handle: LockHandle) -> None:
        async def fail() -> None:
            await asyncio.sleep(TIMER_S)
            _ = 1 / 0

        async with asyncio.TaskGroup() as group:
            group.create_task(fail())

    async def nested(self, handle: LockHandle) -> None:
        await asyncio.sleep(ENDLESS_S)

    async def nested_around(self) -> None:
        async with self._gs.lock("nested outside", ttl=self._ttl):
            await self.block()


def print_line(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def main(path: str, names: list[str], ttl: str, suspend: bool, clock: dict[str, Any]) -> None:
    adapter = SQLiteAdapter(path, locks="shared", clock=ShiftedClock(**clock))
    async with Scope(persistence=adapter) as gs:
        bodies = [LockedBody(gs, name, ttl) for name in names]
        tasks: list[Awaitable[Any]] = [asyncio.create_task(body.run()) for body in bodies]
        for body in bodies:
            await body.held.wait()
        print_line("held")
        for body in bodies:
            body.armed.set()
        if suspend:
            for _ in range(5):
                await asyncio.sleep(0)  # each body starts its timer
            os.kill(os.getpid(), signal.SIGSTOP)
        results = await asyncio.gather(*tasks)
    print_line(json.dumps(dict(zip(names, results, strict=True))))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], **json.loads(sys.argv[2])))
