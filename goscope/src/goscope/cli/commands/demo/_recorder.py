"""An observer that stores the events which the ledger is computed from."""

from __future__ import annotations

import asyncio
from typing import Final

from .... import Cache
from ....events import CircuitRejected, Event, TaskResumed
from ._store import REJECTED, TTL, Resumption, resumption_key


class Recorder:
    """Queues a worker's events; `write` stores them, since an observer cannot await."""

    def __init__(self, worker: str) -> None:
        self._worker: Final = worker
        self._events: asyncio.Queue[Event] = asyncio.Queue()

    def __call__(self, event: Event) -> None:
        """Queue the event if the ledger needs it."""
        if isinstance(event, (CircuitRejected, TaskResumed)):
            self._events.put_nowait(event)

    async def write(self, cache: Cache) -> None:
        """Store events until cancelled."""
        while True:
            event = await self._events.get()
            if isinstance(event, TaskResumed):
                shard = int(event.key.rpartition(":")[2])
                resumption = Resumption(shard, self._worker, event.sequence)
                await cache.set(resumption_key(shard, self._worker), resumption, TTL)
            else:
                await cache.increment(REJECTED, ttl=TTL)
            self._events.task_done()

    async def flush(self) -> None:
        """Wait until all queued events are stored."""
        await self._events.join()
