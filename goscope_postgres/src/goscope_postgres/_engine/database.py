"""Runs single statements, each of them a transaction, on its own connections."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, TypeVar

import asyncpg

from goscope._tools.cancellation import ShieldableFuture, finish_before_cancel
from goscope.backend import Clock
from goscope.errors import (
    BackendError,
    BackendUnavailable,
    ConfigurationError,
    GoscopeError,
    ScopeNotOpen,
)

from .batcher import Batcher
from .clock import ServerClock
from .errors import DRIVER_ERRORS, is_conflict, is_unusable, translate
from .pool import Pool
from .transaction import Step, Transaction, Work

T = TypeVar("T")
Item = TypeVar("Item")
Result = TypeVar("Result")

Row: TypeAlias = asyncpg.Record

MAX_ATTEMPTS: Final = 5
"""How often a statement is sent that the server rolls back in favor of others, or never got."""

GRACE_S: Final = 1.0
"""The server ends a statement first, and its answer says that nothing was applied."""

_IS_DIRECT: Final = "SELECT 1 WHERE pg_backend_pid() = {pid}"
_BEGIN_SESSION: Final = """
    SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint,
        current_setting('server_encoding'),
        set_config('statement_timeout', '{timeout_ms}', false)
"""
_READ_SERVER: Final = """
    SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint,
        current_setting('server_encoding')
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to connect. ``server`` names the server in errors, without a password."""

    dsn: str = field(repr=False)
    server: str
    pool_size: int
    connect_timeout_ms: int
    command_timeout_ms: int


class Database:
    """One PostgreSQL database. It raises goscope's errors, with the driver's as their cause.

    Before it is open and after it is closed, it raises `ScopeNotOpen`; in another event loop,
    `BackendUnavailable`.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.settings: Final = settings
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pool = self._new_pool()
        self._running: set[asyncio.Task[Any]] = set()
        self._batchers: list[Batcher[Any, Any]] = []
        self.on_write: Callable[[int], None] = lambda _: None
        self.is_direct = True
        """Whether no pooler is between: sessions are our own, with LISTEN and their settings."""

    async def open(self) -> None:
        """Connect once, to fail early."""
        self._loop = asyncio.get_running_loop()
        self._pool = self._new_pool()
        self.is_direct = True
        try:
            self._pool.release(await self._pool.acquire())
        except BaseException:
            self._loop = None
            raise

    async def close(self) -> None:
        """Finish what was submitted, and close the connections."""
        self.check()
        self._loop = None
        for batcher in self._batchers:
            await batcher.drain()
        while self._running:
            await asyncio.wait(self._running)
        await self._pool.close()

    def check(self) -> None:
        """Raise unless the database is open, in this event loop."""
        if self._loop is None:
            raise ScopeNotOpen(f"{self.settings.server} is not open: connect the adapter first")
        if self._loop is not asyncio.get_running_loop():
            raise BackendUnavailable(
                f"{self.settings.server} was opened in another event loop, or before a fork: "
                f"open an adapter for each loop and process"
            )

    def batcher(
        self,
        execute: Callable[[list[Item]], Awaitable[list[Result]]],
        weight: Callable[[Item], int],
        *,
        is_write: bool,
    ) -> Batcher[Item, Result]:
        """Return a batcher whose batches `close` waits for; call `check` before you submit."""
        batcher = Batcher(execute, weight, is_write=is_write)
        self._batchers.append(batcher)
        return batcher

    async def read(self, sql: str, *arguments: Any) -> list[Row]:
        """Return the rows of a statement that changes nothing. A lost connection is replaced."""
        return await self._submit(self.execute(sql, *arguments, attempts_if_lost=2), _all_rows)

    async def write(self, sql: str, *arguments: Any) -> list[Row]:
        """Execute a statement and return its rows. It ends before a cancellation is raised."""
        return await finish_before_cancel(self.submit(_all_rows, sql, *arguments))

    def submit(
        self, decode: Callable[[list[Row]], T], sql: str, *arguments: Any
    ) -> asyncio.Future[T]:
        """Execute a statement in the background. The future resolves to its decoded rows."""
        self.on_write(1)
        return self._submit(self.execute(sql, *arguments), decode)

    async def execute(self, sql: str, *arguments: Any, attempts_if_lost: int = 1) -> list[Row]:
        """Execute a statement, for callers that nobody cancels."""
        attempt = 0
        while True:
            attempt += 1
            connection = self._pool.take_idle() or await self._pool.acquire()
            failure: BaseException | None = None
            try:
                return await self._fetch(connection, sql, arguments)
            except DRIVER_ERRORS as exc:
                failure = exc
                error = translate(exc, self.settings.server, sent=True)
                if isinstance(error, BackendUnavailable):
                    self._pool.discard_idle()
                    attempts = MAX_ATTEMPTS if is_unusable(exc) else attempts_if_lost
                    if attempt < attempts:
                        continue
                elif is_conflict(exc) and attempt < MAX_ATTEMPTS:
                    continue
                raise error from exc
            except BaseException as exc:
                failure = exc
                raise
            finally:
                self._pool.release(connection, broken=_is_broken(failure))

    async def transact(self, begin: Step, work: Work[T], end: Step) -> T:
        """Run a transaction with the user's work, see `Transaction.run`; again after a conflict.

        A cancellation before the commit reaches the work.
        """
        self.check()
        self.on_write(1)
        task = asyncio.create_task(self._transact(begin, work, end))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await task

    async def use_connection(self, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        """Return the result of several statements on one connection."""
        self.check()
        connection = await self._pool.acquire()
        failure: BaseException | None = None
        try:
            return await work(connection)
        except DRIVER_ERRORS as exc:
            failure = exc
            raise translate(exc, self.settings.server, sent=True) from exc
        except BaseException as exc:
            failure = exc
            raise
        finally:
            self._pool.release(connection, broken=_is_broken(failure))

    async def _transact(self, begin: Step, work: Work[T], end: Step) -> T:
        settings, attempt = self.settings, 0
        while True:
            attempt += 1
            connection = self._pool.take_idle() or await self._pool.acquire()
            is_broken = True
            try:
                transaction = Transaction(
                    connection, settings.server, settings.command_timeout_ms / 1000
                )
                result = await transaction.run(begin, work, end)
                is_broken = False
                return result
            except BaseException as exc:
                cause = exc.__cause__ if isinstance(exc, BackendError) else exc
                is_broken = connection.is_in_transaction() or (
                    isinstance(cause, DRIVER_ERRORS) and _is_broken(cause)
                )
                if cause is None or attempt == MAX_ATTEMPTS:
                    raise
                if not (is_conflict(cause) or (attempt == 1 and is_unusable(cause))):
                    raise
            finally:
                self._pool.release(connection, broken=is_broken or connection.is_closed())

    async def connect(self) -> asyncpg.Connection:
        """Open a connection, and measure the server's clock. The caller closes it."""
        try:
            connection = await self._connect(100 if self.is_direct else 0)
            try:
                if self.is_direct and not await self._has_own_session(connection):
                    self.is_direct = False
                    await connection.close()
                    connection = await self._connect(0)
                await self._begin_session(connection)
            except BaseException:
                connection.terminate()
                raise
        except DRIVER_ERRORS as exc:
            raise translate(exc, self.settings.server, sent=False) from exc
        except ValueError as exc:  # a DSN that asyncpg refuses
            raise ConfigurationError(f"{self.settings.server}: {exc}") from exc
        return connection

    async def _connect(self, statement_cache_size: int) -> asyncpg.Connection:
        settings = self.settings
        return await asyncpg.connect(
            settings.dsn,
            timeout=settings.connect_timeout_ms / 1000,
            command_timeout=settings.command_timeout_ms / 1000 + GRACE_S,
            statement_cache_size=statement_cache_size,
            max_cached_statement_lifetime=0,
            server_settings={"application_name": "goscope"},
        )

    async def _has_own_session(self, connection: asyncpg.Connection) -> bool:
        """Whether the server process is the one that answered: a pooler answers for many."""
        status = await connection.execute(_IS_DIRECT.format(pid=connection.get_server_pid()))
        return status == "SELECT 1"

    async def _begin_session(self, connection: asyncpg.Connection) -> None:
        started = self._clock.steady_ms()
        if self.is_direct:
            sql = _BEGIN_SESSION.format(timeout_ms=self.settings.command_timeout_ms)
        else:
            sql = _READ_SERVER
        [row] = await self._fetch(connection, sql, ())
        if row[1] != "UTF8":
            raise ConfigurationError(
                f"{self.settings.server}: the database has the encoding {row[1]}, which cannot "
                f"store every key. Create one with ENCODING 'UTF8'"
            )
        if isinstance(self._clock, ServerClock):
            # The statement was prepared in a first round trip and answered in a second one.
            elapsed = self._clock.steady_ms() - started
            self._clock.measured(row[0], started + elapsed * 3 // 4)

    async def _fetch(
        self, connection: asyncpg.Connection, sql: str, arguments: tuple[Any, ...]
    ) -> list[Row]:
        if self.is_direct:
            return await connection.fetch(sql, *arguments)
        # A pooler may send each round trip to another server process, except in a transaction.
        await connection.execute("BEGIN")
        try:
            rows = await connection.fetch(sql, *arguments)
        except asyncpg.PostgresError:
            if not connection.is_closed():
                await connection.execute("ROLLBACK")
            raise
        await connection.execute("COMMIT")
        return rows

    def _new_pool(self) -> Pool:
        settings = self.settings
        return Pool(self.connect, settings.pool_size, settings.command_timeout_ms / 1000)

    def _submit(
        self, work: Coroutine[Any, Any, list[Row]], decode: Callable[[list[Row]], T]
    ) -> asyncio.Future[T]:
        """Run the coroutine in a task, which the cancellation of a caller does not reach."""
        try:
            self.check()
        except BaseException:
            work.close()
            raise
        loop = asyncio.get_running_loop()
        future: ShieldableFuture[T] = ShieldableFuture(loop=loop)
        task = loop.create_task(_resolve(future, work, decode))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return future


async def _resolve(
    future: ShieldableFuture[T],
    work: Coroutine[Any, Any, list[Row]],
    decode: Callable[[list[Row]], T],
) -> None:
    try:
        result = decode(await work)
    except Exception as exc:
        if not future.done():
            future.set_exception(exc)
    except BaseException:  # cancelled with its loop
        future.shielded = False
        future.cancel()
        raise
    else:
        if not future.done():
            future.set_result(result)


def _all_rows(rows: list[Row]) -> list[Row]:
    return rows


def _is_broken(failure: BaseException | None) -> bool:
    """Whether the connection cannot be used again after this."""
    if failure is None:
        return False
    if not isinstance(failure, asyncpg.PostgresError):
        return not isinstance(failure, (asyncpg.DataError, GoscopeError))
    # A standby after a failover: the next connection may find the primary.
    return failure.sqlstate in ("25006", "57P01", "57P02", "57P03")
