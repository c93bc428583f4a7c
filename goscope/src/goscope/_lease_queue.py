"""Waiting for a lease, first come, first served within this process."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, NamedTuple

from ._store_answer import answer_within
from ._tools.clock import Clock
from ._tools.notifier import wait_with_timeout
from ._tools.polling import poll_interval_ms
from .errors import ScopeNotOpen
from .providers import LockHandle, LockProvider, SupportsWait

FINISHED_CHECK_MS: Final = 250
"""How often a waiter checks whether another owner has finished the work it waits for."""


class Granted(NamedTuple):
    """A lease that was just granted; it runs at least until the steady time ``deadline``."""

    handle: LockHandle
    deadline: int


class LeaseQueue:
    """Acquires leases of one provider, first come, first served within this process."""

    def __init__(self, provider: LockProvider, clock: Clock) -> None:
        self.provider: Final = provider
        self._clock = clock
        self._queues: dict[str, deque[asyncio.Future[None]]] = {}
        self._waitable = provider if isinstance(provider, SupportsWait) else None
        self._waiting: set[asyncio.Task[None]] = set()
        self._closed = False

    def close(self) -> None:
        """End every wait with `ScopeNotOpen`."""
        self._closed = True
        for task in self._waiting:
            task.cancel()
        for queue in self._queues.values():
            for ticket in queue:
                if not ticket.done():
                    ticket.set_exception(_closed_while_waiting())
                    ticket.exception()  # retrieved: a head does not await its own

    async def acquire(
        self,
        key: str,
        ttl_ms: int,
        *,
        wait_ms: int | None = None,
        finished: Callable[[], Awaitable[bool]] | None = None,
        owner: str | None = None,
        answer_ms: int | None = None,
    ) -> Granted | None:
        """Acquire the lease, waiting up to ``wait_ms`` (None: no limit, 0: try once).

        Returns None when the time is over, or once ``finished()`` says that the lease is no longer
        needed. A cancelled caller leaves neither a lease nor a ticket in the queue behind. Raises
        `BackendBusy` when the store takes longer than ``answer_ms`` to grant or refuse the lease.
        """

        def request() -> Coroutine[Any, Any, LockHandle | None]:
            asking = self.provider.acquire(key, ttl_ms, owner)
            if answer_ms is None:
                return asking
            return answer_within(asking, answer_ms, self._clock, undo=_release)

        queue = self._queues.setdefault(key, deque())
        started = self._clock.steady_ms()
        ticket: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(ticket)
        try:
            if queue[0] is not ticket and not await self._wait_for_head(ticket, wait_ms):
                return None
            return await self._acquire_as_head(key, request, ttl_ms, started, wait_ms, finished)
        finally:
            self._dequeue(key, queue, ticket)

    async def _wait_for_head(self, ticket: asyncio.Future[None], wait_ms: int | None) -> bool:
        if wait_ms is not None and not await wait_with_timeout(ticket, wait_ms / 1000, self._clock):
            return False
        await ticket
        return True

    def _dequeue(
        self, key: str, queue: deque[asyncio.Future[None]], ticket: asyncio.Future[None]
    ) -> None:
        queue.remove(ticket)
        if not queue:
            self._queues.pop(key, None)
        elif not queue[0].done():
            queue[0].set_result(None)

    async def _acquire_as_head(
        self,
        key: str,
        request: Callable[[], Coroutine[Any, Any, LockHandle | None]],
        ttl_ms: int,
        started: int,
        wait_ms: int | None,
        finished: Callable[[], Awaitable[bool]] | None,
    ) -> Granted | None:
        """Try, and wait for a release, until the lease is granted; for the head of the queue."""
        became_head = self._clock.steady_ms()
        while True:
            requested = self._clock.steady_ms()
            handle = await request()
            if self._closed:
                if handle is not None:
                    await handle.release()
                raise _closed_while_waiting()
            if handle is not None:
                return Granted(handle, requested + ttl_ms)
            now = self._clock.steady_ms()
            left_ms = None if wait_ms is None else started + wait_ms - now
            if left_ms is not None and left_ms <= 0:
                return None
            if await self._wait(self._wait_released(key, now - became_head, left_ms), finished):
                return None

    async def _wait(
        self,
        waiting: Coroutine[Any, Any, None],
        finished: Callable[[], Awaitable[bool]] | None,
    ) -> bool:
        """Wait for the release, and return whether the work was finished by then."""
        task = asyncio.create_task(waiting)
        self._waiting.add(task)
        try:
            if finished is None:
                await asyncio.wait([task])
            else:
                while not await wait_with_timeout(task, FINISHED_CHECK_MS / 1000, self._clock):
                    if await finished():
                        return True
            if self._closed:
                raise _closed_while_waiting()
            await task
            return finished is not None and await finished()
        finally:
            self._waiting.discard(task)
            task.cancel()

    async def _wait_released(self, key: str, waited_ms: int, left_ms: int | None) -> None:
        if self._waitable is not None:
            await self._waitable.wait_released(key, left_ms)
            return
        pause_ms = poll_interval_ms(waited_ms)
        if left_ms is not None:
            pause_ms = min(pause_ms, left_ms)
        await self._clock.sleep(pause_ms / 1000)


async def _release(handle: LockHandle | None) -> None:
    if handle is not None:
        await handle.release()


def _closed_while_waiting() -> ScopeNotOpen:
    return ScopeNotOpen("the scope was closed while this call waited for a lease")
