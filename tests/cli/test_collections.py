"""``goscope cache --collection``: the entries of ``gs.store(name)``."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing

import pytest

from goscope import Scope

from .operator import Operator, cached


async def stored(gs: Scope) -> None:
    """Two collections, with keys that the cache has, too."""
    await cached(gs)
    await gs.store("sessions").set("user:1", {"id": 7}, "1h", tags=["u"])
    await gs.store("sessions").set("b2", 1)
    await gs.store("settings").set("theme", "dark")


def test_collections_are_listed(operator: Operator) -> None:
    operator.prepare(stored)
    assert operator("cache", "collections", "--json").records == [
        {"name": "sessions", "count": 2, "size_bytes": 9},
        {"name": "settings", "count": 1, "size_bytes": 6},
    ]
    assert operator("cache", "collections").out.splitlines()[0].split() == [
        "NAME",
        "ENTRIES",
        "SIZE",
    ]
    assert "collections  3 entries, 15 B" in operator("status").out
    keys = operator("cache", "keys", "--collection", "sessions", "user:*", "--json").records
    assert [(it["key"], it["tags"]) for it in keys] == [("user:1", ["u"])]
    (stats,) = operator("cache", "stats", "--collection", "sessions", "--json").records
    assert stats == {"entries": 2, "size_bytes": 9, "expired": 0}
    assert operator("cache", "get", "user:1", "--collection", "sessions").out == '{"id":7}\n'
    assert operator("cache", "get", "user:1").out == '{"name":"Ada"}\n'


def test_only_the_collection_is_changed(operator: Operator) -> None:
    operator.prepare(stored)
    here = ("--collection", "sessions", "--yes")
    ran = operator("cache", "set", "user:1", "8", "--ttl", "5m", *here)
    assert ran.out == "Wrote entry 'user:1' of collection 'sessions'.\n"
    assert operator("cache", "get", "user:1", "--collection", "sessions").out == "8\n"
    assert operator("cache", "delete", "user:1", *here).code == 0
    assert operator("cache", "delete", "user:1", *here).code == 3
    assert operator("cache", "clear", *here).out == "Deleted 1 entries.\n"
    assert [it["name"] for it in operator("cache", "collections", "--json").records] == ["settings"]
    assert len(operator("cache", "keys", "--json").records) == 3


def test_an_entry_that_was_written_since_is_kept(operator: Operator) -> None:
    operator.prepare(stored)

    async def write() -> None:
        async with operator.scope() as gs:
            await gs.store("sessions").set("b2", 2)

    operator.answer("y", before=write)
    ran = operator("cache", "delete", "b2", "--collection", "sessions")
    assert ran.code == 4
    assert "entry 'b2' of collection 'sessions' has changed" in ran.err
    assert operator("cache", "get", "b2", "--collection", "sessions").out == "2\n"


@pytest.mark.asyncio
async def test_an_entry_that_is_being_computed_is_not_changed(operator: Operator) -> None:
    computing, done = asyncio.Event(), asyncio.Event()

    async def compute() -> int:
        computing.set()
        await done.wait()
        return 1

    async with operator.scope() as gs:
        task = asyncio.create_task(gs.store("keys").get_or_set("k", compute))
        await computing.wait()
        ran = await operator.run("cache", "set", "k", "2", "--collection", "keys")
        done.set()
        assert await task == 1
    assert ran.code == 4
    assert "entry 'k' of collection 'keys' is being computed" in ran.err


def test_a_value_that_does_not_decode_is_one_line(operator: Operator) -> None:
    operator.prepare(stored)
    with closing(sqlite3.connect(operator.path)) as connection:
        connection.execute("UPDATE go_goscope_cache SET value = '{' WHERE key LIKE '%:b2'")
        connection.commit()
    ran = operator("cache", "get", "b2", "--collection", "sessions")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.count("\n") == 1
    assert "does not decode" in ran.err
    ran = operator("cache", "delete", "b2", "--collection", "sessions", "--yes")
    assert (ran.code, ran.out) == (0, "Deleted entry 'b2' of collection 'sessions'.\n")
    assert operator("cache", "delete", "b2", "--collection", "sessions", "--yes").code == 3


def test_an_entry_of_the_cache_that_does_not_decode_can_be_deleted(operator: Operator) -> None:
    operator.prepare(stored)
    with closing(sqlite3.connect(operator.path)) as connection:
        connection.execute("UPDATE go_goscope_cache SET value = '{' WHERE key = 'cache:user:1'")
        connection.commit()
    operator.answer("y")
    ran = operator("cache", "delete", "user:1")
    assert "Delete entry 'user:1', whose value cannot be read?" in ran.out + ran.err
    assert ran.code == 0
    assert operator("cache", "delete", "user:1", "--yes").code == 3


@pytest.mark.parametrize(
    "arguments", [("keys", "--collection", "a b"), ("get", "x" * 510, "--collection", "sessions")]
)
def test_a_name_that_none_can_have_is_refused(
    operator: Operator, arguments: tuple[str, ...]
) -> None:
    operator.prepare(stored)
    ran = operator("cache", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert "Traceback" not in ran.err
