"""A server that restarts or crashes: calls recover, and no token is granted twice."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from goscope.errors import BackendUnavailable, ConfigurationError
from goscope_postgres import PostgresAdapter

from .server import Server, running_server

pytestmark = pytest.mark.asyncio


SETTINGS = """
synchronous_commit = off
wal_writer_delay = 10s
bgwriter_lru_maxpages = 0
"""
"""Nothing writes the WAL of the last seconds, so that a crash loses it."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server(SETTINGS) as server:
        yield server


async def test_a_restart_in_mid_call(server: Server) -> None:
    """The calls under way fail, those during the restart too, and later ones succeed."""
    async with PostgresAdapter(server.dsn) as adapter:
        outcomes: list[BaseException | None] = []
        stopping = False

        async def write() -> None:
            number = 0
            while not stopping:
                number += 1
                try:
                    await adapter.cache.increment("count")
                except BackendUnavailable as exc:
                    outcomes.append(exc)
                    await asyncio.sleep(0.01)
                else:
                    outcomes.append(None)

        writers = [asyncio.create_task(write()) for _ in range(4)]
        await asyncio.sleep(0.1)
        await asyncio.to_thread(server.stop)
        await asyncio.sleep(0.05)
        await asyncio.to_thread(server.start)
        await adapter.cache.set("after", 1)
        stopping = True
        await asyncio.gather(*writers)
        succeeded = outcomes.count(None)
        unknown = sum(isinstance(it, BackendUnavailable) and it.outcome_unknown for it in outcomes)
        assert len(outcomes) > succeeded, "no call failed: the server did not restart"
        count = await adapter.cache.get("count")
        assert succeeded <= count <= succeeded + unknown, "an acknowledged write is lost"


async def test_a_wrong_password_is_a_configuration_error(server: Server) -> None:
    adapter = PostgresAdapter(server.dsn.replace(":secret@", ":wrong-one@"))
    with pytest.raises(ConfigurationError, match="refused the login") as info:
        await adapter.connect()
    assert "wrong-one" not in f"{info.value}{adapter!r}"


async def test_no_token_is_granted_twice_over_a_crash(server: Server) -> None:
    """The crash forgets the last grants, and the numbers that the sequence gave for them."""
    granted: list[int] = []
    for key in ("before", "after"):  # the crash may forget the last release, too
        async with PostgresAdapter(server.dsn) as adapter:
            for _ in range(100):  # more than the 32 numbers that a sequence logs in advance
                handle = await adapter.lease.acquire(key, "1h")
                assert handle is not None
                assert handle.fencing_token is not None
                granted.append(handle.fencing_token)
                await handle.release()
            assert await adapter.lease.acquire("last", "1h")
            await asyncio.to_thread(server.stop, "immediate")
            await asyncio.to_thread(server.start)
            holder = await adapter.lease.holder("last")
            assert holder is None, "the crash lost nothing, so this test shows nothing"
    assert granted == sorted(set(granted)), "a token was granted twice, or a smaller one later"
