"""A few connections that serve the calls of all tasks, in order."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, Generic, TypeAlias, TypeVar

from goscope._tools.cancellation import ShieldableFuture
from goscope.errors import BackendBusy, BackendUnavailable, GoscopeError

from .connection import Connection

T = TypeVar("T")

Work: TypeAlias = Callable[[Connection], Awaitable[T]]


class Call(ShieldableFuture[T], Generic[T]):
    """A call: it can be withdrawn while it waits for a connection, then it runs to its end."""

    work: Work[T]
    repeatable: bool
    """Whether the work may run again when its connection is lost: it only reads."""
    timeout_s: float
    waiting: asyncio.TimerHandle | None = None


class Pool:
    """Connections, opened when they are needed, each with the task that uses it.

    A caller that is cancelled while its call runs waits for the end: so no connection is left in
    a transaction, and what the call wrote is known. ``run`` runs a call on a connection; it raises
    goscope's errors.
    """

    def __init__(
        self,
        name: str,
        open_connection: Callable[[], Awaitable[Connection]],
        run: Callable[[Connection, Work[Any]], Awaitable[Any]],
        size: int,
        timeout_s: float,
    ) -> None:
        self._name = name
        self._open_connection = open_connection
        self._run = run
        self._size: Final = size
        self._timeout_s: Final = timeout_s
        self._queue: deque[Call[Any]] = deque()
        self._idle: list[asyncio.Future[Call[Any] | None]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._closing = False

    def submit(
        self, work: Work[T], *, repeatable: bool = False, more_s: float = 0
    ) -> asyncio.Future[T]:
        """Run ``work`` on a connection; it may take ``more_s`` longer than other work."""
        call: Call[T] = Call(loop=self._loop)
        call.timeout_s = self._timeout_s + more_s
        call.work = work
        call.repeatable = repeatable
        while self._idle:
            worker = self._idle.pop()  # the one that was used last
            if not worker.done():
                worker.set_result(call)
                return call
        if len(self._tasks) < self._size:
            self._start(call)
        else:
            call.waiting = self._loop.call_later(self._timeout_s, self._expire, call)
            self._queue.append(call)
        return call

    async def close(self, last: Work[None] | None = None) -> None:
        """Finish the submitted calls and the ``last`` one, then close the connections.

        The errors of the last one are ignored.
        """
        if self._loop.is_closed():
            return  # its connections have ended with it
        if last is not None:
            with contextlib.suppress(GoscopeError):
                await self.submit(last)
        self._closing = True
        for worker in self._idle:
            if not worker.done():
                worker.set_result(None)
        self._idle.clear()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _start(self, call: Call[Any]) -> None:
        task = self._loop.create_task(self._serve(call), name=f"{self._name} connection")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, first: Call[Any]) -> None:
        """Run calls on one connection, until the pool closes."""
        connection: Connection | None = None
        call: Call[Any] | None = first
        try:
            while call is not None:
                connection = await self._handle(call, connection)
                call = self._queue.popleft() if self._queue else await self._next()
        finally:
            if connection is not None:
                await connection.close()

    async def _next(self) -> Call[Any] | None:
        if self._closing:
            return None
        worker: asyncio.Future[Call[Any] | None] = self._loop.create_future()
        self._idle.append(worker)
        return await worker

    async def _handle(self, call: Call[Any], connection: Connection | None) -> Connection | None:
        """Run one call, and return the connection if it can be used again."""
        if call.waiting is not None:
            call.waiting.cancel()
        if call.done():  # withdrawn while it waited
            return connection
        call.shielded = True
        try:
            for may_repeat in (call.repeatable, False):
                if connection is None or connection.is_lost:
                    connection = await self._open_connection()
                try:
                    call.set_result(await self._within_timeout(connection, call))
                    break
                except BackendUnavailable:
                    if not may_repeat or not connection.is_lost or connection.timed_out:
                        raise
        except Exception as exc:
            call.set_exception(exc)
        except BaseException:  # the event loop ends
            call.shielded = False
            call.cancel()
            raise
        return None if connection is None or connection.is_lost else connection

    async def _within_timeout(self, connection: Connection, call: Call[T]) -> T:
        """Run the work; drop a connection that does not answer, so that it ends."""
        timer = self._loop.call_later(call.timeout_s, connection.time_out)
        try:
            result: T = await self._run(connection, call.work)
            return result
        finally:
            timer.cancel()

    def _expire(self, call: Call[Any]) -> None:
        if not call.done():
            self._queue.remove(call)
            call.set_exception(
                BackendBusy(
                    f"{self._name}: all {self._size} connections were busy for "
                    f"{self._timeout_s:g} s. Nothing was written. Raise max_connections, or make "
                    f"fewer calls at a time"
                )
            )
