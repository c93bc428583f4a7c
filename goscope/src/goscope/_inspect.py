"""``gs.inspect``: what the store holds, for operators and their tools."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from ._runtime import Runtime
from .providers import InspectionProvider, SupportsInspection

if TYPE_CHECKING:
    from .inspection import (
        CircuitInfo,
        CollectionInfo,
        EntryInfo,
        LeaseInfo,
        LeaseKind,
        ProcessInfo,
        ResultInfo,
        TaskInfo,
        Totals,
        WaiterInfo,
    )


class Inspection:
    """Lists what the store of one scope holds, under the prefix of its adapter.

    The methods return asynchronous iterators of the records in `goscope.inspection`. A listing
    reads the store in pages, in no particular order, reads no values and changes nothing. In a
    pattern ``*`` stands for any run of characters; None is everything. What has expired is listed
    until the store removes it.

    Each method raises `CapabilityMissing` at once if the backend cannot list its store, and
    `BackendError` while the listing runs.
    """

    def __init__(self, runtime: Callable[[], Runtime]) -> None:
        self._runtime = runtime

    def leases(
        self, pattern: str | None = None, *, kind: LeaseKind | None = None
    ) -> AsyncIterator[LeaseInfo]:
        """The locks, and the leases that features hold; with ``kind`` those of one kind.

        A lock is listed until it is released. In-memory locks are listed only in the process that
        holds them.
        """
        return self._provider().leases(pattern, kind=kind)

    def waiters(self, pattern: str | None = None) -> AsyncIterator[WaiterInfo]:
        """The processes in the wait queues of shared locks and leases, if the store has queues."""
        return self._provider().waiters(pattern)

    def circuits(self, pattern: str | None = None) -> AsyncIterator[CircuitInfo]:
        """The circuits that were called, with their states."""
        return self._provider().circuits(pattern)

    def tasks(self, pattern: str | None = None) -> AsyncIterator[TaskInfo]:
        """The tasks that run, and those that are half done, by task id."""
        return self._provider().tasks(pattern)

    def results(self, pattern: str | None = None) -> AsyncIterator[ResultInfo]:
        """The stored results of idempotent calls."""
        return self._provider().results(pattern)

    def calls_in_flight(self, pattern: str | None = None) -> AsyncIterator[LeaseInfo]:
        """The idempotent calls that run, by their idempotency keys: leases of that kind."""
        return self._provider().leases(pattern, kind="idempotency")

    def entries(
        self, pattern: str | None = None, *, collection: str | None = None
    ) -> AsyncIterator[EntryInfo]:
        """The cache entries, or with ``collection`` those of ``gs.store(collection)``."""
        return self._provider().entries(pattern, collection=collection)

    def collections(self) -> AsyncIterator[CollectionInfo]:
        """The collections of ``gs.store(name)`` that have entries, sorted by name.

        Takes time in proportion to the number of their entries.
        """
        return self._provider().collections()

    def processes(self) -> AsyncIterator[ProcessInfo]:
        """The processes that have the store open, as far as the store knows them."""
        return self._provider().processes()

    async def totals(self) -> Totals:
        """How many records of each kind there are, and the size of their values.

        Takes time in proportion to their number, off the event loop.
        """
        return await self._provider().totals()

    def _provider(self) -> InspectionProvider:
        runtime = self._runtime()
        adapter = runtime.adapter
        provider = adapter.inspection if isinstance(adapter, SupportsInspection) else None
        return runtime.require(provider, "inspection")
