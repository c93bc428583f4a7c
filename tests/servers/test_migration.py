"""Moving a store to a server, from one, and between two."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from goscope import LockHolder, Scope
from goscope.backend import BaseAdapter
from goscope.migration import exists, migrate
from goscope_postgres import PostgresAdapter
from tests import moved_records
from tests.moved_records import HOUR_MS, THIRD_PARTY, contents, differing, fill, granted

from .mysql import databases
from .postgres.stores import Store
from .postgres.stores import Stores as PostgresStores

pytestmark = pytest.mark.asyncio

SERVERS = ["postgres", "mysql"]
PAIRS = [
    ("memory", "postgres"),
    ("json", "mysql"),
    ("sqlite", "postgres"),
    ("sqlite", "mysql"),
    ("postgres", "mysql"),
    ("mysql", "postgres"),
    ("postgres", "sqlite"),
    ("mysql", "memory"),
    ("postgres", "postgres"),
]
AHEAD = 8 * 10**15
"""A token that no clock in reach is ahead of: it would be the time of the year 2223."""

POSTGRES = PostgresStores()


@pytest.fixture(scope="module", autouse=True)
def _servers(postgres_url: str, mysql_url: str) -> Iterator[None]:
    yield
    asyncio.run(POSTGRES.drop())
    asyncio.run(databases.drop_all())


class Stores(moved_records.Stores):
    """Opens stores also on servers, whose clocks stand still as well."""

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        super().__init__(folder, stack)
        self._postgres: list[Store] = []

    async def open(self, backend: str, name: str) -> Any:
        folder, clock = self._folder / name, self.clock
        adapter: BaseAdapter
        match backend:
            case "postgres":
                folder.mkdir(exist_ok=True)
                store = await POSTGRES.of(folder)
                await store.set_clock(clock.wall_ms())
                self._postgres.append(store)
                adapter = PostgresAdapter(store.dsn, schema=store.name, clock=clock)
            case "mysql":
                adapter = await databases.adapter_on(folder, clock=clock)
            case _:
                return await super().open(backend, name)
        return await self._stack.enter_async_context(adapter)

    async def advance(self, duration: str) -> None:
        await self.clock.advance(duration)
        for store in self._postgres:
            await store.set_clock(self.clock.wall_ms())


@pytest_asyncio.fixture
async def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stores]:
    monkeypatch.setattr(sys, "path", [str(THIRD_PARTY), *sys.path])
    try:
        async with AsyncExitStack() as stack:
            yield Stores(tmp_path, stack)
    finally:
        await POSTGRES.release(tmp_path)


@pytest.mark.parametrize(("backend", "other"), PAIRS)
async def test_everything_moves(stores: Stores, backend: str, other: str) -> None:
    source, destination = await stores.open(backend, "a"), await stores.open(other, "b")
    await fill(source)
    highest = await granted(source, "released", HOUR_MS, "worker")
    await highest.release()
    await stores.advance("5s")
    before = await contents(source)
    migrated = await migrate(source, destination)
    assert differing(migrated) == []
    after = await contents(destination)
    assert len(after) == 17
    assert after == before
    assert [(it.moved, it.verified) for it in migrated] == [
        (5, 5), (3, 3), (2, 2), (2, 2), (1, 1), (4, 4),
    ]  # fmt: skip
    assert await destination.cache.delete_by_tag("a") == 2
    later = await granted(destination, "released", HOUR_MS, "worker")
    assert later.fencing_token is not None
    assert highest.fencing_token is not None
    assert later.fencing_token > highest.fencing_token
    again = await migrate(source, destination)
    assert [it.moved for it in again] == [2, 0, 0, 0, 0, 0]  # what was deleted by tag


@pytest.mark.parametrize("backend", SERVERS)
async def test_a_moved_lease_excludes_others_and_obeys_its_owner(
    stores: Stores, backend: str
) -> None:
    source, destination = await stores.open("sqlite", "a"), await stores.open(backend, "b")
    await fill(source)
    await migrate(source, destination)
    async for lease in destination.inspection.leases():
        assert lease.is_alive is None
    assert await destination.lock.acquire("door", 1000, "other") is None
    assert not await destination.lock.extend("door", HOUR_MS, "other")
    assert await destination.lock.extend("door", 2 * HOUR_MS, "job-7")
    await stores.advance("91s")
    assert await destination.lease.acquire("task:etl", 1000, "other") is not None


@pytest.mark.parametrize("backend", SERVERS)
async def test_an_adopted_lock_is_refused_while_held_and_still_raises_tokens(
    stores: Stores, backend: str
) -> None:
    adapter = await stores.open(backend, "a")
    held = await granted(adapter, "key", 60_000, "here")
    holder = LockHolder(
        owner="there", host="far", pid=2**40, since=1, expires_in_ms=5_000, fencing_token=AHEAD
    )
    assert await adapter.lease.adopt("key", holder) is None
    assert await held.is_valid()
    await held.release()
    later = await granted(adapter, "another", 1000, "here")
    assert later.fencing_token is not None
    assert later.fencing_token > AHEAD
    adopted = await adapter.lease.adopt("key", holder)
    assert adopted.fencing_token > AHEAD
    found = await adapter.lease.holder("key")
    assert (found.owner, found.host, found.pid, found.since) == ("there", "far", 2**40, 1)
    assert found.expires_in_ms == 5_000
    await adopted.release()
    again = await granted(adapter, "key", 1000, "here")
    assert again.fencing_token is not None
    assert again.fencing_token > adopted.fencing_token
    # A lower one lets tokens be as they are.
    low = LockHolder(owner="there", host="", pid=0, since=1, expires_in_ms=5_000, fencing_token=7)
    lower = await adapter.lease.adopt("low", low)
    assert AHEAD < lower.fencing_token < 2 * AHEAD


@pytest.mark.parametrize("backend", SERVERS)
async def test_adoptions_among_grants_let_every_later_token_be_above(
    stores: Stores, backend: str
) -> None:
    """A grant that was under way when the counter was raised must not set it back."""
    adapter = await stores.open(backend, "a")
    raised = 0
    tokens: list[tuple[int, int]] = []

    async def grant(name: str) -> None:
        for _ in range(20):
            least = raised
            handle = await granted(adapter, name, 60_000, "here")
            tokens.append((handle.fencing_token or 0, least))
            await handle.release()

    async def adopt(name: str, token: int) -> None:
        nonlocal raised
        holder = LockHolder(
            owner="there", host="", pid=0, since=1, expires_in_ms=60_000, fencing_token=token
        )
        for _ in range(10):
            adopted = await adapter.lease.adopt(name, holder)
            assert adopted.fencing_token > token
            raised = max(raised, token)
            await adopted.release()

    async with asyncio.TaskGroup() as group:
        for number in range(4):
            group.create_task(grant(f"granted {number}"))
            group.create_task(adopt(f"adopted {number}", AHEAD + 10**12 * number))
    assert raised == AHEAD + 3 * 10**12
    assert [it for it in tokens if it[0] <= it[1]] == []


@asynccontextmanager
async def empty_postgres() -> AsyncGenerator[str]:
    """The URL of a schema without tables."""
    store = await Store.create()
    try:
        yield f"{store.dsn}?schema={store.name}"
    finally:
        await store.drop()


@asynccontextmanager
async def empty_mysql() -> AsyncGenerator[str]:
    """The URL of a database without tables."""
    name = f"goscope_test_{os.getpid()}_empty"
    async with databases.session() as other:
        await other.query(f"CREATE DATABASE {name}")
        try:
            yield f"{databases.URL.rpartition('/')[0]}/{name}"
        finally:
            await other.query(f"DROP DATABASE {name}")


@pytest.mark.parametrize("empty", [empty_postgres, empty_mysql])
async def test_a_store_exists_once_it_was_opened(empty: Any) -> None:
    async with empty() as url:
        assert await exists(url) is False
        assert await exists(url) is False, "the question has created it"
        async with Scope(url):
            pass
        assert await exists(url) is True


@pytest.mark.parametrize("url", ["postgresql://me@127.0.0.1:1/test", "mysql://me@127.0.0.1:1/test"])
async def test_a_store_on_a_server_that_is_gone_may_exist(url: str) -> None:
    """Opening it says what is wrong."""
    assert await exists(url) is True
