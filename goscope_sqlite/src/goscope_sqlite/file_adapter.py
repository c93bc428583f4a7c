"""Base class of adapters on one SQLite file. They differ in the format and in what runs the SQL."""

# The providers are never None here, which narrows the annotations of the base class.
# pyright: reportIncompatibleVariableOverride=false

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from goscope.backend import (
    BaseAdapter,
    Capability,
    Clock,
    Locks,
    MemoryLockProvider,
    check_choice,
    encode,
    milliseconds,
)
from goscope.providers import (
    CacheProvider,
    CheckpointProvider,
    CircuitBreakerStateProvider,
    IdempotencyProvider,
    LockHolder,
    LockProvider,
    Milliseconds,
)

from ._engine.base import BaseDatabase
from ._sweeper import Sweeper
from .providers import (
    SQLiteCacheProvider,
    SQLiteCheckpointProvider,
    SQLiteCircuitBreakerStateProvider,
    SQLiteIdempotencyProvider,
    SQLiteLockProvider,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """How the files of one backend differ from those of another.

    ``prefix_ids`` is whether the ids of tasks and checkpoints carry the prefix. ``encode`` returns
    the JSON text of a value, or raises `SerializationError` if other readers would misread it.
    """

    prefix_ids: bool = True
    encode: Callable[[Any], str] = encode


class FileAdapter(BaseAdapter):
    """An adapter that runs the SQL of the providers on its own ``database``.

    A subclass sets ``format``, and returns the path of the file from ``_locate``. ``in_memory`` is
    whether the store ends with the adapter.
    """

    format: ClassVar[Format] = Format()

    lock: LockProvider
    lease: LockProvider
    cache: CacheProvider
    circuit_breaker: CircuitBreakerStateProvider
    checkpoint: CheckpointProvider
    idempotency: IdempotencyProvider

    def __init__(
        self,
        database: BaseDatabase,
        *,
        in_memory: bool,
        key_prefix: str | None,
        locks: Locks,
        default_lock_ttl: Milliseconds,
        sweep_interval: Milliseconds,
        clock: Clock | None,
    ) -> None:
        super().__init__(
            key_prefix=key_prefix,
            default_lock_ttl=default_lock_ttl,
            clock=clock,
            encode=self.format.encode,
        )
        check_choice("locks", locks, ("memory", "shared"), type(self).__name__)
        self._database = database
        interval_ms = milliseconds(sweep_interval, "sweep_interval")
        self._sweeper = Sweeper(database, self.context, interval_ms)
        database.on_commit = self._sweeper.schedule.count
        self._create_providers(locks)
        if not in_memory:
            shared = {Capability.SHARED_LOCKS} if locks == "shared" else set[Capability]()
            self.capabilities = frozenset({Capability.PERSISTENT} | shared)

    async def held_locks(self) -> AsyncIterator[tuple[str, LockHolder]]:
        """Every unreleased lock and lease of this prefix in the file, by stored key."""
        for provider in self._in_file:
            async for held in provider.held():
                yield held

    def _create_providers(self, locks: Locks) -> None:
        context, database = self.context, self._database
        locks_in_file = SQLiteLockProvider(context, database, "lock")
        leases = SQLiteLockProvider(context, database, "lease")
        self._in_file = (locks_in_file, leases)
        self.lock = locks_in_file if locks == "shared" else MemoryLockProvider(context)
        self.lease = leases
        self.cache = SQLiteCacheProvider(context, database)
        self.circuit_breaker = SQLiteCircuitBreakerStateProvider(context, database)
        self.checkpoint = SQLiteCheckpointProvider(
            context, database, prefix_ids=self.format.prefix_ids
        )
        self.idempotency = SQLiteIdempotencyProvider(context, database, leases.notifier)

    @abstractmethod
    async def _locate(self) -> str:
        """The path of the file, or ":memory:"."""

    async def _connect(self) -> None:
        self.context.store_id = await self._database.open(await self._locate())
        self._sweeper.schedule.start()

    async def _disconnect(self) -> None:
        self._database.check()  # first, since the sweeper's task belongs to that event loop, too
        await self._sweeper.schedule.stop()
        await self._database.close()
