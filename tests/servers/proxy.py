"""A TCP proxy on loopback that can stop forwarding, as a broken network does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final, Self


class Proxy:
    """Forwards to a server until it is stopped; neither end is told when it stops.

    ``target`` is the host and the port of the server, which new connections lead to.
    """

    def __init__(self, host: str, port: int) -> None:
        self.port = 0
        self.target = (host, port)
        self.held: Final = asyncio.Event()
        """Set when something has arrived that is not forwarded."""
        self._forwards = asyncio.Event()
        self._forwards.set()
        self._answers = asyncio.Event()
        self._answers.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    @asynccontextmanager
    async def to(cls, host: str, port: int) -> AsyncGenerator[Self]:
        """A proxy to the server, on ``port`` of 127.0.0.1."""
        proxy = cls(host, port)
        server = await asyncio.start_server(proxy._accept, "127.0.0.1", 0)
        proxy.port = server.sockets[0].getsockname()[1]
        try:
            yield proxy
        finally:
            server.close()
            proxy.cut()
            for task in proxy._tasks:
                task.cancel()
            await asyncio.gather(*proxy._tasks, return_exceptions=True)

    def stop(self) -> None:
        """Keep every connection open, and forward nothing any more."""
        self._forwards.clear()

    def stop_answers(self) -> None:
        """Forward only to the server."""
        self._answers.clear()

    def resume(self) -> None:
        """Forward what has arrived since, and what follows."""
        self._forwards.set()
        self._answers.set()

    def cut(self) -> None:
        """Reset every connection."""
        for writer in self._writers:
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there_reader, there_writer = await asyncio.open_connection(*self.target)
        except OSError:  # the server does not run
            writer.close()
            return
        self._writers |= {writer, there_writer}
        for source, target, allowed in (
            (reader, there_writer, self._forwards),
            (there_reader, writer, self._answers),
        ):
            task = asyncio.create_task(self._forward(source, target, allowed))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _forward(
        self,
        source: asyncio.StreamReader,
        target: asyncio.StreamWriter,
        allowed: asyncio.Event,
    ) -> None:
        try:
            while data := await source.read(65536):
                if not (self._forwards.is_set() and allowed.is_set()):
                    self.held.set()
                await self._forwards.wait()
                await allowed.wait()
                target.write(data)
                await target.drain()
        except OSError:
            pass  # one end was reset: so is the other
        finally:
            target.close()
