"""The adapter and the options of the backend "mysql"."""

# The providers are never None here, which narrows the annotations of the base class.
# pyright: reportIncompatibleVariableOverride=false

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from goscope.backend import BaseAdapter, Capability, Clock, check_choice, milliseconds
from goscope.errors import GoscopeError, InvalidOption
from goscope.providers import (
    CacheProvider,
    CheckpointProvider,
    CircuitBreakerStateProvider,
    IdempotencyProvider,
    Milliseconds,
)

from ._engine.connection import Connection
from ._engine.database import Database
from ._engine.settings import TLS, Settings
from ._open_processes import OpenProcesses
from ._sweeper import Sweeper
from .providers import (
    MySQLCacheProvider,
    MySQLCheckpointProvider,
    MySQLCircuitBreakerStateProvider,
    MySQLIdempotencyProvider,
    MySQLInspectionProvider,
    MySQLLockProvider,
    MySQLTransactionProvider,
)
from .schema import MAX_PREFIX_LENGTH, check_current, exists, prepare, table_names

if TYPE_CHECKING:
    from urllib.parse import SplitResult

DEFAULT_PORT: Final = 3306

_TABLE_PREFIX = re.compile(r"[A-Za-z0-9_]{0,40}", re.ASCII)


class MySQLAdapter(BaseAdapter):
    """A store in a database of a MySQL or MariaDB server, for all processes that reach it.

    The tables ``{table_prefix}...`` are created when they are missing. ``tls="required"`` encrypts,
    ``"verify"`` also checks the server's certificate against ``tls_ca``, or the system's.
    ``timeout`` is how long a call waits for a connection, and then for its answer.
    ``max_connections`` is how many connections this adapter opens at most; waiting for locks takes
    a few more. ``sweep_interval`` is how often an idle store removes expired entries. A ``clock``
    is for tests: the sessions then take their time from it instead of the server's clock.

    Raises `ConfigurationError` for invalid options. `connect` raises it for a wrong password, a
    missing database or privilege, and `BackendUnavailable` for a server that cannot be reached.
    """

    lock: MySQLLockProvider
    lease: MySQLLockProvider
    cache: CacheProvider
    circuit_breaker: CircuitBreakerStateProvider
    checkpoint: CheckpointProvider
    idempotency: IdempotencyProvider
    inspection: MySQLInspectionProvider
    transactions: MySQLTransactionProvider
    capabilities = frozenset(
        {Capability.PERSISTENT, Capability.SHARED_LOCKS, Capability.DISTRIBUTED}
    )

    def __init__(
        self,
        host: str = "localhost",
        *,
        database: str,
        user: str,
        password: str = "",
        port: int = DEFAULT_PORT,
        unix_socket: str | None = None,
        tls: TLS = "off",
        tls_ca: str | None = None,
        key_prefix: str | None = None,
        table_prefix: str = "goscope_",
        max_connections: int = 10,
        connect_timeout: Milliseconds = "5s",
        timeout: Milliseconds = "10s",
        default_lock_ttl: Milliseconds = "30s",
        sweep_interval: Milliseconds = "30s",
        clock: Clock | None = None,
    ) -> None:
        name = type(self).__name__
        check_choice("tls", tls, ("off", "required", "verify"), name)
        if max_connections < 1:
            raise InvalidOption(
                "max_connections", name, f"must be at least 1, not {max_connections}"
            )
        if not _TABLE_PREFIX.fullmatch(table_prefix):
            raise InvalidOption(
                "table_prefix",
                name,
                f"must be up to 40 letters, digits or '_', not {table_prefix!r}",
            )
        if not database:
            raise InvalidOption("database", name, "must name a database")
        super().__init__(key_prefix=key_prefix, default_lock_ttl=default_lock_ttl, clock=clock)
        if len(self.context.prefix) > MAX_PREFIX_LENGTH:
            raise InvalidOption(
                "key_prefix", name, f"must be at most {MAX_PREFIX_LENGTH} characters long"
            )
        self._settings = Settings(
            host=host,
            port=port,
            user=user,
            password=password,
            database=database,
            unix_socket=unix_socket,
            tls=tls,
            tls_ca=tls_ca,
            connect_timeout_ms=milliseconds(connect_timeout, "connect_timeout"),
            timeout_ms=milliseconds(timeout, "timeout"),
            max_connections=max_connections,
        )
        self._database = Database(
            repr(self), self._settings, table_names(table_prefix), self.context
        )
        if clock is None:
            self.context.clock = self._database.clock
        interval_ms = milliseconds(sweep_interval, "sweep_interval")
        self._processes = OpenProcesses(self.context, self._database, interval_ms)
        self._sweeper = Sweeper(self._database, self.context, self._processes, interval_ms)
        self._database.on_write = self._sweeper.schedule.count
        self._create_providers()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._settings.address!r})"

    def _create_providers(self) -> None:
        context, database = self.context, self._database
        locks = MySQLLockProvider(context, database, "lock")
        leases = MySQLLockProvider(context, database, "lease")
        self.lock, self.lease = locks, leases
        self.cache = MySQLCacheProvider(context, database, leases.notifier)
        self.circuit_breaker = MySQLCircuitBreakerStateProvider(context, database)
        self.checkpoint = checkpoints = MySQLCheckpointProvider(context, database)
        self.idempotency = results = MySQLIdempotencyProvider(context, database, leases.notifier)
        self.transactions = MySQLTransactionProvider(database, checkpoints, results)
        self.inspection = MySQLInspectionProvider(context, database, self._processes.listed)

    async def exists(self) -> bool:
        """Whether the tables of the store exist; the adapter is not connected.

        Creates and changes nothing. Raises what `connect` raises.
        """
        try:
            return await self._database.open(exists)
        finally:
            await self._database.close()

    async def attach(self) -> None:
        """Open the store as `connect` does, but create, migrate and sweep nothing.

        Other processes do not see that this one has it open. Raises what `connect` raises, and
        `SchemaMismatch` for tables that `connect` would have to create or change.
        """
        await self._open_with(self._attach)

    async def _connect(self) -> None:
        async def prepare_tables(connection: Connection) -> str:
            store_id = await prepare(connection, repr(self))
            await self._processes.add(connection)
            return store_id

        self.context.store_id = await self._database.open(prepare_tables)
        self._sweeper.schedule.start()

    async def _attach(self) -> None:
        self.context.store_id = await self._database.open(lambda it: check_current(it, repr(self)))

    async def _disconnect(self) -> None:
        await self._sweeper.schedule.stop()
        for provider in (self.lock, self.lease):
            await provider.queue.close()
        await self._database.close(self._processes.remove)


class MySQLOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of the backend "mysql"; see `MySQLAdapter`."""

    host: str = "localhost"
    database: str
    user: str
    password: str = ""
    port: int = DEFAULT_PORT
    unix_socket: str | None = None
    tls: TLS = "off"
    tls_ca: str | None = None
    key_prefix: str | None = None
    table_prefix: str = "goscope_"
    max_connections: int = 10
    connect_timeout: str = "5s"
    timeout: str = "10s"
    default_lock_ttl: str = "30s"
    sweep_interval: str = "30s"

    def __repr__(self) -> str:
        return f"MySQLOptions({self.user}@{self.host}:{self.port}/{self.database})"


def open_adapter(options: MySQLOptions) -> MySQLAdapter:
    """Return the adapter with these options, not connected yet."""
    return MySQLAdapter(**msgspec.structs.asdict(options))


async def store_exists(options: MySQLOptions) -> bool:
    """Whether the store of these options exists. Creates and changes nothing.

    True also for a server that refuses the login or cannot be reached: opening it says why.
    """
    try:
        return await open_adapter(options).exists()
    except GoscopeError:
        return True


def options_from_url(url: SplitResult) -> Mapping[str, Any]:
    """The options in ``mysql://user:password@host:port/database``."""
    from urllib.parse import unquote  # a SplitResult exists, so the module is loaded already

    database = unquote(url.path.removeprefix("/"))
    if not database or "/" in database:
        raise ValueError(
            f"the URL must name one database: write it as {url.scheme}://user@host/database"
        )
    found: dict[str, Any] = {"database": database}
    if url.hostname is not None:
        found["host"] = url.hostname
    if url.port is not None:
        found["port"] = url.port
    if url.username is not None:
        found["user"] = unquote(url.username)
    if url.password is not None:
        found["password"] = unquote(url.password)
    return found
