"""The connection on which the server notifies this process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

import asyncpg

from goscope.errors import BackendError

from .database import Database

logger: Final = logging.getLogger("goscope_postgres")


class Listener:
    """Listens on one channel from the first `start` to `close`, and calls ``on_notify``.

    Behind a pooler there are no notifications: nothing starts then. A lost connection is replaced
    at the next `start`.
    """

    def __init__(self, database: Database, channel: str, on_notify: Callable[[str], None]) -> None:
        self._database = database
        self._channel = channel
        self._on_notify = on_notify
        self._connection: asyncpg.Connection | None = None
        self._starting: asyncio.Task[None] | None = None

    @property
    def is_listening(self) -> bool:
        """Whether notifications arrive."""
        return self._connection is not None and not self._connection.is_closed()

    async def start(self) -> bool:
        """Listen if that is possible. Return whether notifications arrive."""
        if self.is_listening or not self._database.is_direct:
            return self.is_listening
        if self._starting is None:
            self._starting = asyncio.create_task(self._start())
        await asyncio.shield(self._starting)
        return self.is_listening

    async def close(self) -> None:
        """Stop listening."""
        if self._starting is not None:
            await asyncio.wait([self._starting])
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def _start(self) -> None:
        try:
            connection = await self._database.connect()
            try:
                await connection.add_listener(self._channel, self._receive)
            except BaseException:
                connection.terminate()
                raise
            self._connection = connection
        except (BackendError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as exc:
            logger.warning("lock waiters poll, since LISTEN failed: %s", exc)
        finally:
            self._starting = None

    def _receive(self, _connection: Any, _pid: int, _channel: str, payload: object) -> None:
        self._on_notify(str(payload))
