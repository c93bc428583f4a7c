"""The backend "memory": a store in this process, and the implementation to read first.

Its store is `goscope.backend.records.Records`, plain dictionaries by stored key; the providers on
them are the whole contract. Everything is gone when the adapter disconnects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import msgspec

from .backend import Backend, Clock, Locks, MemoryLockProvider, check_choice
from .backend.records import InProcessRecords, RecordAdapter, RecordInspectionProvider, Records
from .hookspecs import hookimpl
from .providers import Milliseconds

T = TypeVar("T")

FIRST_SWEEP_AT: Final = 1024


class MemoryAdapter(InProcessRecords, RecordAdapter):
    """A store in this process, gone when it disconnects.

    ``locks="memory"`` gives ``gs.lock`` handles without a fencing token, as other backends'
    in-memory locks do; ``locks="shared"`` gives handles whose tokens fence writes to this store.
    """

    def __init__(
        self,
        *,
        key_prefix: str | None = None,
        locks: Locks = "memory",
        default_lock_ttl: Milliseconds = "30s",
        clock: Clock | None = None,
    ) -> None:
        check_choice("locks", locks, ("memory", "shared"), "MemoryAdapter")
        InProcessRecords.__init__(self)
        RecordAdapter.__init__(
            self, key_prefix=key_prefix, default_lock_ttl=default_lock_ttl, clock=clock
        )
        if locks == "memory":
            self.lock = locks_in_memory = MemoryLockProvider(self.context)
            self.inspection = RecordInspectionProvider(
                self.context, self.store, memory_locks=locks_in_memory
            )
        self.context.store_id = self.records.id
        self._sweep_at = FIRST_SWEEP_AT

    def __repr__(self) -> str:
        return f"MemoryAdapter(key_prefix={self.context.prefix!r})"

    async def change_records(self, change: Callable[[Records], T]) -> T:
        """Return ``change(records)``; remove what has expired each time the records double."""
        result = change(self.records)
        if self.records.expiring > self._sweep_at:
            self.records.remove_expired(self.clock)
            self._sweep_at = 2 * self.records.expiring + FIRST_SWEEP_AT
        return result

    async def _connect(self) -> None:
        if self.context.forked:  # the parent's records are not this process's
            self.records = Records()
            if isinstance(self.lock, MemoryLockProvider):
                self.lock.share(None)
        self.context.store_id = self.records.id

    async def _disconnect(self) -> None:
        self.records = Records()


class MemoryOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of the backend "memory"; see `MemoryAdapter`."""

    key_prefix: str | None = None
    locks: Locks = "memory"
    default_lock_ttl: str = "30s"


@hookimpl
def goscope_backends() -> Sequence[Backend]:
    """Register the backend; this module is its own plugin."""
    return [
        Backend(
            name="memory",
            summary="in this process only, for tests and small tools",
            options=MemoryOptions,
            open=lambda options: MemoryAdapter(**msgspec.structs.asdict(options)),
        )
    ]
