"""The user's statements in a transaction of goscope."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Any, Final, Generic, NamedTuple, TypeAlias, TypeVar

from goscope.errors import BackendError, ConfigurationError

from .connection import Connection
from .errors import code_of, is_deadlock

T = TypeVar("T")

UserWork: TypeAlias = Callable[[Any], Awaitable[T]]
"""A coroutine function of a connection of asyncmy."""

NO_SUCH_SAVEPOINT: Final = 1305


class Outcome(NamedTuple, Generic[T]):
    """What the work returned, or what it raised: an error of the user, which is not translated."""

    returned: T | None
    error: BaseException | None


class WorkFailed(Exception):
    """Ends the transaction of work that raised ``error``."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        super().__init__(str(error))


async def call(connection: Connection, work: UserWork[T], context: Context, max_s: float) -> T:
    """Await the work in the context of its caller.

    Raises `WorkFailed` for what it raises, `BackendError` if it takes longer than ``max_s``, and
    the driver's error for a deadlock, after which the work runs again.
    """
    caller = asyncio.current_task()
    assert caller is not None  # a coroutine always runs in a task
    limit = asyncio.timeout(max_s)
    try:
        async with limit:
            return await asyncio.create_task(_checked(connection, work), context=context)
    except BaseException as exc:
        if limit.expired():
            connection.abort()  # the server may be in the middle of a statement
            raise BackendError(
                f"the work of a transaction took longer than {max_s:g} s (timeout). Nothing was "
                f"written. Write less at a time, do other work before the transaction, or raise "
                f"timeout"
            ) from exc
        if is_deadlock(exc) or caller.cancelling():
            raise
        raise WorkFailed(exc) from exc


async def _checked(connection: Connection, work: UserWork[T]) -> T:
    returned: Any = connection.lend(work)
    if not inspect.isawaitable(returned):
        raise TypeError(
            "the work of a transaction returned no awaitable: for MySQL it must be a coroutine "
            "function of an asyncmy connection"
        )
    result: T = await returned
    return result


def check_not_ended(exc: BaseException) -> None:
    """Raise `ConfigurationError` for the error of a transaction that the work has ended."""
    if code_of(exc) == NO_SUCH_SAVEPOINT:
        raise ConfigurationError(
            "the work of a transaction executed COMMIT or ROLLBACK, or a statement that commits, "
            "such as CREATE TABLE: goscope begins the transaction, and commits it when the "
            "function returns. What was committed stays, without goscope's record. Leave the "
            "statement out; create tables with a connection of your own"
        ) from exc
