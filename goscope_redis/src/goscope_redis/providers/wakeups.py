"""Notifications from other processes: each adapter listens on its own channel."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final

from redis.exceptions import RedisError

from goscope._tools.process import unique_name
from goscope.errors import GoscopeError

from .._server.server import Server
from ..keys import Keys

RETRY_PAUSE_S: Final = 1.0
"""How long after a failure the channel is opened again. Waiters poll in the meantime."""


class Wakeups:
    """The second connection of an adapter, opened by its first wait for a lock.

    A release publishes the stored key of the lock on the channel of the first waiter.
    """

    def __init__(self, server: Server, keys: Keys) -> None:
        self._server = server
        self.waiter: Final = unique_name()
        """The name of this adapter in the wait queues."""
        self.channels: Final = f"{keys.own}wake:"
        """What the names of all channels begin with; the name of the waiter follows."""
        self.listening = False
        """Whether notifications arrive. Otherwise waiters have to poll."""
        self._subscribers: list[Callable[[str], None]] = []
        self._task: asyncio.Task[None] | None = None
        self._tried: asyncio.Event | None = None
        self._ending: set[asyncio.Task[None]] = set()

    def subscribe(self, on_wakeup: Callable[[str], None]) -> None:
        """Call ``on_wakeup`` with the stored key of each lock that is free for this adapter."""
        self._subscribers.append(on_wakeup)

    async def listen(self) -> None:
        """Return when notifications arrive, or when the attempt to open the channel failed."""
        if self._task is None or self._tried is None:
            self._tried = asyncio.Event()
            self._task = asyncio.get_running_loop().create_task(self._run(self._tried))
        await self._tried.wait()

    def restart(self) -> None:
        """Close the channel; the next wait opens it again, on the node that has the keys then."""
        task, self._task = self._task, None
        self.listening = False
        if task is not None:
            task.cancel()
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
        if self._tried is not None:
            self._tried.set()

    async def stop(self) -> None:
        """Close the channel. Does nothing when it is closed."""
        self.restart()
        if self._ending:
            await asyncio.wait(self._ending)

    def abandon(self) -> None:
        """Forget what belongs to an event loop that is closed, or to the parent of a fork."""
        self._task = self._tried = None
        self._ending.clear()
        self.listening = False

    async def _run(self, tried: asyncio.Event) -> None:
        while True:
            with contextlib.suppress(GoscopeError, OSError, RedisError, TimeoutError):
                await self._receive(tried)
            tried.set()
            await asyncio.sleep(RETRY_PAUSE_S)

    async def _receive(self, tried: asyncio.Event) -> None:
        """Open the channel and pass on its messages, until the connection is lost."""
        connector = self._server.connector
        connection = await connector.open(connector.node)
        read: Any = connection.read_response  # its answers have no types
        try:
            async with asyncio.timeout(connector.address.connect_timeout_s):
                await connection.send_command("SUBSCRIBE", self.channels + self.waiter)
                await read(disable_decoding=True)
            self.listening = True
            tried.set()
            while True:
                _, _, message = await read(disable_decoding=True)
                self._publish(message.decode())
        finally:
            self.listening = False
            await connection.disconnect(nowait=True)

    def _publish(self, stored: str) -> None:
        for on_wakeup in self._subscribers:
            on_wakeup(stored)
