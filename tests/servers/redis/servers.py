"""Redis servers that a test starts, restarts and ends, each with its own folder and port."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from redis.asyncio import Connection, Redis

from goscope_redis import RedisAdapter
from tests.missing import missing

READY_S: Final = 30.0

SERVERS: Final = (
    os.environ.get("GOSCOPE_TEST_REDIS_SERVER", "redis-server"),
    "valkey-server",
)
"""The programs that can be the server, the first one that is installed."""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


class RedisServer:
    """A server process. Its data is gone when it ends."""

    def __init__(self, folder: Path, *options: str, port: int | None = None) -> None:
        self.folder = folder
        self.port = port or free_port()
        self.options = options
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self._process = await asyncio.create_subprocess_exec(
            program(*SERVERS),
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)),
            *("--save", "", "--appendonly", "no", "--logfile", str(self.folder / "log")),
            *("--repl-diskless-sync-delay", "0"),
            *self.options,
        )
        async with asyncio.timeout(READY_S):
            while not await _accepts(self.port):  # noqa: ASYNC110  # another process
                await asyncio.sleep(0.01)

    async def kill(self) -> None:
        """End the process at once, as a crash does."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def client(self, **options: Any) -> Any:
        """A client of redis-py, whose methods have no precise types."""
        return Redis(host="127.0.0.1", port=self.port, **options)

    async def command(self, *arguments: str | int) -> Any:
        """Run one command on a new connection; its answer as the server gives it."""
        connection: Any = Connection(host="127.0.0.1", port=self.port, protocol=2)
        try:
            await connection.connect()
            await connection.send_command(*arguments)
            return await connection.read_response(disable_decoding=True)
        finally:
            await connection.disconnect()

    def adapter(self, **options: Any) -> RedisAdapter:
        return RedisAdapter("127.0.0.1", self.port, **options)


@asynccontextmanager
async def running_server(folder: Path, *options: str) -> AsyncGenerator[RedisServer]:
    server = RedisServer(folder, *options)
    try:
        await server.start()
        yield server
    finally:
        await server.kill()


def program(*names: str) -> str:
    """The path of the first program that is installed; skips the test if none is."""
    for name in names:
        if found := shutil.which(name):
            return found
    missing(f"{names[0]} is not installed: it is in a package of that name")


async def _accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True
