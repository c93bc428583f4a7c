"""``goscope doctor`` on a healthy store, and on stores that are sick in one way each."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from goscope import Scope
from goscope_sqlite import diagnosis

from .operator import OPEN, Operator, cached, locked, process


def findings(operator: Operator) -> dict[str, Any]:
    return {record["check"]: record for record in operator("doctor", "--json").records}


@pytest.mark.asyncio
async def test_a_healthy_store_has_no_warning(operator: Operator) -> None:
    async with operator.scope() as gs:
        await cached(gs)
        await locked(gs)
        ran = await operator.run("doctor")
    assert ran.code == 0
    assert ran.err == ""
    first, *lines = ran.out.splitlines()
    assert first.split() == ["LEVEL", "CHECK", "FOUND", "ADVICE"]
    assert {line.split()[0] for line in lines} <= {"ok", "note"}


def test_a_closed_store_is_not_changed(operator: Operator) -> None:
    operator.prepare(cached)
    before = operator.contents()
    assert operator("doctor").code == 0
    assert operator.contents() == before


def missing(operator: Operator) -> None:
    operator.path.unlink()


def text(operator: Operator) -> None:
    operator.path.write_text("this is a text and not a database " * 100)


def future(operator: Operator) -> None:
    execute(operator, "UPDATE go_goscope_meta SET value = 99 WHERE key = 'schema_version'")


def dropped(operator: Operator) -> None:
    execute(operator, "DROP TABLE go_goscope_cache_companion")


def damaged(operator: Operator) -> None:
    """Overwrite the page of a table."""
    with closing(sqlite3.connect(operator.path)) as connection:
        sql = "SELECT rootpage FROM sqlite_master WHERE name = 'go_goscope_cache'"
        page = connection.execute(sql).fetchall()[0][0]
    with operator.path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(os.urandom(4096))


def rollback_journal(operator: Operator) -> None:
    execute(operator, "PRAGMA journal_mode = DELETE")


def backlog(operator: Operator) -> None:
    rows = f"(SELECT value FROM json_each('[{','.join(map(str, range(200)))}]'))"
    execute(
        operator,
        "INSERT INTO go_goscope_idempotency (key, value, expires_at) "
        f"SELECT 'x' || a.value || '-' || b.value, '1', 1 FROM {rows} AS a, {rows} AS b",
    )


def clock_set_back(operator: Operator) -> None:
    execute(operator, f"UPDATE go_goscope_cache SET created_at = {int(time.time()) + 3600}")


def execute(operator: Operator, sql: str) -> None:
    with closing(sqlite3.connect(operator.path, isolation_level=None)) as connection:
        connection.execute(sql).fetchall()


@pytest.mark.parametrize(
    ("make_sick", "check", "level", "found"),
    [
        (missing, "file", "error", "there is no file"),
        (text, "integrity", "error", "not an SQLite database"),
        (future, "schema", "error", "has version 99"),
        (dropped, "schema", "error", "lacks go_goscope_cache_companion"),
        (damaged, "integrity", "error", "the file is damaged"),
        (rollback_journal, "journal", "warning", "delete"),
        (backlog, "expired", "warning", "40,000"),
        (clock_set_back, "clock", "warning", "from now"),
    ],
)
def test_a_sick_store_is_recognized(
    operator: Operator,
    make_sick: Callable[[Operator], None],
    check: str,
    level: str,
    found: str,
) -> None:
    operator.prepare(cached)
    make_sick(operator)
    before = operator.contents()
    ran = operator("doctor", "--json")
    assert ran.code == 1, ran.out
    (finding,) = [it for it in ran.records if it["check"] == check]
    assert finding["level"] == level
    assert found in finding["found"]
    assert finding["advice"] or level == "error"
    assert operator.contents() == before


def test_a_process_that_reads_for_long_is_named(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnosis, "LONG_READ_S", 0.01)
    reader = """if True:
        import sqlite3, sys
        connection = sqlite3.connect(sys.argv[1], isolation_level=None)
        connection.execute("BEGIN")
        connection.execute("SELECT * FROM go_goscope_cache").fetchall()
        print("reading", flush=True)
        sys.stdin.read()
    """

    async def write(gs: Scope) -> None:
        for number in range(40):
            await gs.cache.set("big", os.urandom(500_000).hex() + str(number))

    operator.prepare(cached)
    with process(reader, str(operator.path)) as pid:
        operator.prepare(write)
        ran = operator("doctor", "--json")
    assert ran.code == 1
    finding = next(it for it in ran.records if it["check"] == "wal")
    assert finding["level"] == "warning"
    assert f"Process {pid} reads in one long transaction" in finding["advice"]


def test_in_memory_locks_of_several_processes_are_reported(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{operator.path}"
    monkeypatch.setenv("GOSCOPE_URL", url)
    with process(OPEN, url), process(OPEN, url):
        ran = operator("doctor", "--json")
    assert ran.code == 1
    locks = next(it for it in ran.records if it["check"] == "locks")
    assert locks["level"] == "warning"
    assert "set locks=shared" in locks["advice"]


def test_an_expired_lease_is_a_note(operator: Operator) -> None:
    async def expire(gs: Scope) -> None:
        assert gs.persistence.lock is not None
        await gs.persistence.lock.acquire("door", 1)

    operator.prepare(expire)
    finding = findings(operator)["leases"]
    assert finding["level"] == "note"
    assert finding["found"].startswith("1 expired")
