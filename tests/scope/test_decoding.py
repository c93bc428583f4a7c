"""How often stored text is decoded, and text that only JavaScript writes."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest

from goscope import Scope
from goscope.backend import StoredResult
from goscope.memory import MemoryAdapter
from goscope.testing import FakeClock

from .factories import fail
from .support import PausedCall, Store, leases_of, ticks

pytestmark = pytest.mark.asyncio

LONE_SURROGATE = '"\\ud800"'
"""Valid JSON, which JavaScript writes for half of a character."""


class Decoded:
    """A value that counts how often it is decoded, by the hook that pydantic's models have."""

    count: ClassVar[int] = 0

    def __init__(self, number: int) -> None:
        self.number = number

    def model_dump(self, mode: str) -> Any:
        return {"number": self.number}

    @classmethod
    def model_validate(cls, value: Any) -> Self:
        cls.count += 1
        return cls(value["number"])


@pytest.fixture(autouse=True)
def _nothing_decoded() -> None:
    Decoded.count = 0


async def make() -> Decoded:
    return Decoded(7)


async def test_a_fill_decodes_the_value_once_for_each_caller(gs: Scope) -> None:
    paused = PausedCall()
    callers = [
        asyncio.create_task(
            gs.cache.get_or_set("key", lambda: paused.run(Decoded(7)), type=Decoded)
        )
        for _ in range(3)
    ]
    await paused.started()
    await ticks()
    assert Decoded.count == 0
    paused.resume()
    assert [value.number for value in await asyncio.gather(*callers)] == [7, 7, 7]
    assert Decoded.count == 3


async def test_a_cache_hit_decodes_the_value_once(gs: Scope) -> None:
    await gs.cache.set("key", {"number": 7})
    value = await gs.cache.get_or_set("key", fail, type=Decoded)
    assert (value.number, Decoded.count) == (7, 1)


async def test_a_value_computed_by_another_process_is_decoded_once(
    store: Store, gs: Scope, other: Scope
) -> None:
    paused = PausedCall()
    leader = asyncio.create_task(gs.cache.get_or_set("key", lambda: paused.run({"number": 7})))
    await paused.started()
    waiter = asyncio.create_task(other.cache.get_or_set("key", fail, type=Decoded))
    await store.wait_until_idle()
    paused.resume()
    await leader
    await store.advance("1s")
    assert ((await waiter).number, Decoded.count) == (7, 1)


async def test_an_idempotent_call_decodes_its_result_once_for_each_caller(gs: Scope) -> None:
    paused = PausedCall()
    callers = [
        asyncio.create_task(gs.idempotency.run("key", lambda: paused.run(Decoded(7)), type=Decoded))
        for _ in range(3)
    ]
    await paused.started()
    await ticks()
    assert Decoded.count == 0
    paused.resume()
    assert [value.number for value in await asyncio.gather(*callers)] == [7, 7, 7]
    assert Decoded.count == 3


async def test_a_replay_decodes_the_result_once(gs: Scope) -> None:
    await gs.idempotency.run("key", make)
    result = await gs.idempotency.run_detailed("key", fail, type=Decoded)
    assert (result.value.number, result.replayed, Decoded.count) == (7, True, 1)


async def test_a_result_of_another_process_is_decoded_once(
    store: Store, gs: Scope, other: Scope
) -> None:
    paused = PausedCall()
    leader = asyncio.create_task(gs.idempotency.run("key", lambda: paused.run({"number": 7})))
    await paused.started()
    waiter = asyncio.create_task(other.idempotency.run("key", fail, type=Decoded))
    await store.wait_until_idle()
    paused.resume()
    await leader
    await store.advance("1s")
    assert ((await waiter).number, Decoded.count) == (7, 1)


async def assert_lone_surrogate_is_replayed(gs: Scope) -> None:
    assert await gs.idempotency.run("key", fail) == "\ud800"
    assert await gs.idempotency.run("key", fail, type=str) == "\ud800"
    record = await gs.idempotency.get("key")
    assert record is not None
    assert record.value == "\ud800"


async def test_a_lone_surrogate_in_memory_is_replayed() -> None:
    adapter = MemoryAdapter()
    async with Scope(persistence=adapter) as gs:
        adapter.records.results["key"] = StoredResult(LONE_SURROGATE, None)
        await assert_lone_surrogate_is_replayed(gs)


async def test_a_lone_surrogate_in_a_sqlite_file_is_replayed(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    async with Scope(backend="sqlite", path=path) as gs:
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute(
            "INSERT INTO go_goscope_idempotency (key, value) VALUES ('key', ?)", [LONE_SURROGATE]
        )
        connection.close()
        await assert_lone_surrogate_is_replayed(gs)


async def test_a_lone_surrogate_stored_by_another_program_ends_the_wait() -> None:
    adapter = MemoryAdapter(clock=FakeClock())
    async with Scope(persistence=adapter) as gs:
        assert await leases_of(gs).acquire("idempotency:key", "1h") is not None
        waiters = [asyncio.create_task(gs.idempotency.run("key", fail)) for _ in range(2)]
        await ticks()
        adapter.records.results["key"] = StoredResult(LONE_SURROGATE, None)
        assert isinstance(adapter.clock, FakeClock)
        await adapter.clock.advance("1s")
        assert await asyncio.gather(*waiters) == ["\ud800"] * 2
