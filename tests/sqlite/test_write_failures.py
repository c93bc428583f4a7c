"""A write that fails affects no other write of its batch."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from pathlib import Path

import pytest

from goscope.errors import BackendBusy, BackendError, BackendFull
from goscope_sqlite import SQLiteAdapter

from .conftest import Query
from .writes import LONG, insert, inserted, limit_to_free_pages, together

pytestmark = pytest.mark.asyncio


@pytest.mark.usefixtures("no_time_limit")
async def test_a_write_that_fails_before_a_change_leaves_the_transaction_intact(
    threaded: SQLiteAdapter, path: Path, query: Query
) -> None:
    """The other writes are still committed in the transaction that they started in."""

    def fail(_: sqlite3.Connection) -> None:
        raise LookupError("no")

    with contextlib.closing(sqlite3.connect(path, check_same_thread=False)) as other:

        def version(_: sqlite3.Connection) -> int:
            """A number that changes with each commit."""
            return int(other.execute("PRAGMA data_version").fetchall()[0][0])

        outcomes = await together(threaded, insert("w1"), fail, version, insert("w2"), version)
    assert isinstance(outcomes[1], LookupError)
    assert outcomes[2] == outcomes[4]
    assert inserted(query) == ["w1", "w2"]


@pytest.mark.usefixtures("no_time_limit")
async def test_a_write_that_fails_after_a_change_undoes_only_that_change(
    threaded: SQLiteAdapter, query: Query
) -> None:
    def fail(connection: sqlite3.Connection) -> None:
        insert("w9")(connection)
        raise LookupError("no")

    outcomes = await together(threaded, insert("w1"), fail, insert("w2"))
    assert outcomes[0] == "w1"
    assert isinstance(outcomes[1], LookupError)
    assert outcomes[2] == "w2"
    assert inserted(query) == ["w1", "w2"]


@pytest.mark.usefixtures("no_time_limit")
async def test_a_write_that_does_not_fit_on_the_disk_fails_alone(
    threaded: SQLiteAdapter, query: Query
) -> None:
    """SQLite itself then rolls back the whole batch, including the writes that had succeeded."""
    submit = threaded._database.submit
    await limit_to_free_pages(threaded, query, 5)
    outcomes = await together(threaded, insert("w1"), insert("w9", LONG), insert("w2"))
    assert outcomes[0] == "w1"
    assert outcomes[2] == "w2"
    assert isinstance(outcomes[1], BackendFull)
    assert isinstance(outcomes[1].__cause__, sqlite3.OperationalError)
    assert "Free some space" in str(outcomes[1])
    assert inserted(query) == ["w1", "w2"]
    with pytest.raises(BackendFull):
        await submit(insert("w9", LONG))
    assert await submit(insert("w3")) == "w3"


@pytest.mark.parametrize("autocommit", [False, True])
async def test_every_write_raises_a_separate_error_when_the_write_lock_is_held(
    path: Path, autocommit: bool
) -> None:
    async with SQLiteAdapter(path, busy_timeout="50ms") as adapter:
        other = sqlite3.connect(path, isolation_level=None)
        try:
            other.execute("BEGIN IMMEDIATE")
            submit = adapter._database.submit
            outcomes = await asyncio.gather(
                *(submit(insert(f"w{number}"), autocommit=autocommit) for number in range(3)),
                return_exceptions=True,
            )
        finally:
            other.close()
        assert [type(outcome) for outcome in outcomes] == [BackendBusy] * 3
        assert outcomes[1] is not outcomes[2]
        assert await adapter._database.submit(insert("w1")) == "w1"


async def test_a_statement_that_sqlite_refuses_raises_backend_error(adapter: SQLiteAdapter) -> None:
    with pytest.raises(BackendError, match="syntax error") as caught:
        await adapter._database.submit(lambda connection: connection.execute("NONSENSE"))
    assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
