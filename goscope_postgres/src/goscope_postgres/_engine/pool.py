"""A few connections, each lent for one statement at a time.

asyncpg's own pool resets a connection after each use, which costs a round trip. Nothing here leaves
anything behind in a session, so the connections need no reset.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

import asyncpg

from goscope.errors import BackendBusy


class Pool:
    """Up to ``size`` connections, opened when they are needed. `acquire` waits for ``timeout_s``.

    The connection used last is lent first, so that a quiet program uses only one.
    """

    def __init__(
        self, connect: Callable[[], Awaitable[asyncpg.Connection]], size: int, timeout_s: float
    ) -> None:
        self._connect: Final = connect
        self._size: Final = size
        self._timeout_s: Final = timeout_s
        self._idle: list[asyncpg.Connection] = []
        self._lent: set[asyncpg.Connection] = set()
        self._opening = 0
        self._waiting: deque[asyncio.Future[asyncpg.Connection | None]] = deque()

    def take_idle(self) -> asyncpg.Connection | None:
        """Lend an idle connection, None if there is none; `acquire` then opens one or waits."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():  # the server may have closed it in the meantime
                self._lent.add(connection)
                return connection
        return None

    async def acquire(self) -> asyncpg.Connection:
        """Lend a connection. Raises `BackendBusy`, and what ``connect`` raises."""
        connection = self.take_idle()
        while connection is None:
            if len(self._lent) + self._opening < self._size:
                connection = await self._open()
            else:
                connection = await self._wait()  # None: there is room for another one
        self._lent.add(connection)
        return connection

    def release(self, connection: asyncpg.Connection, *, broken: bool = False) -> None:
        """Take a connection back; end it if it is ``broken``."""
        if broken:
            connection.terminate()
        if connection.is_closed():
            self._lent.discard(connection)
            self._hand_over(None)
        elif not self._hand_over(
            connection
        ):  # else it stays lent: it counts while it changes hands
            self._lent.discard(connection)
            self._idle.append(connection)

    def discard_idle(self) -> None:
        """End the idle connections: one was lost, so the server may have closed them as well."""
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.terminate()

    async def close(self) -> None:
        """Close the connections; statements that still run on some are cut off."""
        idle, self._idle = self._idle, []
        for connection in (*idle, *self._lent):
            try:
                if connection in self._lent:
                    connection.terminate()
                else:
                    await connection.close(timeout=self._timeout_s)
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                connection.terminate()  # the server is gone

    async def _open(self) -> asyncpg.Connection:
        self._opening += 1
        try:
            return await self._connect()
        except BaseException:
            self._hand_over(None)
            raise
        finally:
            self._opening -= 1

    async def _wait(self) -> asyncpg.Connection | None:
        waiter: asyncio.Future[asyncpg.Connection | None]
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(self._timeout_s):
                return await waiter
        except BaseException as exc:
            if waiter.done() and not waiter.cancelled() and (given := waiter.result()):
                self.release(given)
            if isinstance(exc, TimeoutError):
                raise BackendBusy(
                    f"all {self._size} connections of the pool were in use for "
                    f"{self._timeout_s:g} s; nothing was applied. Raise pool_size, or find the "
                    f"slow statements in pg_stat_activity"
                ) from None
            raise

    def _hand_over(self, connection: asyncpg.Connection | None) -> bool:
        """Give the first waiter the connection, or None for room to open one."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return True
        return False
