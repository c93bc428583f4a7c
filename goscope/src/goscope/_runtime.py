"""What exists while a scope is open: the adapter, and what the features share."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from ._lease import Granted, LeaseGuard, LeaseQueue
from ._observers import Observers
from .backend import Clock, settle
from .errors import CapabilityMissing
from .providers import PersistenceAdapter

P = TypeVar("P")


class Runtime:
    """One opened scope. Features get it from their scope on each call and keep nothing of it."""

    def __init__(
        self,
        adapter: PersistenceAdapter,
        name: str,
        clock: Clock,
        observers: Observers,
        ttl_ms: int,
    ) -> None:
        self.adapter: Final = adapter
        self.name: Final = name
        self.clock: Final = clock
        self.observers: Final = observers
        self.lease_ttl_ms: Final = ttl_ms
        self.leases: Final = LeaseQueue(self.require(adapter.lease, "lease"), clock)
        self.locks: Final = None if adapter.lock is None else LeaseQueue(adapter.lock, clock)
        # Not part of the Protocol: an adapter without the option uses the documented default.
        self.lock_ttl_ms: Final[int] = getattr(adapter, "default_lock_ttl_ms", 30_000)
        self._background: set[asyncio.Task[Any]] = set()

    def require(self, provider: P | None, ability: str) -> P:
        """The provider, or `CapabilityMissing` when the backend has none."""
        if provider is None:
            raise CapabilityMissing(
                self.name, f"{ability} provider", "choose a backend that has one"
            )
        return provider

    def guard(self, granted: Granted, key: str, *, cancel_body: bool = True) -> LeaseGuard:
        """Keep a feature's lease while a body runs; ``key`` is what errors and events call it."""
        return LeaseGuard(
            granted,
            self.lease_ttl_ms,
            clock=self.clock,
            observers=self.observers,
            key=key,
            cancel_body=cancel_body,
        )

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run work beside its caller; it is cancelled when the scope closes."""
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    async def stop(self) -> None:
        """Cancel what runs in the background and wait for its end."""
        tasks = list(self._background)
        for task in tasks:
            task.cancel()
        if tasks:
            await settle(asyncio.ensure_future(asyncio.wait(tasks)))
