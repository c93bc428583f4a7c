"""An observer that keeps in the store what the ledger is computed from."""

from __future__ import annotations

import asyncio
from typing import Final

from .... import Cache
from ....events import CircuitRejected, Event, TaskResumed
from ._store import SPARED, TTL, Resumption, resumption_key


class Recorder:
    """Takes a worker's events; `write` brings them into the store, since observers cannot wait."""

    def __init__(self, worker: str) -> None:
        self._worker: Final = worker
        self._events: asyncio.Queue[Event] = asyncio.Queue()

    def __call__(self, event: Event) -> None:
        """Take an event, if the ledger asks for it."""
        if isinstance(event, (CircuitRejected, TaskResumed)):
            self._events.put_nowait(event)

    async def write(self, cache: Cache) -> None:
        """Bring events into the store until cancelled."""
        while True:
            event = await self._events.get()
            if isinstance(event, TaskResumed):
                shard = int(event.key.rpartition(":")[2])
                resumption = Resumption(shard, self._worker, event.sequence)
                await cache.set(resumption_key(shard, self._worker), resumption, TTL)
            else:
                await cache.increment(SPARED, ttl=TTL)
            self._events.task_done()

    async def flush(self) -> None:
        """Wait until the events so far are in the store."""
        await self._events.join()
