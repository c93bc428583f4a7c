"""The store of Litestar."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from .libraries import require

require("litestar")

from litestar import Litestar, get

from goscope import Scope
from goscope.integrations.litestar import GoscopeStore, stores
from goscope.memory import MemoryAdapter
from goscope.testing import FakeClock

from .serving import served

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def gs() -> AsyncGenerator[Scope]:
    async with Scope(persistence=MemoryAdapter(clock=FakeClock())) as gs:
        yield gs


@pytest.fixture
def store(gs: Scope) -> GoscopeStore:
    return GoscopeStore(gs)


@pytest.mark.parametrize("key", ["a", "", "a:b/c*", "k" * 1000, "ü\0\n", "%2A"])
async def test_values_are_bytes_under_any_key(store: GoscopeStore, key: str) -> None:
    assert (await store.get(key), await store.exists(key)) == (None, False)
    await store.set(key, b"\x00\xff")
    assert (await store.get(key), await store.exists(key)) == (b"\x00\xff", True)
    await store.set(key, "text")
    assert await store.get(key) == b"text"
    await store.delete(key)
    await store.delete(key)
    assert await store.get(key) is None


async def test_values_expire_and_are_renewed(gs: Scope, store: GoscopeStore) -> None:
    clock = gs.persistence.clock
    assert isinstance(clock, FakeClock)
    await store.set("short", b"1", 10)
    await store.set("delta", b"1", timedelta(seconds=10))
    await store.set("forever", b"1", 0)
    assert [await store.expires_in(key) for key in ("short", "delta", "forever", "absent")] == [
        *(10, 10, None, None)
    ]
    await clock.advance("5s")
    assert await store.get("short", renew_for=60) == b"1"
    assert await store.get("forever", renew_for=timedelta(seconds=60)) == b"1"
    assert [await store.expires_in(key) for key in ("short", "forever")] == [60, None]
    await clock.advance("6s")
    assert [await store.exists(key) for key in ("short", "delta", "forever")] == [
        *(True, False, True)
    ]


async def test_deleting_all_stays_inside_the_namespace(gs: Scope, store: GoscopeStore) -> None:
    child, other = store.with_namespace("child"), GoscopeStore(gs, "litestar2")
    grandchild = child.with_namespace("*")
    for each in (store, child, grandchild, other):
        await each.set("key", b"1")
    await gs.cache.set("key", 1)

    async def found() -> list[bool]:
        return [await each.exists("key") for each in (store, child, grandchild, other)]

    await grandchild.delete_all()
    assert await found() == [True, True, False, True]
    await child.delete_all()
    assert await found() == [True, False, False, True]
    await store.delete_all()
    assert await found() == [False, False, False, True]
    assert await gs.cache.get("key") == 1


async def test_a_cached_response_survives_a_restart(tmp_path: Path) -> None:
    calls = 0

    @get("/slow", cache=60)
    async def slow() -> int:
        nonlocal calls
        calls += 1
        return calls

    for _ in range(2):
        gs = Scope(backend="sqlite", path=tmp_path / "cached.db")
        app = Litestar([slow], lifespan=[gs], stores=stores(gs), logging_config=None)
        async with served(app) as client:
            assert [(await client.get("/slow")).text for _ in range(2)] == ["1", "1"]
