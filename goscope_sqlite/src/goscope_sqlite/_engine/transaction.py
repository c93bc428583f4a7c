"""A write transaction that the user's statements share with goscope's."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from inspect import isawaitable
from time import perf_counter
from typing import Any, Final, Generic, NamedTuple, TypeAlias, TypeVar
from weakref import WeakSet

from goscope.errors import BackendError, ConfigurationError

T = TypeVar("T")

Work: TypeAlias = Callable[[sqlite3.Connection], T]

CHECK_INTERVAL_STEPS: Final = 10_000
"""How many steps of SQLite's machine pass between two looks at the time: about 0.2 ms."""

_HARMLESS_PRAGMAS: Final = frozenset(
    {
        "application_id",
        "defer_foreign_keys",
        "foreign_key_check",
        "foreign_key_list",
        "index_info",
        "index_list",
        "index_xinfo",
        "table_info",
        "table_list",
        "table_xinfo",
        "user_version",
    }
)
"""Pragmas whose argument changes nothing beyond the transaction and the user's own data."""


class Outcome(NamedTuple, Generic[T]):
    """What the work returned after the commit, or what it raised after the rollback."""

    returned: T | None
    error: BaseException | None


def transact(
    connection: sqlite3.Connection, prepare: Work[None], work: Work[T], max_s: float
) -> Outcome[T]:
    """Run both in one transaction: ``prepare`` is goscope's, ``work`` the user's.

    Raises what ``prepare`` raises, errors of sqlite3 for BEGIN and COMMIT, `ConfigurationError` for
    work that would end the transaction, and `BackendError` for statements of more than ``max_s``.
    An error of the work, or of its deferred constraints, is part of the outcome, since it belongs
    to the caller. After any of them nothing is written.
    """
    connection.execute("BEGIN IMMEDIATE")
    # If its transaction ends early, sqlite3 begins another one for a change, which is refused.
    connection.isolation_level = "IMMEDIATE"
    try:
        prepare(connection)
        outcome = _Guard(connection, max_s).run(work)
        if outcome.error is None:
            try:
                connection.execute("COMMIT")
            except sqlite3.IntegrityError as exc:
                outcome = Outcome[T](None, exc)
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        connection.isolation_level = None  # commits what is open, so it comes last
    return outcome


class _Guard:
    """Keeps work in its transaction, and the connection as it was.

    A pending statement would keep its snapshot of the file, and let every later write fail.
    """

    def __init__(self, connection: sqlite3.Connection, max_s: float) -> None:
        self._connection = connection
        self._max_s = max_s
        self._deadline = perf_counter() + max_s
        self._refused = ""
        self._opened: WeakSet[Any] = WeakSet()

    def run(self, work: Work[T]) -> Outcome[T]:
        connection = self._connection
        attributes = vars(connection)
        before = attributes.copy()
        connection.set_authorizer(self._authorize)
        connection.set_progress_handler(self._is_overdue, CHECK_INTERVAL_STEPS)
        for name in ("execute", "executemany", "cursor", "blobopen"):
            attributes[name] = self._tracked(getattr(connection, name))
        try:
            outcome = self._call(work)
        finally:
            for opened in list(self._opened):
                opened.close()
            attributes.clear()
            attributes.update(before)
            connection.set_authorizer(None)
            connection.set_progress_handler(None, 0)
            connection.row_factory, connection.text_factory = None, str
        return outcome

    def _call(self, work: Work[T]) -> Outcome[T]:
        returned: T | None = None
        error: BaseException | None = None
        try:
            returned = work(self._connection)
        except BaseException as exc:
            error = exc
        if isawaitable(returned):
            getattr(returned, "close", bool)()  # a coroutine that is not awaited warns
            error = TypeError(
                "the work of a transaction returned an awaitable: SQLite runs it in a thread, "
                "so it must be a plain function. Await before the transaction, or after it"
            )
        code = getattr(error, "sqlite_errorcode", None)
        if code == sqlite3.SQLITE_AUTH and self._refused:
            raise ConfigurationError(
                f"the work of a transaction executed {self._refused}: goscope begins the "
                f"transaction, and commits it when the function returns. Nothing was written. "
                f"Leave it out, and do not use `with connection:`, commit(), rollback() and "
                f"executescript(), which end a transaction"
            ) from error
        if code == sqlite3.SQLITE_INTERRUPT and perf_counter() > self._deadline:
            raise BackendError(
                f"the work of a transaction took longer than the {self._max_s:g} s for which other "
                f"processes wait for it (busy_timeout). Nothing was written. Write less at a time, "
                f"do other work before the transaction, or raise busy_timeout"
            ) from error
        if error is None and not self._connection.in_transaction:
            raise ConfigurationError(
                "a statement of the work rolled its transaction back, as OR ROLLBACK and "
                "RAISE(ROLLBACK) do, and the work went on. Nothing was written. Use OR ABORT, or "
                "let the error end the work"
            )
        return Outcome(returned, error)

    def _tracked(self, open_: Callable[..., Any]) -> Callable[..., Any]:
        def opened(*args: Any, **kwargs: Any) -> Any:
            result = open_(*args, **kwargs)
            self._opened.add(result)
            return result

        return opened

    def _is_overdue(self) -> bool:
        return perf_counter() > self._deadline

    def _authorize(
        self, action: int, argument: str | None, value: str | None, *_: str | None
    ) -> int:
        """Refuse what would end the transaction or outlast it. SQLite asks for each statement."""
        if action == sqlite3.SQLITE_TRANSACTION:
            self._refused = str(argument)
        elif action in (sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH):
            self._refused = "ATTACH" if action == sqlite3.SQLITE_ATTACH else "DETACH"
        elif action == sqlite3.SQLITE_PRAGMA and value is not None:
            if argument in _HARMLESS_PRAGMAS:
                return sqlite3.SQLITE_OK
            self._refused = f"PRAGMA {argument} = {value}"
        elif self._connection.in_transaction:
            return sqlite3.SQLITE_OK
        return sqlite3.SQLITE_DENY
