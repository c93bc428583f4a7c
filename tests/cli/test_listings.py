"""What the commands print of a store: aligned columns, and one JSON object a line."""

from __future__ import annotations

import pytest

from goscope.inspection import CircuitInfo, EntryInfo, LeaseInfo
from goscope.testing import FakeClock

from .operator import Operator, cached, charged, half_done, locked, opened_circuit

FILLED = (cached, half_done, charged, opened_circuit, locked)


@pytest.mark.parametrize(
    ("command", "head"),
    [
        (["locks", "list"], "KIND"),
        (["circuits", "list"], "KEY"),
        (["tasks", "list"], "ID"),
        (["tasks", "checkpoints", "etl:1"], "SEQUENCE"),
        (["cache", "keys"], "KEY"),
        (["idempotency", "list"], "KEY"),
    ],
)
def test_a_listing_is_aligned_text_and_json_lines(
    operator: Operator, command: list[str], head: str
) -> None:
    operator.prepare(*FILLED)
    plain = operator(*command)
    assert (plain.code, plain.err) == (0, "")
    first, *rows = plain.out.splitlines()
    assert first.split()[0] == head
    assert rows
    assert all(line.isprintable() for line in [first, *rows])
    column = first.index(first.split()[1])
    assert all(row[column - 1] == " " and row[column] != " " for row in rows)
    as_json = operator(*command, "--json")
    assert len(as_json.records) == len(rows)


def test_the_records_of_a_listing_are_those_of_inspect(operator: Operator) -> None:
    operator.prepare(*FILLED)
    (lease,) = operator("locks", "list", "--json").records
    assert set(lease) == set(LeaseInfo.__struct_fields__)
    assert (lease["kind"], lease["key"], lease["owner"]) == ("lock", "door", "job-7")
    (circuit,) = operator("circuits", "list", "--json").records
    assert set(circuit) == set(CircuitInfo.__struct_fields__)
    entries = operator("cache", "keys", "--json", "user:*").records
    assert {entry["key"] for entry in entries} == {"user:1", "user:2"}
    assert all(set(entry) == set(EntryInfo.__struct_fields__) for entry in entries)


def test_one_record_is_shown_in_full(operator: Operator) -> None:
    operator.prepare(*FILLED)
    (shown,) = operator("locks", "show", "door", "--json").records
    assert shown["lease"]["owner"] == "job-7"
    assert shown["waiters"] == []
    (task,) = operator("tasks", "show", "etl:1", "--json").records
    assert (task["state"], task["task"]["progress"]) == ("half done", 40.0)
    (checkpoint,) = operator("tasks", "checkpoints", "etl:1", "--json").records
    assert checkpoint["data"] == [1, 2, 3]
    assert "open" in operator("circuits", "show", "pay").out
    assert operator("cache", "get", "user:1").out == '{"name":"Ada"}\n'
    assert operator("cache", "get", "user:2").out == '"evil \\u001b[31m"\n'
    (entry,) = operator("cache", "get", "user:1", "--json").records
    assert entry["value"] == {"name": "Ada"}
    (result,) = operator("idempotency", "show", "charge:1", "--json").records
    assert result["value"] == {"paid": True}
    (totals,) = operator("cache", "stats", "--json").records
    assert totals == {"entries": 3, "size_bytes": 34, "expired": 0}


@pytest.mark.parametrize(
    "command",
    [
        ["locks", "show", "a*b"],
        ["circuits", "show", "x"],
        ["tasks", "show", "x"],
        ["tasks", "checkpoints", "x"],
        ["cache", "get", "x"],
        ["idempotency", "show", "x"],
        ["locks", "release", "x", "--yes"],
        ["circuits", "open", "x", "--yes"],
        ["tasks", "delete", "x", "--yes"],
        ["cache", "delete", "x", "--yes"],
        ["idempotency", "forget", "x", "--yes"],
    ],
)
def test_what_does_not_exist_exits_with_3(operator: Operator, command: list[str]) -> None:
    operator.prepare(*FILLED)
    ran = operator(*command)
    assert (ran.code, ran.out) == (3, "")
    assert ran.err == (f"goscope {command[0]} {command[1]}: there is no {ran.err.split(' no ')[1]}")


@pytest.mark.asyncio
async def test_status_shows_who_uses_the_store(operator: Operator) -> None:
    async with operator.scope() as gs:
        for step in FILLED:
            await step(gs)
        plain = await operator.run("status")
        as_json = await operator.run("status", "--json")
    assert plain.code == 0
    text = plain.out
    assert "cache      3 entries, 34 B" in text
    assert "1 half done" in text
    assert "[########------------]  40%" in text
    assert "1 open" in text
    assert "WAL" in text
    (status,) = as_json.records
    assert [lease["key"] for lease in status["leases"]] == ["door"]
    assert status["storage"]["path"] == str(operator.path)
    assert len(status["processes"]) == 1  # the command is none of them


def test_status_of_an_empty_store(operator: Operator) -> None:
    operator.prepare()
    ran = operator("status")
    assert ran.code == 0
    assert "processes  none" in ran.out
    assert "circuits   none" in ran.out


def test_listings_of_an_empty_store_print_nothing(operator: Operator) -> None:
    operator.prepare()
    for command in (["locks", "list"], ["cache", "keys"], ["tasks", "list", "--json"]):
        assert operator(*command) == (0, "", "")


def test_backends_are_listed_with_what_is_wrong(operator: Operator) -> None:
    ran = operator("backends", "--json")
    by_name = {record["name"]: record for record in ran.records}
    assert by_name["sqlite"]["problem"] == ""
    assert "diagnose" in by_name["sqlite"]["abilities"]


def test_a_call_in_flight_is_listed(operator: Operator) -> None:
    async def call(gs: object) -> None:
        async with operator.scope() as gs:
            assert gs.persistence.lease is not None
            await gs.persistence.lease.acquire("idempotency:charge:2", "1h")

    operator.prepare(call)
    (call_in_flight,) = operator("idempotency", "list", "--json").records
    assert call_in_flight["state"] == "in flight"
    assert call_in_flight["lease"]["key"] == "charge:2"


def test_prune_removes_what_has_expired(operator: Operator) -> None:
    async def expire(gs: object) -> None:
        from goscope_sqlite import SQLiteAdapter

        clock = FakeClock()
        async with SQLiteAdapter(operator.path, clock=clock) as adapter:
            await adapter.cache.set_many({f"key:{n}": n for n in range(250)}, "1s")

    operator.prepare(expire)
    ran = operator("prune")
    assert ran.code == 0, ran.err
    assert "entries" in ran.out
    assert operator("cache", "stats", "--json").records[0]["entries"] == 0
