"""How the backend "memory" decides what the contract leaves open."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from goscope.backend import StoredEntry, StoredResult, path_from_url
from goscope.errors import CorruptValue
from goscope.events import CacheCorrupt, Event
from goscope.memory import MemoryAdapter, MemoryOptions, goscope_backends
from goscope.providers import CacheStats, Checkpoint
from goscope.testing import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest_asyncio.fixture
async def adapter(clock: FakeClock) -> AsyncGenerator[MemoryAdapter]:
    async with MemoryAdapter(key_prefix="shop:", clock=clock) as adapter:
        yield adapter


@pytest.mark.asyncio
async def test_text_that_does_not_decode_is_a_miss_and_an_event(adapter: MemoryAdapter) -> None:
    """A cache may lose anything; each lookup counts as one miss."""
    events: list[Event] = []
    adapter.observe(events.append)
    adapter.records.cache["shop:cache:bad"] = StoredEntry("{")
    assert await adapter.cache.get("bad", "default") == "default"
    assert await adapter.cache.get_many(["bad"]) == {}
    assert await adapter.cache.stats() == CacheStats(entries=1, hits=0, misses=2)
    assert await adapter.cache.get_entry("bad") is None
    assert [event.key for event in events] == ["bad"] * 3
    assert all(isinstance(event, CacheCorrupt) and event.reason for event in events)
    adapter.observe(None)
    await adapter.cache.get("bad")
    assert len(events) == 3


@pytest.mark.asyncio
async def test_a_corrupt_counter_is_an_error_and_stays_unchanged(adapter: MemoryAdapter) -> None:
    adapter.records.cache["shop:cache:bad"] = StoredEntry("{")
    with pytest.raises(CorruptValue, match="'bad'"):
        await adapter.cache.increment("bad")
    assert adapter.records.cache["shop:cache:bad"].text == "{"


@pytest.mark.asyncio
async def test_a_corrupt_result_is_an_error(adapter: MemoryAdapter) -> None:
    """A miss would run the call a second time."""
    adapter.records.results["shop:bad"] = StoredResult("{", None)
    with pytest.raises(CorruptValue, match="'bad'"):
        await adapter.idempotency.get("bad")
    assert await adapter.idempotency.delete("bad"), "a corrupt result could not be deleted"


@pytest.mark.asyncio
async def test_a_corrupt_checkpoint_is_an_error(adapter: MemoryAdapter) -> None:
    """A miss would start the task over."""
    store = adapter.checkpoint
    await store.save(Checkpoint(id="id", task_id="task", sequence=1, timestamp=0, data=1))
    (row,) = adapter.records.checkpoints["shop:task"]
    adapter.records.checkpoints["shop:task"] = [row._replace(text="{")]
    for reading in (store.load("id"), store.load_latest("task"), store.list("task")):
        with pytest.raises(CorruptValue, match="'task'"):
            await reading
    await store.delete_all("task")
    assert await store.load_latest("task") is None


@pytest.mark.asyncio
async def test_prune_counts_what_it_removes(adapter: MemoryAdapter, clock: FakeClock) -> None:
    for number in range(3):
        await adapter.cache.set(f"key{number}", number, "1s")
    await clock.advance("1s")
    assert await adapter.cache.prune() == 3


@pytest.mark.asyncio
async def test_expired_records_do_not_accumulate(adapter: MemoryAdapter, clock: FakeClock) -> None:
    """The store of a program that never prunes must not grow without limit."""
    for number in range(10_000):
        await adapter.cache.set(f"key{number}", number, "1s")
        await adapter.idempotency.set(f"key{number}", number, "1s")
        assert await adapter.lease.acquire(f"key{number}", "1s")
        if number % 500 == 0:
            await clock.advance("25h")
    assert len(adapter.records.cache) < 3_000
    assert len(adapter.records.results) < 3_000
    assert len(adapter.records.leases) < 3_000


@pytest.mark.asyncio
async def test_a_lease_that_expired_within_a_day_still_fences(
    adapter: MemoryAdapter, clock: FakeClock
) -> None:
    """The sweep keeps leases whose holder may still write."""
    handle = await adapter.lease.acquire("mine", "1s")
    await clock.advance("23h")
    for number in range(3_000):
        await adapter.lease.acquire(f"key{number}", "1s")
    await adapter.cache.set("key", 1, fence=handle)
    assert await adapter.cache.get("key") == 1


def test_the_module_is_its_own_plugin() -> None:
    (backend,) = goscope_backends()
    assert backend.name == "memory"
    opened = backend.open(MemoryOptions(key_prefix="shop:", default_lock_ttl="5s"))
    assert isinstance(opened, MemoryAdapter)
    assert not opened.is_connected
    assert opened.context.default_lock_ttl_ms == 5_000


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///app.db", "app.db"),
        ("sqlite:////srv/app.db", "/srv/app.db"),
        ("sqlite:///:memory:", ":memory:"),
        ("sqlite:///my%20app.db?locks=shared", "my app.db"),
    ],
)
def test_a_path_is_read_from_a_url(url: str, path: str) -> None:
    assert path_from_url(urlsplit(url)) == {"path": path}


@pytest.mark.parametrize(
    "url", ["sqlite://app.db", "sqlite://host/app.db", "sqlite://", "sqlite:///"]
)
def test_a_url_that_names_a_host_or_no_file_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"host|no file"):
        path_from_url(urlsplit(url))
