"""What exists while a scope is open: the adapter, and what the features share."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import ContextVar
from functools import partial
from threading import get_ident
from typing import Any, Final, NamedTuple, TypeVar
from weakref import WeakSet

import msgspec

from ._lease_guard import LeaseGuard
from ._lease_queue import Granted, LeaseQueue
from ._observers import Observers
from ._tools.cancellation import finish_before_cancel
from ._tools.clock import stopwatch
from .errors import CapabilityMissing, GoscopeError, LeaseLost, ScopeNotOpen
from .events import Event, LockLost
from .providers import (
    PersistenceAdapter,
    SupportsEvents,
    SupportsTransactions,
    TransactionProvider,
)

P = TypeVar("P")

_run_ids = itertools.count(1)
_template: ContextVar[str | None] = ContextVar("goscope_template", default=None)
"""The template of the key that a provider is asked for, for the events that it emits."""


class Run(NamedTuple):
    """A run of a body, as its events know it."""

    id: int
    since: float | None


UNOBSERVED_RUN: Final = Run(0, None)
"""A run that starts without observers."""


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
        scope: str | None = None,
    ) -> None:
        self.adapter: Final = adapter
        self.name: Final = name
        self.scope: Final = name if scope is None else scope
        self.clock: Final = adapter.clock
        self.loop: Final = asyncio.get_running_loop()
        self.thread = get_ident()
        self.observers: Final = observers
        self._stopwatch: Final = stopwatch(self.clock)
        self.lease_ttl_ms: Final = lease_ttl_ms
        self.leases: Final = LeaseQueue(self.require(adapter.lease, "lease"), self.clock)
        self.locks: Final = None if adapter.lock is None else LeaseQueue(adapter.lock, self.clock)
        self.lock_blocks: Final[dict[tuple[asyncio.Task[Any] | None, str], LeaseGuard]] = {}
        """The blocks that hold a lock, by the task that entered and the key."""
        self.renewed: Final[set[LeaseGuard]] = set()
        """What keeps the locks that are renewed without a block."""
        self.before_close: Final[set[Callable[[], Awaitable[None]]]] = set()
        """Called before anything ends, to save what must not be lost."""
        self.forked = False
        """Whether it was opened before this process was forked."""
        self._owns_adapter = owns_adapter
        self._transactions = (
            adapter.transactions if isinstance(adapter, SupportsTransactions) else None
        )
        self._background: set[asyncio.Task[Any]] = set()
        if isinstance(adapter, SupportsEvents):
            adapter.observe(self._relay)
        _runtimes.add(self)

    def check(self) -> None:
        """Raise `ScopeNotOpen` in another event loop than its own, and after a fork.

        A loop may have been moved to another thread. In the thread of the loop nothing needs to be
        checked: only one loop runs there at a time, and adapters refuse one that they were not
        connected in.
        """
        if self.forked:
            raise ScopeNotOpen(
                "the scope was opened before this process was forked: open it in this process, too"
            )
        if self.loop is not asyncio.get_running_loop():
            raise ScopeNotOpen(
                "the scope was opened in another event loop and cannot be used in this one: open a "
                "scope in each loop, or pass the call to the loop of this scope with "
                "asyncio.run_coroutine_threadsafe()"
            )

    @property
    def is_orphaned(self) -> bool:
        """Whether its event loop is closed, so that nothing can end it in order."""
        return self.loop.is_closed()

    def require(self, provider: P | None, ability: str) -> P:
        """The provider, or `CapabilityMissing` when the backend has none."""
        if provider is None:
            raise CapabilityMissing(
                self.name, f"{ability} provider", "choose a backend that has one"
            )
        return provider

    def require_transactions(self) -> TransactionProvider:
        """Raises `CapabilityMissing` when the backend has no transactions for the user."""
        if self._transactions is None:
            raise CapabilityMissing(
                self.name,
                "transactions for your own statements",
                "choose one that keeps your tables too: sqlite, postgres or mysql",
            )
        return self._transactions

    def guard(
        self,
        granted: Granted,
        key: str,
        *,
        template: str | None = None,
        ttl_ms: int | None = None,
        renew: bool = True,
        cancel_body: bool = True,
    ) -> LeaseGuard:
        """Keep a lease while a body runs.

        Errors and events name it ``key``; events add the ``template`` that the key was made from.
        ``ttl_ms`` is the ttl that it was granted with, `lease_ttl_ms` by default.
        """
        return LeaseGuard(
            granted,
            self.lease_ttl_ms if ttl_ms is None else ttl_ms,
            clock=self.clock,
            key=key,
            on_lost=partial(self._emit_lost, key, template),
            renew=renew,
            cancel_body=cancel_body,
        )

    def event_start(self) -> float | None:
        """The steady time, to pass to `emit` as ``since``; None, for free, without observers."""
        return self._stopwatch() if self.observers.active else None

    def emit(
        self,
        event: Callable[..., Event],
        key: str,
        since: float | None = None,
        *,
        template: str | None = None,
        **details: Any,
    ) -> None:
        """Emit an event with these details; its duration is the time ``since`` then, else 0."""
        if self.observers.active:
            duration_ms = 0.0 if since is None else float(self._stopwatch() - since)
            self.observers.emit(
                event(
                    key=key,
                    scope=self.scope,
                    template=template,
                    duration_ms=duration_ms,
                    **details,
                )
            )

    def start_run(
        self, event: Callable[..., Event], key: str, *, template: str | None = None
    ) -> Run:
        """Emit that a body starts. Call it in the task and the context in which the body runs.

        So what an observer sets in a context variable holds for the body.
        """
        if not self.observers.active:
            return UNOBSERVED_RUN
        run = Run(next(_run_ids), self._stopwatch())
        self.emit(event, key, template=template, run_id=run.id)
        return run

    def fail_run(
        self,
        event: Callable[..., Event],
        key: str,
        run: Run,
        exc: BaseException,
        *,
        template: str | None = None,
        lease_lost: bool = False,
    ) -> None:
        """Emit that a body failed. With ``lease_lost`` a cancellation came from that loss."""
        if self.observers.active:
            if lease_lost and isinstance(exc, asyncio.CancelledError):
                exc = LeaseLost(key, "its body was cancelled")
            self.emit(event, key, run.since, template=template, run_id=run.id, **error_details(exc))

    @contextlib.contextmanager
    def asking_for(self, template: str | None) -> Generator[None]:
        """Mark what the block asks a provider for as made from the template."""
        token = _template.set(template)
        try:
            yield
        finally:
            _template.reset(token)

    def _relay(self, event: Event) -> None:
        """Emit an event of the adapter, which knows neither the scope nor the template."""
        if self.observers.active:
            self.observers.emit(
                msgspec.structs.replace(event, scope=self.scope, template=_template.get())
            )

    def _emit_lost(self, key: str, template: str | None, reason: str) -> None:
        self.emit(LockLost, key, template=template, reason=reason)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run work in the background; it is cancelled when the scope closes."""
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    async def close(self) -> None:
        """End every waiter and the background work, and disconnect an adapter that is ours.

        The body of a task that runs is not cancelled; its last state is saved.
        """
        for save in list(self.before_close):
            with contextlib.suppress(GoscopeError):  # as when its lease was lost
                await save()
        self.leases.close()
        if self.locks is not None:
            self.locks.close()
        for guard in list(self.renewed):  # another release may remove its guard
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


def error_details(exc: BaseException) -> dict[str, str]:
    """What an event says about an exception."""
    return {"error_type": type(exc).__name__, "error": str(exc)}


_runtimes: Final[WeakSet[Runtime]] = WeakSet()


def _after_fork() -> None:
    """Refuse the parent's open scopes in the child, which may open them for itself."""
    for runtime in _runtimes:
        runtime.forked, runtime.thread = True, 0
    _runtimes.clear()


if hasattr(os, "register_at_fork"):  # absent on Windows, which has no fork
    os.register_at_fork(after_in_child=_after_fork)
