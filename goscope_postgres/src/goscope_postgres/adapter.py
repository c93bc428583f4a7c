"""The adapter and the options of the backend "postgres"."""

# The providers are never None here, which narrows the annotations of the base class.
# pyright: reportIncompatibleVariableOverride=false

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from urllib.parse import urlencode

import asyncpg
import msgspec

from goscope.backend import BaseAdapter, Capability, Clock, milliseconds
from goscope.errors import ConfigurationError, GoscopeError, InvalidOption
from goscope.providers import Milliseconds

from ._engine.clock import ServerClock
from ._engine.database import Database, Settings
from ._engine.listener import Listener
from ._open_processes import OpenProcesses
from ._sweeper import Sweeper
from .providers import (
    PostgresCacheProvider,
    PostgresCheckpointProvider,
    PostgresCircuitBreakerStateProvider,
    PostgresIdempotencyProvider,
    PostgresInspectionProvider,
    PostgresLockProvider,
    PostgresTransactionProvider,
)
from .providers.lock_queue import LockQueue
from .schema import Tables, check_current, exists, migrate


class PostgresAdapter(BaseAdapter):
    """A store in one PostgreSQL database, for all programs that connect to it.

    ``dsn`` is a URL as libpq takes it, with ``sslmode`` and the like in its query. The tables are
    in ``schema``, their names begin with ``table_prefix``; `connect` creates them if they are
    missing. ``unlogged_cache=True`` creates the table of the cache without a write-ahead log:
    faster, and empty after a crash of the server. ``pool_size`` is the most connections, besides
    one that listens while this process waits for locks. ``connect_timeout`` limits one attempt to
    connect, ``command_timeout`` the wait for a connection and one statement. ``sweep_interval`` is
    how often an idle store removes expired entries. ``clock`` is the server's as the adapter
    measures it; tests pass their own.

    Raises `ConfigurationError` for invalid options. `connect` raises it for a refused login, a
    missing database or privilege, `BackendUnavailable` for a server that cannot be reached, and
    `SchemaMismatch` for tables of a newer version.
    """

    lock: PostgresLockProvider
    lease: PostgresLockProvider
    cache: PostgresCacheProvider
    circuit_breaker: PostgresCircuitBreakerStateProvider
    checkpoint: PostgresCheckpointProvider
    idempotency: PostgresIdempotencyProvider
    inspection: PostgresInspectionProvider
    transactions: PostgresTransactionProvider

    def __init__(
        self,
        dsn: str,
        *,
        key_prefix: str | None = None,
        schema: str = "public",
        table_prefix: str = "goscope_",
        unlogged_cache: bool = False,
        pool_size: int = 10,
        connect_timeout: Milliseconds = "5s",
        command_timeout: Milliseconds = "10s",
        default_lock_ttl: Milliseconds = "30s",
        sweep_interval: Milliseconds = "30s",
        clock: Clock | None = None,
    ) -> None:
        super().__init__(
            key_prefix=key_prefix, default_lock_ttl=default_lock_ttl, clock=clock or ServerClock()
        )
        if type(pool_size) is not int or pool_size < 1:
            raise InvalidOption("pool_size", "PostgresAdapter", f"must be 1 or more: {pool_size!r}")
        settings = Settings(
            dsn=dsn,
            server=_shown(dsn),
            pool_size=pool_size,
            connect_timeout_ms=milliseconds(connect_timeout, "connect_timeout"),
            command_timeout_ms=milliseconds(command_timeout, "command_timeout"),
        )
        self._tables = Tables(schema, table_prefix)
        self._unlogged_cache = unlogged_cache
        self._database = Database(settings, self.clock)
        interval_ms = milliseconds(sweep_interval, "sweep_interval")
        store = (self._database, self._tables)
        self._processes = OpenProcesses(self.context, *store, interval_ms)
        self._sweeper = Sweeper(*store, self.context, self._processes, interval_ms)
        self._database.on_write = self._sweeper.schedule.count
        self._create_providers()

    def __repr__(self) -> str:
        return f"PostgresAdapter({self._database.settings.server!r})"

    def _create_providers(self) -> None:
        context, database, tables = self.context, self._database, self._tables
        queue = LockQueue(context.clock, database, tables)
        self._listener = Listener(database, queue.me, self._notify)
        waiting = (queue, self._listener)
        self.lock = PostgresLockProvider(context, database, tables, "lock", *waiting)
        self.lease = PostgresLockProvider(context, database, tables, "lease", *waiting)
        self.cache = PostgresCacheProvider(context, database, tables, self.lease.notifier)
        self.circuit_breaker = PostgresCircuitBreakerStateProvider(context, database, tables)
        self.checkpoint = PostgresCheckpointProvider(context, database, tables)
        self.idempotency = PostgresIdempotencyProvider(
            context, database, tables, self.lease.notifier
        )
        self.transactions = PostgresTransactionProvider(
            database, tables, self.checkpoint, self.idempotency
        )
        self.inspection = PostgresInspectionProvider(
            context, database, tables, self._processes.listed
        )

    async def exists(self) -> bool:
        """Whether the tables of the store exist; the adapter is not connected.

        Creates and changes nothing. Raises what `connect` raises.
        """
        database = self._database
        await database.open()
        try:
            return await database.use_connection(lambda it: exists(it, self._tables))
        finally:
            await database.close()

    async def attach(self) -> None:
        """Open the store as `connect` does, but create, migrate and sweep nothing.

        Other processes do not see that this one has it open. Raises what `connect` raises, and
        `SchemaMismatch` for tables that `connect` would have to create or change.
        """
        await self._open_with(self._attach)

    def _notify(self, stored_key: str) -> None:
        """Wake the waiters of the lock or lease; a stored key belongs to one of them."""
        self.lock.notifier.notify(stored_key)
        self.lease.notifier.notify(stored_key)

    async def _connect(self) -> None:
        await self._open(
            lambda it: migrate(it, self._tables, unlogged_cache=self._unlogged_cache),
            self._processes.add,
        )
        self._sweeper.schedule.start()

    async def _attach(self) -> None:
        await self._open(lambda it: check_current(it, self._tables))

    async def _open(
        self,
        prepare: Callable[[asyncpg.Connection], Awaitable[str]],
        then: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Open the database, whose identity ``prepare`` returns. On an error nothing stays open."""
        database = self._database
        await database.open()
        try:
            self.context.store_id = await database.use_connection(prepare)
            if then is not None:
                await then()
        except BaseException:
            await database.close()
            raise
        notifies = {Capability.NOTIFICATIONS} if database.is_direct else set[Capability]()
        self.capabilities = _CAPABILITIES | notifies

    async def _disconnect(self) -> None:
        self._database.check()  # first, since the sweeper's task belongs to that event loop, too
        await self._sweeper.schedule.stop()
        await self._processes.remove()
        await self._listener.close()
        await self._database.close()


_CAPABILITIES = frozenset({Capability.PERSISTENT, Capability.SHARED_LOCKS, Capability.DISTRIBUTED})


class PostgresOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of the backend "postgres"; see `PostgresAdapter`.

    ``host`` is the directory of a Unix socket; it and those that begin with "ssl" are libpq's.
    """

    dsn: str
    host: str | None = None
    sslmode: str | None = None
    sslrootcert: str | None = None
    sslcert: str | None = None
    sslkey: str | None = None
    key_prefix: str | None = None
    schema: str = "public"
    table_prefix: str = "goscope_"
    unlogged_cache: bool = False
    pool_size: int = 10
    connect_timeout: str = "5s"
    command_timeout: str = "10s"
    default_lock_ttl: str = "30s"
    sweep_interval: str = "30s"

    def __repr__(self) -> str:
        return f"PostgresOptions({_shown(self.dsn)!r})"


def open_adapter(options: PostgresOptions) -> PostgresAdapter:
    """Return the adapter with these options, not connected yet."""
    values = msgspec.structs.asdict(options)
    libpq = {name: value for name in _LIBPQ if (value := values.pop(name)) is not None}
    if libpq:
        mark = "&" if "?" in options.dsn else "?"
        values["dsn"] = f"{options.dsn}{mark}{urlencode(libpq)}"
    return PostgresAdapter(**values)


async def store_exists(options: PostgresOptions) -> bool:
    """Whether the store of these options exists. Creates and changes nothing.

    True also for a server that refuses the login or cannot be reached: opening it says why.
    """
    try:
        return await open_adapter(options).exists()
    except GoscopeError:
        return True


_LIBPQ = ("host", "sslmode", "sslrootcert", "sslcert", "sslkey")
"""Options that are part of the DSN."""


def _shown(dsn: str) -> str:
    """The DSN as it may be shown: no password, and no query, which may hold one too.

    Works on the text, since a parser does not find a password with an unescaped "/" or "?".
    """
    scheme, mark, rest = dsn.partition("://")
    if not mark:
        raise ConfigurationError("the DSN must be a URL: postgresql://user@host:5432/database")
    login, at, place = rest.rpartition("@")
    user = login.partition(":")[0]
    return re.split(r"[?#]", f"{scheme}://{user}{at}{place}", maxsplit=1)[0]
