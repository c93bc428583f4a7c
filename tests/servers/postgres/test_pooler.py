"""Behind PgBouncer's transaction pooling, each transaction may run in another server process."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import asyncpg
import pytest

from goscope.providers import Capability, Checkpoint
from tests.missing import missing

from .server import free_port
from .stores import Store, administrator
from .support import adapter_of

pytestmark = pytest.mark.asyncio

TIMEOUT_S: Final = 30


@pytest.fixture
def pooler(store: Store) -> Iterator[str]:
    """The DSN of the store through a PgBouncer with three server connections."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        missing("pgbouncer is not installed: run `make servers`")
    server, port = urlsplit(store.dsn), free_port()
    user = "postgres" if os.getuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="goscope-pgbouncer-") as folder:
        if user is not None:
            account = pwd.getpwnam(user)
            os.chown(folder, account.pw_uid, account.pw_gid)
        config = Path(folder, "pgbouncer.ini")
        Path(folder, "users").write_text(f'"{store.name}" "{store.name}"\n')
        config.write_text(f"""
[databases]
* = host={server.hostname} port={server.port or 5432}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = users
pool_mode = transaction
default_pool_size = 3
""")
        config.chmod(0o644)
        with Path(folder, "log").open("w") as log:
            process = subprocess.Popen(
                [program, str(config)], user=user, cwd=folder, stdout=log, stderr=log
            )
        try:
            _wait_until_it_listens(port, process)
            yield server._replace(netloc=f"{store.name}@127.0.0.1:{port}").geturl()
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(TIMEOUT_S)


def _wait_until_it_listens(port: int, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S).close()
        except ConnectionRefusedError:
            continue
        return
    pytest.fail("pgbouncer did not start")


async def test_many_adapters_share_few_server_processes(store: Store, pooler: str) -> None:
    """Every feature works, with four adapters on three server connections."""
    adapters = [adapter_of(store, dsn=pooler, pool_size=4) for _ in range(4)]
    for adapter in adapters:
        await adapter.connect()
        assert Capability.NOTIFICATIONS not in adapter.capabilities
    try:
        counts = await asyncio.gather(
            *(it.cache.increment("count") for it in adapters for _ in range(10))
        )
        assert sorted(counts) == list(range(1, 41))
        await asyncio.gather(
            *(it.cache.set(f"key{n}", n) for n in range(20) for it in adapters),
            *(it.cache.get(f"key{n}") for n in range(20) for it in adapters),
        )
        grants = await asyncio.gather(*(it.lock.acquire("lock") for it in adapters))
        [handle] = [grant for grant in grants if grant is not None]
        await adapters[0].cache.set("fenced", 1, fence=handle)
        await adapters[1].checkpoint.save(
            Checkpoint(id="1", task_id="task", sequence=1, timestamp=0, data=None)
        )
        waiting = asyncio.create_task(adapters[2].lock.wait_released("lock"))
        await asyncio.sleep(0.2)
        await handle.release()
        assert await waiting, "a waiter that polls noticed the release"
    finally:
        for adapter in adapters:
            await adapter.disconnect()
    async with administrator() as other:
        settings = await other.fetch(
            "SELECT DISTINCT state FROM pg_stat_activity WHERE usename = $1", store.name
        )
    assert [row[0] for row in settings] == ["idle"], "a server connection is in a transaction"


async def test_nothing_is_left_in_a_session_of_the_pooler(store: Store, pooler: str) -> None:
    """Another client of the same server connections finds neither settings nor statements."""
    async with adapter_of(store, dsn=pooler) as adapter:
        await asyncio.gather(*(adapter.cache.increment("count") for _ in range(20)))
        other = await asyncpg.connect(pooler, statement_cache_size=0)
        try:
            async with other.transaction():
                assert await other.fetchval("SHOW statement_timeout") == "0"
                prepared = "SELECT count(*) FROM pg_prepared_statements WHERE name <> ''"
                assert await other.fetchval(prepared) == 0
        finally:
            await other.close()
