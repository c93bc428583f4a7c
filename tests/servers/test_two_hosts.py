"""A lock that two hosts share, one of which loses its network for longer than the lease."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import pytest

from goscope import Scope

from .mysql import server as mysql
from .postgres import server as postgres
from .redis.servers import running_server as running_redis
from .second_host import SecondHost, second_host

ROOT: Final = Path(__file__).parents[2]
SLOW_S: Final = 60.0

pytestmark = [pytest.mark.asyncio, pytest.mark.long]

logger: Final = logging.getLogger(__name__)


@pytest.fixture
def host() -> Iterator[SecondHost]:
    with second_host() as host:
        yield host


@contextmanager
def postgres_url(address: str) -> Generator[str]:
    """The URL of a server that also listens at the address, which ``{host}`` stands for."""
    with postgres.running_server(f"listen_addresses = '127.0.0.1,{address}'") as server:
        server.install("pg_hba.conf", "host all all all scram-sha-256\n")
        server.stop()
        server.start()
        login = f"postgresql://postgres:secret@{{host}}:{server.port}/postgres"
        yield f"{login}?command_timeout=1s&connect_timeout=2s"


@contextmanager
def mysql_url(address: str, folder: Path) -> Generator[str]:
    """As `postgres_url`."""
    users = folder / "users.sql"
    users.write_text(
        "CREATE DATABASE IF NOT EXISTS shop;\n"
        "CREATE USER app@'%' IDENTIFIED BY 'secret';\n"
        "GRANT ALL ON shop.* TO app@'%';\n"
    )
    listens = f"--bind-address=127.0.0.1,{address}"
    # Else an anonymous user of localhost comes before this one.
    options = (listens, "--skip-name-resolve", f"--init-file={users}")
    with mysql.running_server(*options) as server:
        yield f"mysql://app:secret@{{host}}:{server.port}/shop?timeout=1s&connect_timeout=2s"


@asynccontextmanager
async def redis_url(address: str, folder: Path) -> AsyncGenerator[str]:
    """As `postgres_url`."""
    options = ("--bind", "127.0.0.1", address, "--protected-mode", "no")
    async with running_redis(folder / "server", *options) as server:
        yield f"redis://{{host}}:{server.port}/0?command_timeout=1s&connect_timeout=2s"


async def test_a_holder_on_postgres_loses_its_network(host: SecondHost) -> None:
    with postgres_url(host.address) as url:
        await check_partition(host, url)


async def test_a_holder_on_mysql_loses_its_network(host: SecondHost, tmp_path: Path) -> None:
    with mysql_url(host.address, tmp_path) as url:
        await check_partition(host, url)


async def test_a_holder_on_redis_loses_its_network(host: SecondHost, tmp_path: Path) -> None:
    async with redis_url(host.address, tmp_path) as url:
        await check_partition(host, url)


async def check_partition(host: SecondHost, url: str) -> None:
    """Unplug the host while a program there holds a lock; this process takes over.

    The program's body is cancelled, and its late fenced write is refused. The course of events is
    logged: see it with ``--log-cli-level INFO``.
    """
    events: list[tuple[float, str]] = []

    def log(what: str) -> None:
        events.append((time.monotonic(), what))

    async def heard(what: str) -> str:
        assert holder.stdout is not None
        at, _, said = (await holder.stdout.readline()).decode().strip().partition(" ")
        assert said.startswith(what), f"{said!r} after {events}"
        events.append((float(at), f"A: {said}"))
        return said

    async with (
        Scope(url.format(host="127.0.0.1")) as gs,
        holder_on(host, url.format(host=host.address)) as holder,
        asyncio.timeout(SLOW_S),
    ):
        token = int((await heard("holds")).rpartition(" ")[2])
        host.unplug()
        log("the network is cut")
        async with gs.lock("stock", wait="30s") as handle:
            log(f"B: holds the lock with token {handle.fencing_token}")
            assert handle.fencing_token is not None
            assert handle.fencing_token > token
            await gs.cache.set("stock", "B", fence=handle)
            await heard("the body is cancelled")
            await heard("LeaseLost")
            host.plug_in()
            log("the network is mended")
            assert holder.stdin is not None
            holder.stdin.write(b"\n")
            await heard("its late fenced write is refused")
            await heard("reads B")
    start = min(events)[0]
    logger.info("\n%s", "\n".join(f"{at - start:7.3f} s  {what}" for at, what in sorted(events)))


@asynccontextmanager
async def holder_on(host: SecondHost, url: str) -> AsyncGenerator[Process]:
    """The program on the host that holds the lock of the store; it is ended at the end."""
    command = host.command(sys.executable, "-m", "tests.servers.holder", url)
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdin=PIPE, stdout=PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
