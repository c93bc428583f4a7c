"""Changing a store by hand: asked first, refused if the record has changed, reported as events."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from goscope import Scope
from goscope.cli import _changes
from goscope.events import OperatorAction
from goscope.inspection import LeaseInfo

from .operator import Operator, cached, charged, half_done, locked, opened_circuit

CHANGES = [
    (["locks", "release", "door"], locked),
    (["circuits", "open", "pay"], opened_circuit),
    (["circuits", "close", "pay"], opened_circuit),
    (["circuits", "reset", "pay"], opened_circuit),
    (["tasks", "delete", "etl:1"], half_done),
    (["cache", "delete", "user:1"], cached),
    (["cache", "set", "user:1", "1"], cached),
    (["cache", "clear"], cached),
    (["idempotency", "forget", "charge:1"], charged),
    (["vacuum"], cached),
]
"""Every command that asks."""


def dump(operator: Operator) -> list[str]:
    """What the store holds, without the times left."""
    commands = (["locks"], ["circuits"], ["tasks"], ["idempotency"])
    listed = [operator(*command, "list", "--json").records for command in commands]
    for lease in listed[0]:
        del lease["expires_in_ms"]
    for call in listed[3]:
        del call["result"]["expires_in_ms"]
    return [str(listed), operator("cache", "get", "user:1").out]


@pytest.mark.parametrize(("command", "step"), CHANGES)
def test_a_change_needs_a_terminal_or_yes(
    operator: Operator, command: list[str], step: Callable[[Scope], Awaitable[object]]
) -> None:
    operator.prepare(step)
    before = dump(operator)
    ran = operator(*command)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.endswith("Pass --yes\n")
    operator.answer("n")
    ran = operator(*command)
    assert (ran.code, ran.out) == (4, "")
    assert "? [y/N] goscope " in ran.err
    assert dump(operator) == before
    operator.answer("y")
    ran = operator(*command)
    assert ran.code == 0, ran.err
    assert ran.out.count("\n") == 1
    assert command == ["vacuum"] or dump(operator) != before


def test_what_is_released_is_free(operator: Operator) -> None:
    operator.prepare(locked)
    ran = operator("locks", "release", "door", "--yes")
    assert ran == (0, "Released lock 'door' (token 1).\n", "")
    assert operator("locks", "list") == (0, "", "")
    operator.prepare(locked)


@pytest.mark.asyncio
async def test_the_holder_of_a_released_lock_is_told(operator: Operator) -> None:
    async with operator.scope() as gs:
        handle = await gs.lock("door").acquire()
        assert (await operator.run("locks", "release", "door", "--yes")).code == 0
        assert not await handle.is_valid()
        assert await gs.lock("door").try_acquire()


def test_a_release_is_refused_when_the_lease_has_moved_on(operator: Operator) -> None:
    operator.prepare(locked)

    async def move_on() -> None:
        async with operator.scope() as gs:
            assert gs.persistence.lock is not None
            await gs.persistence.lock.force_release("door")
            await gs.persistence.lock.acquire("door", "1h", "successor")

    operator.answer("y", before=move_on)
    ran = operator("locks", "release", "door")
    assert ran.code == 4
    assert "lock 'door' with token 1 has ended, and now has token 2, of successor" in ran.err
    (lease,) = operator("locks", "list", "--json").records
    assert lease["owner"] == "successor"
    ran = operator("locks", "release", "door", "--token", "1", "--yes")
    assert ran.code == 4
    assert "has token 2, not 1" in ran.err
    assert operator("locks", "release", "door", "--token", "2", "--yes").code == 0


def test_the_lease_of_a_feature_can_be_released(operator: Operator) -> None:
    async def hold(gs: Scope) -> None:
        assert gs.persistence.lease is not None
        await gs.persistence.lease.acquire("task:etl:1", "1h")
        await gs.persistence.lease.acquire("mine", "1h")

    operator.prepare(hold)
    assert operator("locks", "release", "etl:1", "--kind", "task", "--yes").code == 0
    assert operator("locks", "release", "mine", "--kind", "other", "--yes").code == 0
    assert operator("locks", "list").out == ""


def test_a_running_task_is_not_deleted(operator: Operator) -> None:
    async def run(gs: Scope) -> None:
        await half_done(gs)
        assert gs.persistence.lease is not None
        await gs.persistence.lease.acquire("task:etl:1", "1h", "worker")

    operator.prepare(run)
    ran = operator("tasks", "delete", "etl:1", "--yes")
    assert ran.code == 4
    assert "task 'etl:1' is running" in ran.err
    assert operator("tasks", "list").out


@pytest.mark.parametrize("starts", [True, False])
def test_a_task_that_goes_on_while_it_is_shown_is_not_deleted(
    operator: Operator, starts: bool
) -> None:
    operator.prepare(half_done)

    async def go_on() -> None:
        async with operator.scope() as gs:
            if starts:
                assert gs.persistence.lease is not None
                await gs.persistence.lease.acquire("task:etl:1", "1h", "worker")
            else:
                await half_done(gs)

    operator.answer("y", before=go_on)
    ran = operator("tasks", "delete", "etl:1")
    assert ran.code == 4, ran.out
    assert ("is running by worker" if starts else "has changed") in ran.err
    assert operator("tasks", "list").out


@pytest.mark.parametrize("command", [["delete", "user:1"], ["set", "user:1", "1"]])
def test_an_entry_that_was_written_since_is_not_changed(
    operator: Operator, command: list[str]
) -> None:
    operator.prepare(cached)

    async def write() -> None:
        async with operator.scope() as gs:
            await gs.cache.set("user:1", {"name": "Bob"}, "1h")

    operator.answer("y", before=write)
    ran = operator("cache", *command)
    assert ran.code == 4
    assert "has changed since it was shown" in ran.err
    assert operator("cache", "get", "user:1").out == '{"name":"Bob"}\n'


def test_an_entry_that_is_being_computed_is_not_changed(operator: Operator) -> None:
    async def compute(gs: Scope) -> None:
        await cached(gs)
        assert gs.persistence.lease is not None
        await gs.persistence.lease.acquire("cache:user:1", "1h", "worker")

    operator.prepare(compute)
    ran = operator("cache", "delete", "user:1", "--yes")
    assert ran.code == 4
    assert "is being computed by worker" in ran.err


def test_a_circuit_that_changed_since_is_left_alone(operator: Operator) -> None:
    operator.prepare(opened_circuit)

    async def force() -> None:
        async with operator.scope() as gs:
            await gs.circuit_breaker("pay").force_open()

    operator.answer("y", before=force)
    ran = operator("circuits", "close", "pay")
    assert ran.code == 4
    assert "open (forced)" in operator("circuits", "list").out


def test_a_result_that_changed_since_is_kept(operator: Operator) -> None:
    operator.prepare(charged)

    async def run_again() -> None:
        async with operator.scope() as gs:
            await gs.idempotency.delete("charge:1")
            await gs.idempotency.run("charge:1", lambda: "another")

    operator.answer("y", before=run_again)
    assert operator("idempotency", "forget", "charge:1").code == 4
    assert operator("idempotency", "show", "charge:1").out == '"another"\n'


def test_clear_deletes_what_matches(operator: Operator) -> None:
    operator.prepare(cached)
    assert operator("cache", "clear", "user:*", "--yes").out == "Deleted 2 entries.\n"
    assert [it["key"] for it in operator("cache", "keys", "--json").records] == ["settings"]


def test_set_writes_json_that_programs_read(operator: Operator) -> None:
    operator.prepare(cached)
    assert operator("cache", "set", "new", '{"a": [1, null]}', "--ttl", "5m").code == 0
    (entry,) = operator("cache", "get", "new", "--json").records
    assert entry["value"] == {"a": [1, None]}
    assert 0 < entry["expires_in_ms"] <= 300_000

    async def read(gs: Scope) -> None:
        assert await gs.cache.get("new") == {"a": [1, None]}

    operator.prepare(read)


@pytest.mark.parametrize(
    "arguments", [["k", "{"], ["k", "plain"], ["k", "1", "--ttl", "soon"], ["", "1"]]
)
def test_set_refuses_what_cannot_be_stored(operator: Operator, arguments: list[str]) -> None:
    operator.prepare()
    ran = operator("cache", "set", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert operator("cache", "keys").out == ""


@pytest.mark.asyncio
async def test_each_change_emits_an_event(operator: Operator) -> None:
    events: list[OperatorAction] = []

    def observe(event: object) -> None:
        if isinstance(event, OperatorAction):
            events.append(event)

    async with Scope(operator.url, observers=[observe]) as gs:
        await locked(gs)
        (lease,) = [lease async for lease in gs.inspect.leases()]
        assert await _changes.release_lease(gs, lease) is True
        await half_done(gs)
        (task,) = [task async for task in gs.inspect.tasks()]
        await _changes.delete_task(gs, task)
    assert [(it.action, it.key) for it in events] == [
        ("locks release", "door"),
        ("tasks delete", "etl:1"),
    ]


@pytest.mark.asyncio
async def test_a_refused_release_emits_nothing(operator: Operator) -> None:
    events: list[object] = []
    async with Scope(operator.url, observers=[events.append]) as gs:
        lease = LeaseInfo(
            kind="lock", key="k", owner="o", host="h", pid=1, acquired_at=0, expires_in_ms=1,
            fencing_token=9,
        )  # fmt: skip
        with pytest.raises(Exception, match="is free"):
            await _changes.release_lease(gs, lease)
    assert events == []


@pytest.mark.asyncio
async def test_a_cancelled_change_leaves_no_lease(operator: Operator) -> None:
    async with operator.scope() as gs:
        await half_done(gs)
        (task,) = [task async for task in gs.inspect.tasks()]
        for ticks in range(12):
            change = asyncio.ensure_future(_changes.delete_task(gs, task))
            for _ in range(ticks):
                await asyncio.sleep(0)
            change.cancel()
            await asyncio.wait([change])
            assert [lease async for lease in gs.inspect.leases()] == []
            if change.cancelled():
                continue
            break
