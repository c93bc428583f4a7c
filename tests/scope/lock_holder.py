"""Another process that holds shared locks: the program that test_lock_processes.py starts.

It enters the block of one lock for each body named, on clocks that are off as it is told, and
says "held" when it is in all of them. When all blocks have ended it tells in a line of JSON what
each of them raised and what its body noted meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable
from typing import Any

from goscope import LockHandle, Scope
from goscope.backend import SystemClock
from goscope_sqlite import SQLiteAdapter

SOON = 2.0
"""Seconds until what is to happen at the same moment as the loss: while the process is stopped."""

FOREVER = 20
"""Seconds that no test lasts: a body that comes to its end was not cancelled."""


class OddClock(SystemClock):
    """The machine's clocks, set to another wall time, or of another boot."""

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


class Victim:
    """One body under the lock of its name, in a task of its own."""

    def __init__(self, gs: Scope, name: str, ttl: str) -> None:
        self._gs = gs
        self._name = name
        self._ttl = ttl
        self.held = asyncio.Event()
        self.noted: list[Any] = []

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
            await asyncio.sleep(0)  # where a cancellation left behind would strike
        notes = getattr(raised, "__notes__", [])
        noted = {"noted": self.noted, "cancelling": counted}
        return {"raised": type(raised).__name__, "notes": notes, **noted}

    async def block(self) -> None:
        async with self._gs.lock(self._name, ttl=self._ttl) as handle:
            self.held.set()
            await getattr(self, self._name)(handle)

    async def waiting(self, handle: LockHandle) -> None:
        await asyncio.sleep(FOREVER)

    async def stepping(self, handle: LockHandle) -> None:
        for _ in range(100 * FOREVER):
            self.noted.append(SystemClock().steady_ms())
            await asyncio.sleep(0.01)

    async def writing(self, handle: LockHandle) -> None:
        """Write under the lock as soon as it goes on, and once more when it is cancelled."""
        try:
            await asyncio.sleep(SOON)
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
            await asyncio.sleep(FOREVER)
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)

    async def failing(self, handle: LockHandle) -> None:
        try:
            await asyncio.sleep(FOREVER)
        finally:
            _ = 1 / 0

    async def limited_inside(self, handle: LockHandle) -> None:
        async with asyncio.timeout(SOON):
            await asyncio.sleep(FOREVER)

    async def limited(self, handle: LockHandle) -> None:
        await asyncio.sleep(FOREVER)

    async def limited_around(self) -> None:
        async with asyncio.timeout(SOON):
            await self.block()

    async def cancelled(self, handle: LockHandle) -> None:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().call_later(SOON, task.cancel)
        await asyncio.sleep(FOREVER)

    async def grouped(self, handle: LockHandle) -> None:
        async def fail() -> None:
            await asyncio.sleep(SOON)
            _ = 1 / 0

        async with asyncio.TaskGroup() as group:
            group.create_task(fail())

    async def nested(self, handle: LockHandle) -> None:
        async with self._gs.lock("nested inside", ttl=self._ttl):
            await asyncio.sleep(FOREVER)


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def main(path: str, bodies: list[str], ttl: str, clock: dict[str, Any]) -> None:
    adapter = SQLiteAdapter(path, locks="shared", clock=OddClock(**clock))
    async with Scope(persistence=adapter) as gs:
        victims = [Victim(gs, body, ttl) for body in bodies]
        tasks: list[Awaitable[Any]] = [asyncio.create_task(victim.run()) for victim in victims]
        for victim in victims:
            await victim.held.wait()
        say("held")
        results = await asyncio.gather(*tasks)
    say(json.dumps(dict(zip(bodies, results, strict=True))))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], **json.loads(sys.argv[2])))
