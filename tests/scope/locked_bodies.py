"""Bodies that run under a lock and lose it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from goscope import Scope

from .support import Store, ticks

TTL = "9s"
"""Renewed every 3 s."""


Body = Callable[[], Awaitable[object]]


class LockedBody:
    """A task that runs a body under the lock "door", and a few more ticks after the block."""

    def __init__(self, gs: Scope, body: Body, *, renew: bool = True) -> None:
        self.raised: BaseException | None = None
        self.cancelling = -1
        self.task = asyncio.create_task(self._run(gs, body, renew))

    async def _run(self, gs: Scope, body: Body, renew: bool) -> None:
        try:
            async with gs.lock("door", ttl=TTL, renew=renew):
                await body()
        except BaseException as exc:
            self.raised = exc
        task = asyncio.current_task()
        assert task is not None
        self.cancelling = task.cancelling()
        await ticks(3)  # a cancellation that was left behind would be raised here

    async def end(self) -> BaseException | None:
        """The exception of the block. The task itself must not have been cancelled."""
        await asyncio.wait([self.task], timeout=30)
        assert self.task.done(), "the body is still running"
        assert not self.task.cancelled(), "a cancellation was left behind"
        return self.raised


async def wait_forever() -> None:
    await asyncio.get_running_loop().create_future()


async def revoke_lock(gs: Scope, key: str = "door") -> None:
    """End the grant without its holder, whose next renewal is refused."""
    locks = gs.persistence.lock
    assert locks is not None
    await locks.force_release(key)


async def lose_lock(store: Store, gs: Scope) -> None:
    """Revoke the lock of the body, and let time pass until its renewal has been refused."""
    await store.wait_until_idle()
    await revoke_lock(gs)
    await store.advance("3100ms")
