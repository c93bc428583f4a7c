"""What exists while a scope is open: the adapter, and what the features share."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final, TypeVar

from ._lease_guard import LeaseGuard
from ._lease_queue import Granted, LeaseQueue
from ._observers import Observers
from ._tools.cancellation import finish_before_cancel
from .errors import CapabilityMissing, GoscopeError
from .events import Event, LockLost
from .providers import PersistenceAdapter, SupportsEvents

P = TypeVar("P")


class Runtime:
    """One opened scope. Features get it from their scope on each call and keep nothing of it."""

    def __init__(
        self,
        adapter: PersistenceAdapter,
        name: str,
        observers: Observers,
        lease_ttl_ms: int,
        *,
        owns_adapter: bool,
    ) -> None:
        self.adapter: Final = adapter
        self.name: Final = name
        self.clock: Final = adapter.clock
        self.observers: Final = observers
        self.lease_ttl_ms: Final = lease_ttl_ms
        self.leases: Final = LeaseQueue(self.require(adapter.lease, "lease"), self.clock)
        self.locks: Final = None if adapter.lock is None else LeaseQueue(adapter.lock, self.clock)
        self.lock_blocks: Final[dict[tuple[asyncio.Task[Any] | None, str], LeaseGuard]] = {}
        """The blocks that hold a lock, by the task that entered and the key."""
        self.renewed: Final[set[LeaseGuard]] = set()
        """What keeps the locks that are renewed without a block."""
        self._owns_adapter = owns_adapter
        self._background: set[asyncio.Task[Any]] = set()
        if isinstance(adapter, SupportsEvents):
            adapter.observe(observers.emit)

    def require(self, provider: P | None, ability: str) -> P:
        """The provider, or `CapabilityMissing` when the backend has none."""
        if provider is None:
            raise CapabilityMissing(
                self.name, f"{ability} provider", "choose a backend that has one"
            )
        return provider

    def guard(
        self,
        granted: Granted,
        key: str,
        *,
        ttl_ms: int | None = None,
        renew: bool = True,
        cancel_body: bool = True,
    ) -> LeaseGuard:
        """Keep a lease while a body runs; errors and events name it ``key``.

        ``ttl_ms`` is the ttl that it was granted with, `lease_ttl_ms` by default.
        """
        return LeaseGuard(
            granted,
            self.lease_ttl_ms if ttl_ms is None else ttl_ms,
            clock=self.clock,
            key=key,
            on_lost=partial(self._emit_lost, key),
            renew=renew,
            cancel_body=cancel_body,
        )

    def event_start(self) -> int:
        """The steady time, to pass to `emit` as ``since``; 0, for free, without observers."""
        return self.clock.steady_ms() if self.observers.active else 0

    def emit(
        self, event: Callable[..., Event], key: str, since: int | None = None, **details: Any
    ) -> None:
        """Emit an event with these details; its duration is the time ``since`` then, else 0."""
        if self.observers.active:
            duration_ms = self.clock.steady_ms() - since if since else 0
            self.observers.emit(event(key=key, duration_ms=duration_ms, **details))

    def _emit_lost(self, key: str, reason: str) -> None:
        self.emit(LockLost, key, reason=reason)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run work in the background; it is cancelled when the scope closes."""
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    async def close(self) -> None:
        """End every waiter and the background work, and disconnect an adapter that is ours."""
        self.leases.close()
        if self.locks is not None:
            self.locks.close()
        for guard in list(self.renewed):  # a release meanwhile removes its guard
            with contextlib.suppress(GoscopeError):  # its lease expires
                await guard.stop()
        tasks = list(self._background)
        for task in tasks:
            task.cancel()
        if tasks:
            await finish_before_cancel(asyncio.ensure_future(asyncio.wait(tasks)))
        if isinstance(self.adapter, SupportsEvents):
            self.adapter.observe(None)
        if self._owns_adapter:
            await self.adapter.disconnect()
