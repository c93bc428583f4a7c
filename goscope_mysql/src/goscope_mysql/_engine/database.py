"""Runs the statements of the providers: retries what is safe, translates errors."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from contextvars import copy_context
from typing import Any, Final, TypeVar, cast

from goscope._tools.cancellation import retrieve_exception
from goscope.backend import StoreContext

from ..clock import ServerClock
from .connection import NOW, Connection, Result, Row, Statement
from .errors import LOCK_WAIT_TIMEOUT, code_of, is_deadlock, is_read_only, no_answer, translate
from .pool import Pool, Work
from .settings import Settings
from .user_work import Outcome, UserWork, WorkFailed, call, check_not_ended

T = TypeVar("T")

MAX_ATTEMPTS: Final = 10
"""How often a transaction runs that others make the server roll back."""

LONGEST_PAUSE_S: Final = 0.1
"""The longest pause before such an attempt. It grows with their number, and differs by chance."""

_BEGIN: Final[Statement] = ("START TRANSACTION", ())
_COMMIT: Final[Statement] = ("COMMIT", ())
_SAVEPOINT: Final[Statement] = ("SAVEPOINT goscope", ())
_RELEASE: Final[Statement] = ("RELEASE SAVEPOINT goscope", ())
"""Fails if the transaction of the savepoint has ended."""


class Database:
    """The tables of one store on a server.

    Statements are templates: ``{cache}`` stands for the table of that name, ``{now}`` for the
    server's time in epoch microseconds. Their parameters are ``?``. ``on_write`` gets the
    number of writes that were done.
    """

    def __init__(
        self, name: str, settings: Settings, tables: dict[str, str], context: StoreContext
    ) -> None:
        self._name = name
        self._settings = settings
        self._context = context
        self._names: Final = tables | {"now": NOW}
        self._pool: Pool | None = None
        self.clock: Final = ServerClock()
        self.on_write: Callable[[int], None] | None = None

    async def open(self, prepare: Work[T]) -> T:
        """Connect, and return what ``prepare`` returns. On an error nothing stays open."""
        settings = self._settings
        pool = Pool(
            self._name,
            self.connect,
            self._run,
            settings.max_connections,
            settings.timeout_ms / 1000,
        )
        try:
            prepared = await pool.submit(prepare)
        except BaseException:
            await pool.close()
            raise
        self._pool = pool
        return prepared

    async def close(self, last: Work[None] | None = None) -> None:
        """Finish the submitted calls and the ``last`` one, whose errors are ignored; disconnect."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close(last)

    def fill(self, template: str) -> str:
        """The SQL of a template."""
        return template.format_map(self._names)

    async def connect(self) -> Connection:
        """Open one more connection, outside of the pool, and read the server's time."""
        connection = await Connection.open(self._settings, self.fill)
        self.clock.synchronize(connection.server_ms, connection.read_at_ms)
        return connection

    def submit(self, work: Work[T], *, repeatable: bool = False) -> asyncio.Future[T]:
        """Run ``work`` on a connection, atomically: it runs again after a deadlock.

        A ``repeatable`` one also runs again when its connection is lost.
        """
        self._context.check()
        assert self._pool is not None  # while the adapter is connected
        return self._pool.submit(work, repeatable=repeatable)

    async def run_on(self, connection: Connection, sql: str, parameters: Sequence[Any]) -> Result:
        """Run one statement on such a connection, without a timeout.

        It is not prepared: the server shows it with its parameters as long as it runs.
        """
        try:
            results: list[Result] = await self._run_once(
                connection, lambda it: it.script([(sql, parameters)])
            )
            return results[0]
        except Exception as exc:
            error = translate(exc, self._settings.address)
            raise error from (error.__cause__ if error is exc else exc)

    def end(self, connection: Connection) -> None:
        """Drop such a connection at once, also in the server; even while the adapter closes."""
        connection.abort()
        if self._pool is not None:
            kill: list[Statement] = [(f"KILL {connection.id}", ())]
            killing = self._pool.submit(lambda it: it.script(kill))
            killing.add_done_callback(retrieve_exception)

    async def read(self, sql: str, parameters: Sequence[Any] = ()) -> Sequence[Row]:
        """The rows of a query."""

        async def read(connection: Connection) -> Sequence[Row]:
            return (await connection.run(sql, parameters)).rows

        return await self.submit(read, repeatable=True)

    async def query(self, sql: str, parameters: Sequence[Any]) -> Sequence[Row]:
        """The rows of a query that is not worth preparing, such as one of so many keys."""

        async def query(connection: Connection) -> Sequence[Row]:
            return (await connection.script([(sql, parameters)]))[0].rows

        return await self.submit(query, repeatable=True)

    async def write(
        self, sql: str, parameters: Sequence[Any] = (), *, repeatable: bool = False
    ) -> Result:
        """Run one statement, in its own transaction; ``repeatable`` as for `submit`."""
        result = await self.submit(
            lambda connection: connection.run(sql, parameters), repeatable=repeatable
        )
        self._count()
        return result

    async def transact(
        self,
        first: Sequence[Statement],
        decide: Callable[[Sequence[Result]], tuple[Sequence[Statement], T]],
    ) -> T:
        """Run a transaction in two round trips, and return what ``decide`` returns beside its rest.

        ``first`` locks and reads. ``decide`` gets its results, and returns what to run next; if it
        raises, nothing is changed. It may be called more than once.
        """

        async def transact(connection: Connection) -> T:
            async with connection.transaction():
                results = await connection.script([_BEGIN, *first])
                rest, decision = decide(results[1:])
                await connection.script([*rest, _COMMIT])
            return decision

        decision = await self.submit(transact)
        self._count()
        return decision

    async def transact_with(
        self,
        begin: Sequence[Statement],
        check: Callable[[Sequence[Result]], object],
        work: UserWork[T],
        end: Sequence[Statement],
        decide: Callable[[Sequence[Result]], tuple[Sequence[Statement], None]],
    ) -> T:
        """Run the user's work in a transaction, and return its result.

        ``check`` gets the results of ``begin``, ``decide`` those of ``end``, as for `transact`. An
        error of the work is raised as it is; in each case nothing is changed.
        """
        context, max_s = copy_context(), self._settings.timeout_ms / 1000

        async def transact(connection: Connection) -> Outcome[T]:
            try:
                async with connection.transaction():
                    results = await connection.script([_BEGIN, *begin, _SAVEPOINT])
                    check(results[1:-1])
                    returned = await call(connection, work, context, max_s)
                    try:
                        results = await connection.script([_RELEASE, *end])
                    except Exception as exc:
                        check_not_ended(exc)
                        raise
                    rest, _ = decide(results[1:])
                    await connection.script([*rest, _COMMIT])
            except WorkFailed as failed:
                return Outcome(None, failed.error)
            return Outcome(returned, None)

        self._context.check()
        assert self._pool is not None  # while the adapter is connected
        outcome = await self._pool.submit(transact, more_s=max_s)
        if outcome.error is not None:
            raise outcome.error
        self._count()
        return cast("T", outcome.returned)

    async def write_all(self, statements: Sequence[Statement]) -> Sequence[Result]:
        """Run statements in one transaction and, unless they are large, in one round trip."""

        async def write_all(connection: Connection) -> Sequence[Result]:
            async with connection.transaction():
                return (await connection.script([_BEGIN, *statements, _COMMIT]))[1:-1]

        results = await self.submit(write_all)
        self._count()
        return results

    async def _run(self, connection: Connection, work: Work[Any]) -> Any:
        """Run the work, again if others made the server roll it back. Raises goscope's errors."""
        settings = self._settings
        # From then on, waiting for a row once more could end in a timeout.
        last_wait = time.monotonic() + settings.timeout_ms / 1000 - 2 * settings.lock_wait_s
        try:
            for attempt in range(1, MAX_ATTEMPTS):
                try:
                    return await self._run_once(connection, work)
                except Exception as exc:
                    is_late = code_of(exc) == LOCK_WAIT_TIMEOUT and time.monotonic() > last_wait
                    if is_late or not is_deadlock(exc):
                        raise
                await asyncio.sleep(random.random() * LONGEST_PAUSE_S * attempt / MAX_ATTEMPTS)
            return await self._run_once(connection, work)
        except Exception as exc:
            if is_read_only(exc):
                connection.abort()  # the name of the server may lead to the new primary by now
            error = (
                no_answer(self._settings.address, self._settings.timeout_ms)
                if connection.timed_out
                else translate(exc, self._settings.address)
            )
            raise error from (error.__cause__ if error is exc else exc)

    async def _run_once(self, connection: Connection, work: Work[Any]) -> Any:
        clock = self._context.clock
        if clock is not self.clock:  # a test's
            await connection.follow(clock.wall_ms())
        return await work(connection)

    def _count(self) -> None:
        if self.on_write is not None:
            self.on_write(1)
