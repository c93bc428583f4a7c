"""The host's own transactions in the file: docs/sharing-the-file.md."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from goscope import BackendBusy, Scope
from goscope_sqlite import SQLiteAdapter

pytestmark = pytest.mark.asyncio

ATTEMPTS = 20


@pytest.fixture
def host(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection of the host, with its own table, that begins its transactions itself."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("CREATE TABLE stock (article TEXT, left INTEGER)")
    connection.execute("INSERT INTO stock VALUES ('apple', 1000)")
    yield connection
    connection.close()


def read(host: sqlite3.Connection) -> int:
    left: int = host.execute("SELECT left FROM stock").fetchone()[0]
    return left


def sell_one(host: sqlite3.Connection) -> None:
    host.execute("UPDATE stock SET left = left - 1")


async def test_a_deferred_transaction_that_read_before_goscope_wrote_cannot_write(
    path: Path, host: sqlite3.Connection
) -> None:
    """Its snapshot is no longer the last one. SQLite says so at once, whatever the timeout."""
    refused: list[str] = []
    async with Scope(persistence=SQLiteAdapter(path)) as gs:
        for number in range(ATTEMPTS):
            host.execute("BEGIN")
            read(host)
            await gs.cache.set("left", number)
            with pytest.raises(sqlite3.OperationalError) as caught:
                sell_one(host)
            refused.append(caught.value.sqlite_errorname)
            host.execute("ROLLBACK")
    assert refused == ["SQLITE_BUSY_SNAPSHOT"] * ATTEMPTS


async def test_a_transaction_that_has_ended_before_goscope_writes_succeeds(
    path: Path, host: sqlite3.Connection
) -> None:
    async with Scope(persistence=SQLiteAdapter(path)) as gs:
        for number in range(ATTEMPTS):
            host.execute("BEGIN")
            read(host)
            host.execute("COMMIT")
            await gs.cache.set("left", number)
            sell_one(host)
    assert read(host) == 1000 - ATTEMPTS


async def test_an_immediate_transaction_succeeds_around_reads_and_before_writes(
    path: Path, host: sqlite3.Connection
) -> None:
    async with Scope(persistence=SQLiteAdapter(path)) as gs:
        await gs.cache.set("left", 1000)
        for _ in range(ATTEMPTS):
            host.execute("BEGIN IMMEDIATE")
            left = read(host)
            assert await gs.cache.get("left") == left
            sell_one(host)
            host.execute("COMMIT")
            await gs.cache.set("left", left - 1)
    assert read(host) == 1000 - ATTEMPTS


async def test_goscope_names_the_hosts_own_transaction_when_it_waits_for_it(
    path: Path, host: sqlite3.Connection
) -> None:
    """A call inside the host's write transaction waits for its own caller."""
    async with Scope(persistence=SQLiteAdapter(path, busy_timeout="20ms")) as gs:
        host.execute("BEGIN IMMEDIATE")
        sell_one(host)
        with pytest.raises(BackendBusy, match="end your own before you call goscope"):
            await gs.cache.set("left", 1)
        host.execute("COMMIT")
        await gs.cache.set("left", 1)
        assert await gs.cache.get("left") == 1
