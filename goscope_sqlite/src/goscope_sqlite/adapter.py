"""The adapter and the options of the backend "sqlite"."""

# The providers are never None here, which narrows the annotations of the base class.
# pyright: reportIncompatibleVariableOverride=false

from __future__ import annotations

import os
from collections.abc import Callable
from typing import ClassVar, Literal

import aiosqlite
import msgspec

from goscope.backend import (
    BaseAdapter,
    Capability,
    Clock,
    Locks,
    MemoryLockProvider,
    check_choice,
    check_locks,
    milliseconds,
)
from goscope.errors import ConfigurationError
from goscope.maintenance import StorageInfo
from goscope.providers import (
    CacheProvider,
    CheckpointProvider,
    CircuitBreakerStateProvider,
    IdempotencyProvider,
    InspectionProvider,
    LockProvider,
    Milliseconds,
    TransactionProvider,
)

from ._bounds import Size, bounds
from ._engine.connection import Settings
from ._engine.database import SQLiteDatabase
from ._engine.file import MEMORY, file_identity
from ._engine.place import Place
from ._open_processes import OpenProcesses
from ._storage import FREE_BYTES, check_attachable, storage, vacuum_file
from ._sweeper import Sweeper
from ._thread import in_thread
from .format import Format
from .providers import (
    SQLiteCacheProvider,
    SQLiteCheckpointProvider,
    SQLiteCircuitBreakerStateProvider,
    SQLiteIdempotencyProvider,
    SQLiteInspectionProvider,
    SQLiteLockProvider,
    SQLiteTransactionProvider,
)


class SQLiteAdapter(BaseAdapter):
    """A store in one SQLite file, for all processes of one machine.

    ``path`` may be ":memory:", or an open ``aiosqlite.Connection``: the adapter opens the same
    file. ``locks="shared"`` makes ``gs.lock`` exclude other processes, not only other tasks.
    ``durability="full"`` makes a completed write survive a power failure too. ``reads`` and
    ``writes`` are where point reads and small writes run: in the event loop, in a thread, or in the
    loop as long as they are fast. ``busy_timeout`` is how long a write waits for other processes
    before it raises `BackendBusy`. ``sweep_interval`` is how often an idle store removes expired
    entries. With ``max_size``, such as ``"1GiB"``, it evicts cache entries while the file takes
    more than that; with ``max_entries`` while the cache has more entries. ``starvation_guard`` lets
    an event loop that never pauses block for up to 2 ms so that a thread can finish its work.
    ``allow_shared_filesystem`` accepts a file on a file system that is shared between machines, for
    who knows that only one of them opens it.

    Raises `ConfigurationError` for invalid options. `connect` raises it for an unusable path, and
    `BackendError` for a file that is not an intact database. A subclass sets ``format``.
    """

    format: ClassVar[Format] = Format()

    lock: LockProvider
    lease: LockProvider
    cache: CacheProvider
    circuit_breaker: CircuitBreakerStateProvider
    checkpoint: CheckpointProvider
    idempotency: IdempotencyProvider
    inspection: InspectionProvider
    transactions: TransactionProvider

    def __init__(
        self,
        path: str | os.PathLike[str] | aiosqlite.Connection,
        *,
        key_prefix: str | None = None,
        locks: Locks | None = None,
        durability: Literal["normal", "full"] = "normal",
        reads: Place = "auto",
        writes: Place = "auto",
        foreign_keys: bool = False,
        busy_timeout: Milliseconds = "5s",
        default_lock_ttl: Milliseconds = "30s",
        sweep_interval: Milliseconds = "30s",
        max_size: Size | None = None,
        max_entries: int | None = None,
        starvation_guard: bool = True,
        allow_shared_filesystem: bool = False,
        clock: Clock | None = None,
    ) -> None:
        name = type(self).__name__
        check_choice("durability", durability, ("normal", "full"), name)
        check_choice("reads", reads, ("auto", "loop", "thread"), name)
        check_choice("writes", writes, ("auto", "loop", "thread"), name)
        check_locks(locks, name)
        super().__init__(
            key_prefix=key_prefix,
            default_lock_ttl=default_lock_ttl,
            clock=clock,
            encode=self.format.encode,
        )
        self._source = path if isinstance(path, aiosqlite.Connection) else os.fspath(path)
        settings = Settings(
            durability=durability,
            reads=reads,
            writes=writes,
            foreign_keys=foreign_keys,
            busy_timeout_ms=milliseconds(busy_timeout, "busy_timeout"),
            starvation_guard=starvation_guard,
            allow_shared_filesystem=allow_shared_filesystem,
        )
        self._database = SQLiteDatabase(repr(self), settings)
        interval_ms = milliseconds(sweep_interval, "sweep_interval")
        limits = bounds(max_size, max_entries)
        self._sweeper = Sweeper(self._database, self.context, interval_ms, limits)
        self._database.on_commit = self._sweeper.count
        in_memory = self._source == MEMORY
        self._processes = None if in_memory else OpenProcesses(self.context, self._database)
        self._create_providers(locks)
        if not in_memory:
            shared = {Capability.SHARED_LOCKS} if locks == "shared" else set[Capability]()
            self.capabilities = frozenset({Capability.PERSISTENT} | shared)

    def __repr__(self) -> str:
        source = self._source if isinstance(self._source, str) else "the file of a connection"
        return f"{type(self).__name__}({source!r})"

    def _create_providers(self, locks: Locks | None) -> None:
        context, database = self.context, self._database
        locks_in_file = SQLiteLockProvider(context, database, "lock")
        leases = SQLiteLockProvider(context, database, "lease")
        self._in_memory = None if locks == "shared" else MemoryLockProvider(context)
        self.lock = self._in_memory or locks_in_file
        if locks is None and self._in_memory is not None and self._processes is not None:
            self._in_memory.warn_of(self._processes.others)
        self.lease = leases
        on_written = self._sweeper.count_bytes
        self.cache = SQLiteCacheProvider(context, database, leases.notifier, on_written)
        self.circuit_breaker = SQLiteCircuitBreakerStateProvider(context, database)
        self.checkpoint = checkpoints = SQLiteCheckpointProvider(
            context, database, prefix_ids=self.format.prefix_ids
        )
        self.idempotency = results = SQLiteIdempotencyProvider(context, database, leases.notifier)
        self.transactions = SQLiteTransactionProvider(database, checkpoints, results)
        self.inspection = SQLiteInspectionProvider(
            context,
            database,
            memory_locks=self._in_memory,
            prefix_ids=self.format.prefix_ids,
            processes=None if self._processes is None else self._processes.listed,
        )

    async def backup(
        self,
        path: str | os.PathLike[str],
        *,
        progress: Callable[[int, int], object] | None = None,
    ) -> None:
        """Copy the store to a new file, as of now, while it stays in use by all processes.

        Copies in a thread, 1 MiB at a time. ``progress`` is called in the event loop with the
        number of pages that are copied and the number of all. The file appears once the copy has
        passed SQLite's integrity check, and has as many rows in each table. When the call is
        cancelled or fails, or the adapter is closed, nothing is left. Raises `InvalidOption` if the
        path exists, or for a store in memory, and `BackendError` when the file cannot be written.
        """
        await self._database.backup(os.fspath(path), progress)

    async def attach(self) -> None:
        """Open the store as `connect` does, but create, migrate and sweep nothing.

        Other processes do not see that this one has it open. A file that is not in WAL mode, such
        as a backup, keeps its journal mode. Raises `BackendError` for a file whose schema `connect`
        would have to change.
        """
        await self._open_with(self._attach)

    async def sweep(self) -> None:
        """Remove everything that has expired, in several writes, so that others can write."""
        self._database.check()
        await self._sweeper.sweep()

    async def storage(self) -> StorageInfo:
        """The space that the store takes now."""
        return storage(self._database.path, await self._database.read_all(FREE_BYTES, ()))

    async def vacuum(self) -> None:
        """Return unused space to the file system.

        Blocks other writers while it copies the live data, about a second for 200 MB. Raises
        `BackendBusy` if another process keeps the file locked.
        """
        self._database.check()
        await in_thread(vacuum_file, self._database.path)

    async def _connect(self) -> None:
        if self._processes is not None:
            self._processes.list_this(True)
        await self._open_file(await self._locate())
        self._sweeper.schedule.start()

    async def _attach(self) -> None:
        path = await self._locate()
        await in_thread(check_attachable, path)
        if self._processes is not None:
            self._processes.list_this(False)
        await self._open_file(path, to_wal=False)

    async def _locate(self) -> str:
        source = self._source
        return source if isinstance(source, str) else await _file_of(source)

    async def _open_file(self, path: str, *, to_wal: bool = True) -> None:
        self.context.store_id = await self._database.open(path, to_wal=to_wal)
        if self._in_memory is not None:
            self._in_memory.share(file_identity(self._database.path))

    async def _disconnect(self) -> None:
        self._database.check()  # first, since the sweeper's task belongs to that event loop, too
        await self._sweeper.schedule.stop()
        await self._database.close()


class SQLiteOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of the backend "sqlite"; see `SQLiteAdapter`."""

    path: str
    key_prefix: str | None = None
    locks: Locks | None = None
    durability: Literal["normal", "full"] = "normal"
    reads: Place = "auto"
    writes: Place = "auto"
    foreign_keys: bool = False
    busy_timeout: str = "5s"
    default_lock_ttl: str = "30s"
    sweep_interval: str = "30s"
    max_size: str | int | None = None
    max_entries: int | None = None
    starvation_guard: bool = True
    allow_shared_filesystem: bool = False


def open_adapter(options: SQLiteOptions) -> SQLiteAdapter:
    """Return the adapter with these options, not connected yet."""
    return SQLiteAdapter(**msgspec.structs.asdict(options))


async def _file_of(connection: aiosqlite.Connection) -> str:
    """The file of the host's connection, which is used for this query alone."""
    try:
        databases = await connection.execute_fetchall("PRAGMA database_list")
    except ValueError as exc:  # raised by aiosqlite for a connection that is not open
        raise ConfigurationError(
            "the aiosqlite connection is not open: await it first, or pass the path of its file"
        ) from exc
    files = [row[2] for row in databases if row[1] == "main"]
    if not files or not files[0]:
        raise ConfigurationError(
            "the aiosqlite connection is to a database in memory, which no other connection can "
            "open: pass the path of a file, or ':memory:' for a separate store"
        )
    return str(files[0])
