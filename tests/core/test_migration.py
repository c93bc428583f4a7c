"""`goscope.migration`: every kind of record keeps its value, its times and its guards."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from goscope import CircuitBreakerState, ConfigurationError, CorruptValue, LockHolder
from goscope.migration import Migrated, migrate
from tests.moved_records import (
    HOUR_MS,
    THIRD_PARTY,
    Stores,
    checkpoint,
    contents,
    differing,
    fill,
    granted,
)

pytestmark = pytest.mark.asyncio

BACKENDS = ["memory", "json", "sqlite", "sqlite-bun"]


@pytest_asyncio.fixture
async def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stores]:
    monkeypatch.setattr(sys, "path", [str(THIRD_PARTY), *sys.path])
    async with AsyncExitStack() as stack:
        yield Stores(tmp_path, stack)


def by_kind(migrated: Sequence[Migrated]) -> dict[str, Migrated]:
    return {result.kind: result for result in migrated}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("other", BACKENDS)
async def test_everything_moves(stores: Stores, backend: str, other: str) -> None:
    source, destination = await stores.open(backend, "a"), await stores.open(other, "b")
    await fill(source)
    await stores.clock.advance("5s")
    before = await contents(source)
    migrated = await migrate(source, destination)
    assert differing(migrated) == []
    after = await contents(destination)
    assert len(after) == 17
    assert after == before
    assert {it.kind: (it.moved, it.verified) for it in migrated} == {
        "entries": (5, 5),
        "collections": (3, 3),
        "results": (2, 2),
        "circuits": (2, 2),
        "tasks": (1, 1),
        "leases": (4, 4),
    }
    assert await destination.cache.delete_by_tag("a") == 2
    assert await destination.cache.collection("box").delete_by_tag("a") == 1
    again = await migrate(source, destination)
    assert [it.moved for it in again] == [2, 1, 0, 0, 0, 0]  # what was deleted by tag


@pytest.mark.parametrize("backend", BACKENDS)
async def test_later_tokens_are_above_all_of_the_source(stores: Stores, backend: str) -> None:
    source, destination = await stores.open("sqlite", "a"), await stores.open(backend, "b")
    for _ in range(50):
        await (await granted(source, "task:etl", 60_000, "worker")).release()
    highest = await granted(source, "task:etl", 60_000, "worker")
    await migrate(source, destination)
    moved = await destination.lease.holder("task:etl")
    later = await granted(destination, "another", 60_000, "worker")
    assert highest.fencing_token is not None
    assert moved.fencing_token > highest.fencing_token
    assert later.fencing_token is not None
    assert later.fencing_token > moved.fencing_token


async def test_a_destination_whose_tokens_stay_below_is_refused(stores: Stores) -> None:
    class Plain:
        """A lock provider that cannot adopt."""

        def __init__(self, provider: Any) -> None:
            self.acquire, self.holder = provider.acquire, provider.holder
            self.extend, self.force_release = provider.extend, provider.force_release

    source, destination = await stores.open("memory", "a"), await stores.open("memory", "b")
    await fill(source)
    destination.lease = Plain(destination.lease)
    with pytest.raises(ConfigurationError, match="are not above those of the source"):
        await migrate(source, destination)
    assert await contents(destination) == {}


@pytest.mark.parametrize("backend", BACKENDS)
async def test_a_moved_lease_excludes_others_and_obeys_its_owner(
    stores: Stores, backend: str
) -> None:
    """Also on a backend that frees the leases of a process that has ended: this one ends, too."""
    source, destination = await stores.open("sqlite", "a"), await stores.open(backend, "b")
    await fill(source)
    await migrate(source, destination)
    async for lease in destination.inspection.leases():
        assert lease.is_alive is None  # the process that moved them proves nothing
    assert await destination.lock.acquire("door", 1000, "other") is None
    assert not await destination.lock.extend("door", HOUR_MS, "other")
    assert await destination.lock.extend("door", 2 * HOUR_MS, "job-7")
    await stores.clock.advance("91s")
    assert await destination.lease.acquire("task:etl", 1000, "other") is not None


@pytest.mark.parametrize("backend", BACKENDS)
async def test_an_adopted_lock_is_refused_while_held_and_still_raises_tokens(
    stores: Stores, backend: str
) -> None:
    adapter = await stores.open(backend, "a")
    held = await granted(adapter, "key", 60_000, "here")
    holder = LockHolder(
        owner="there", host="far", pid=7, since=1, expires_in_ms=5_000, fencing_token=10**15
    )
    assert await adapter.lease.adopt("key", holder) is None
    assert await held.is_valid()
    await held.release()
    later = await granted(adapter, "key", 1000, "here")
    assert later.fencing_token is not None
    assert later.fencing_token > 10**15
    await stores.clock.advance("2s")
    adopted = await adapter.lease.adopt("key", holder)
    assert adopted.fencing_token > later.fencing_token
    found = await adapter.lease.holder("key")
    assert (found.owner, found.host, found.pid, found.since) == ("there", "far", 7, 1)
    assert found.expires_in_ms == 5_000


async def test_a_lease_of_a_process_that_has_ended_stays_behind(stores: Stores) -> None:
    source, destination = await stores.open("memory", "a"), await stores.open("memory", "b")
    await granted(source, "task:etl", 60_000, "worker")
    source.records.leases["lease:task:etl"].started = "1"  # not when this process started
    migrated = await migrate(source, destination)
    assert by_kind(migrated)["leases"].moved == 0
    assert await contents(destination) == {}


async def test_another_record_of_the_destination_is_kept_unless_told(stores: Stores) -> None:
    source, destination = await stores.open("sqlite", "a"), await stores.open("sqlite", "b")
    await fill(source)
    await destination.cache.set("user:1", "newer", HOUR_MS)
    await destination.idempotency.set("paid", "newer", HOUR_MS)
    await destination.circuit_breaker.set_state("api", CircuitBreakerState())
    await destination.checkpoint.save(checkpoint(10))
    await destination.lock.acquire("door", HOUR_MS, "newer")
    before = await contents(destination)
    migrated = await migrate(source, destination)
    assert [it.kept for it in migrated] == [1, 0, 1, 1, 1, 1]
    assert differing(migrated) == ["user:1", "paid", "api", "etl", "lock:door"]
    found = await contents(destination)
    assert {key: found[key] for key in before} == before

    migrated = await migrate(source, destination, overwrite=True)
    assert differing(migrated) == ["lock:door"]  # its owner holds it
    found = await contents(destination)
    wanted = await contents(source) | {"lease lock:door": before["lease lock:door"]}
    assert found == wanted


async def test_another_ttl_fingerprint_or_tag_is_a_difference(stores: Stores) -> None:
    source, destination = await stores.open("sqlite", "a"), await stores.open("sqlite", "b")
    for adapter, number in ((source, 1), (destination, 2)):
        await adapter.cache.set("ttl", 1, number * HOUR_MS)
        await adapter.cache.set("stale", 1, HOUR_MS, stale_for=number * HOUR_MS)
        await adapter.cache.set("tag", 1, None, tags=[f"{number}"])
        await adapter.cache.set("value", number, None)
        await adapter.cache.set("same", 1, HOUR_MS + number)
        await adapter.idempotency.set("print", 1, None, fingerprint=f"{number}")
    migrated = await migrate(source, destination)
    assert sorted(differing(migrated)) == ["print", "stale", "tag", "ttl", "value"]


async def test_a_task_that_went_on_in_the_source_is_continued(stores: Stores) -> None:
    source, destination = await stores.open("sqlite", "a"), await stores.open("sqlite", "b")
    for sequence in (1, 2, 3):
        await source.checkpoint.save(checkpoint(sequence))
    await migrate(source, destination)
    for sequence in (4, 5):
        await source.checkpoint.save(checkpoint(sequence))
    await source.checkpoint.cleanup("etl", 3)
    migrated = await migrate(source, destination)
    assert differing(migrated) == []
    found = await destination.checkpoint.list("etl")
    assert found == [checkpoint(sequence) for sequence in (1, 2, 3, 4, 5)]
    assert (await destination.checkpoint.load_latest("etl")) == checkpoint(5)


async def test_a_dry_run_writes_nothing(stores: Stores) -> None:
    source, destination = await stores.open("sqlite", "a"), await stores.open("memory", "b")
    await fill(source)
    await destination.cache.set("user:1", "newer", None)
    before = await contents(destination)
    tokens = destination.records.last_token
    migrated = await migrate(source, destination, dry_run=True)
    assert (migrated[0].moved, migrated[0].kept, migrated[0].verified) == (5, 1, 0)
    assert differing(migrated) == ["user:1"]
    assert await contents(destination) == before
    assert destination.records.last_token == tokens
    empty = await migrate(source, None, dry_run=True)
    assert [it.moved for it in empty] == [6, 3, 3, 2, 1, 5]


async def test_what_does_not_decode_is_reported_and_skipped(stores: Stores, tmp_path: Path) -> None:
    source, destination = await stores.open("memory", "a"), await stores.open("sqlite", "b")
    await fill(source)
    records = source.records
    for table, key in (
        (records.cache, "cache:user:1"),
        (records.cache, "collection:box:a:b"),
        (records.results, "paid"),
    ):
        table[key] = table[key]._replace(text="{not json")
    rows = records.checkpoints["etl"]
    rows[1] = rows[1]._replace(text="{not json")
    migrated = await migrate(source, destination)
    assert [(it.unreadable, it.differing) for it in migrated] == [
        (1, 0),
        (1, 0),
        (1, 0),
        (0, 0),
        (1, 0),
        (0, 0),
    ]
    assert differing(migrated) == ["user:1", "box:a:b", "paid", "etl"]
    with pytest.raises(CorruptValue):
        await source.idempotency.get("paid")
    assert await destination.idempotency.get("once") is not None


async def test_rows_that_another_program_wrote_stop_nothing(stores: Stores, tmp_path: Path) -> None:
    source, destination = await stores.open("sqlite", "a"), await stores.open("sqlite", "b")
    await fill(source)
    with closing(sqlite3.connect(tmp_path / "a")) as connection:
        for statement in (
            "UPDATE go_goscope_cache SET value = x'ff' WHERE key = 'cache:user:1'",
            "UPDATE go_goscope_cache SET value = x'ff' WHERE key = 'collection:box:a:b'",
            "INSERT INTO go_goscope_cache (key, value) SELECT 'collection:a b:c', '1'",
            "UPDATE go_goscope_circuit SET state = 'ajar' WHERE key = 'circuit:api'",
            "UPDATE go_goscope_checkpoints SET data = '{' WHERE sequence = 4",
            "UPDATE go_goscope_locks SET token = 'many' WHERE key = 'lock:door'",
        ):
            assert connection.execute(statement).rowcount == 1
        connection.commit()
    migrated = await migrate(source, destination)
    assert [(it.unreadable, it.differing) for it in migrated] == [
        (1, 0),
        (1, 0),
        (0, 0),
        (1, 0),
        (1, 0),
        (1, 0),
    ]
    assert differing(migrated) == ["user:1", "box:a:b", "api", "etl", "lock:door"]


async def test_a_lost_write_is_found_by_the_comparison(stores: Stores) -> None:
    source, destination = await stores.open("memory", "a"), await stores.open("memory", "b")
    await fill(source)

    async def lose(*arguments: Any, **options: Any) -> None:
        pass

    destination.cache.set = lose
    migrated = by_kind(await migrate(source, destination))
    assert (migrated["entries"].moved, migrated["entries"].verified) == (6, 0)
    assert migrated["entries"].differing == 6
    assert {it.reason for it in migrated["entries"].differences} == {
        "is missing in the destination"
    }


async def test_what_only_the_destination_holds_is_reported_and_left(stores: Stores) -> None:
    """An entry that the source has deleted since it was moved would be served again."""
    source, destination = await stores.open("sqlite", "a"), await stores.open("sqlite", "b")
    await fill(source)
    await migrate(source, destination)
    await source.cache.delete("user:1")
    await source.idempotency.delete("paid")
    await source.checkpoint.delete_all("etl")
    await source.lock.force_release("door")
    migrated = await migrate(source, destination)
    assert [(it.extra, it.differing) for it in migrated] == [
        (1, 0), (0, 0), (1, 0), (0, 0), (1, 0), (1, 0),
    ]  # fmt: skip
    assert differing(migrated) == ["user:1", "paid", "etl", "lock:door"]
    assert await destination.cache.has("user:1")


async def test_what_ends_a_moment_later_in_the_destination_is_no_difference(
    stores: Stores,
) -> None:
    """A write that waits for its turn starts its ttl later."""
    source, destination = await stores.open("memory", "a"), await stores.open("memory", "b")
    for adapter, ttl_ms in ((source, 20_000), (destination, 22_000)):
        await adapter.cache.set("key", 1, ttl_ms)
        await adapter.idempotency.set("key", 1, ttl_ms)
        await granted(adapter, "key", ttl_ms, "worker")
    assert [it.verified for it in await migrate(source, destination)] == [1, 0, 1, 0, 0, 1]
    await stores.clock.advance("21s")
    assert [it.extra for it in await migrate(source, destination)] == [0, 0, 0, 0, 0, 0]


async def test_one_store_is_no_destination_of_itself(stores: Stores) -> None:
    source, again = await stores.open("sqlite", "a"), await stores.open("sqlite-bun", "a")
    with pytest.raises(ConfigurationError, match="are the same store"):
        await migrate(source, again)
