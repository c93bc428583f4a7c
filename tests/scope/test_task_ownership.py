"""One owner of a task at a time, and owners that lose their lease."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from goscope import LeaseLost, Scope, TaskAlreadyRunning, TaskContext

from .support import PausedCall, Store, leases_of, ticks, wait_until
from .tasks import State, fail_after_saving, revoke_lease, saved_checkpoints

pytestmark = pytest.mark.asyncio


async def test_a_second_run_in_the_same_process_is_refused_immediately(gs: Scope) -> None:
    paused = PausedCall()
    first = asyncio.create_task(gs.tasks.run("etl", lambda task: paused.run()))
    await paused.started()
    with pytest.raises(TaskAlreadyRunning, match="task 'etl' is already running") as caught:
        await gs.tasks.run("etl", lambda task: paused.run())
    assert caught.value.holder is not None
    paused.resume()
    await first
    assert paused.calls == 1


async def test_a_task_that_runs_itself_is_refused_immediately(gs: Scope) -> None:
    async def body(task: TaskContext[Any]) -> None:
        with pytest.raises(TaskAlreadyRunning):
            await gs.tasks.run("etl", lambda task: ticks())

    await asyncio.wait_for(gs.tasks.run("etl", body), 10)


@pytest.fixture
def foreign_owners(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the process of an owner exists is unknown, as on another host or in a container."""

    def unknown(host: str, pid: int) -> bool:
        return False

    monkeypatch.setattr("goscope._tasks.is_running", unknown)


async def test_a_run_is_refused_at_once_while_the_process_of_the_owner_exists(
    gs: Scope, other: Scope
) -> None:
    """Also if the lease is not renewed in the meantime; it is taken once it has expired."""
    await leases_of(gs).acquire("task:etl", "10s")
    with pytest.raises(TaskAlreadyRunning) as caught:
        await other.tasks.run("etl", lambda task: ticks())
    assert not caught.value.finished


@pytest.mark.usefixtures("foreign_owners")
async def test_a_run_elsewhere_is_refused_once_the_owner_renews_its_lease(
    store: Store, gs: Scope, other: Scope
) -> None:
    paused = PausedCall()
    first = asyncio.create_task(gs.tasks.run("etl", lambda task: paused.run()))
    await paused.started()
    second = asyncio.create_task(other.tasks.run("etl", lambda task: paused.run()))
    await store.wait_until_idle()
    await store.advance("4s")  # renewed at a third of 10 s
    assert second.done(), "it does not wait for the whole lease"
    with pytest.raises(TaskAlreadyRunning):
        await second
    assert paused.calls == 1
    paused.resume()
    await first


@pytest.mark.usefixtures("foreign_owners")
async def test_a_run_elsewhere_is_refused_when_the_owner_finishes(
    store: Store, gs: Scope, other: Scope
) -> None:
    paused = PausedCall()
    first = asyncio.create_task(gs.tasks.run("etl", lambda task: paused.run()))
    await paused.started()
    second = asyncio.create_task(other.tasks.run("etl", lambda task: paused.run()))
    await store.wait_until_idle()
    paused.resume()
    await first
    await store.advance("1s")
    with pytest.raises(TaskAlreadyRunning) as caught:
        await second
    assert caught.value.finished
    assert paused.calls == 1


async def test_after_a_wait_for_an_owner_that_finished_nothing_runs_twice(
    store: Store, gs: Scope, other: Scope
) -> None:
    paused = PausedCall()
    first = asyncio.create_task(gs.tasks.run("etl", lambda task: paused.run(1)))
    await paused.started()
    waiting = [
        asyncio.create_task(scope.tasks.run("etl", lambda task: paused.run(2), wait="60s"))
        for scope in (gs, other, other)
    ]
    await store.advance("20s")
    paused.resume()
    await store.advance("5s")
    assert await first == 1
    for run in waiting:
        with pytest.raises(TaskAlreadyRunning, match="after_wait='run'") as caught:
            await run
        assert caught.value.finished
    assert paused.calls == 1
    assert await leases_of(gs).holder("task:etl") is None


async def test_with_after_wait_run_each_waiter_runs_in_turn(
    store: Store, gs: Scope, other: Scope
) -> None:
    paused = PausedCall()
    first = asyncio.create_task(gs.tasks.run("etl", lambda task: paused.run(1)))
    await paused.started()
    here, there = (
        asyncio.create_task(
            scope.tasks.run("etl", lambda task: paused.run(2), wait="60s", after_wait="run")
        )
        for scope in (gs, other)
    )
    await store.advance("20s")
    paused.resume()
    await store.advance("5s")
    assert [await run for run in (first, here, there)] == [1, 2, 2]
    assert paused.max_running == 1


@pytest.mark.parametrize("saves", [True, False])
async def test_a_waiter_takes_over_from_an_owner_that_failed(
    store: Store, gs: Scope, other: Scope, saves: bool
) -> None:
    """Also from one that has finished the task before, and this time has saved nothing yet."""
    for _ in range(2):
        await gs.tasks.run("etl", lambda task: ticks())
    paused = PausedCall()

    async def failing(task: TaskContext[Any]) -> None:
        if saves:
            await task.checkpoint.save(7)
        await paused.run()
        raise ZeroDivisionError

    async def resuming(task: TaskContext[Any]) -> Any:
        await ticks()
        return task.checkpoint.data

    first = asyncio.create_task(gs.tasks.run("etl", failing))
    await paused.started()
    second = asyncio.create_task(other.tasks.run("etl", resuming, wait="60s"))
    await store.wait_until_idle()
    paused.resume()
    with pytest.raises(ZeroDivisionError):
        await first
    await store.advance("1s")
    assert await second == (7 if saves else None)


async def test_a_run_that_is_cancelled_while_it_learns_of_the_finish_keeps_no_lease(
    store: Store, gs: Scope, other: Scope
) -> None:
    for cancelled_after in range(40):
        paused = PausedCall()

        async def body(task: TaskContext[Any], paused: PausedCall = paused) -> None:
            await paused.run()

        first = asyncio.create_task(gs.tasks.run("etl", body))
        await paused.started()
        second = asyncio.create_task(other.tasks.run("etl", lambda task: ticks(), wait="60s"))
        await store.wait_until_idle()
        paused.resume()
        await ticks(cancelled_after)
        second.cancel()
        await first
        await asyncio.gather(second, return_exceptions=True)
        await store.wait_until_idle()
        assert await leases_of(gs).holder("task:etl") is None


@pytest.mark.parametrize("after_wait", ["return", None, True])
async def test_another_after_wait_is_refused(gs: Scope, after_wait: Any) -> None:
    with pytest.raises(ValueError, match="after_wait must be 'raise' or 'run'"):
        _ = await gs.tasks.run("etl", lambda task: ticks(), after_wait=after_wait)
    with pytest.raises(ValueError, match="after_wait must be 'raise' or 'run'"):
        gs.resumable("etl", after_wait=after_wait)


async def test_a_run_is_refused_when_its_wait_is_over(
    store: Store, gs: Scope, other: Scope
) -> None:
    paused = PausedCall()
    first = asyncio.create_task(gs.tasks.run("etl", lambda task: paused.run()))
    await paused.started()
    with pytest.raises(TaskAlreadyRunning):
        await other.tasks.run("etl", lambda task: paused.run(), wait=0)
    second = asyncio.create_task(other.tasks.run("etl", lambda task: paused.run(), wait="15s"))
    await store.wait_until_idle()
    await store.advance("14s")
    assert not second.done()
    await store.advance("2s")
    with pytest.raises(TaskAlreadyRunning):
        await second
    paused.resume()
    await first


@pytest.mark.usefixtures("foreign_owners")
async def test_a_hanging_owner_is_replaced_when_its_lease_expires(store: Store, gs: Scope) -> None:
    assert await leases_of(gs).acquire("task:etl", "10s") is not None
    run = asyncio.create_task(gs.tasks.run("etl", lambda task: ticks()))
    await store.wait_until_idle()
    await store.advance("9s")
    assert not run.done()
    await store.advance("2s")
    await wait_until(run.done)
    await run


@pytest.mark.usefixtures("foreign_owners")
async def test_only_one_run_replaces_a_hanging_owner(store: Store, gs: Scope, other: Scope) -> None:
    await leases_of(gs).acquire("task:etl", "10s")
    paused = PausedCall()
    runs = [
        asyncio.create_task(scope.tasks.run("etl", lambda task: paused.run()))
        for scope in (gs, gs, other)
    ]
    await store.wait_until_idle()
    await store.advance("30s")
    assert paused.max_running == 1
    paused.resume()
    await store.wait_until_idle()
    results = await asyncio.gather(*runs, return_exceptions=True)
    assert sum(isinstance(result, TaskAlreadyRunning) for result in results) == 2


async def test_an_owner_that_lost_its_lease_is_cancelled_and_saves_nothing(
    store: Store, gs: Scope, other: Scope
) -> None:
    paused = PausedCall()

    async def late(task: TaskContext[Any]) -> None:
        await task.checkpoint.save(State(1))
        task.checkpoint.update(State(99))
        await paused.run()

    first = asyncio.create_task(gs.tasks.run("etl", late, save_interval="1h"))
    await paused.started()
    await revoke_lease(gs)
    await fail_after_saving(other, 5)
    await store.advance("4s")
    with pytest.raises(LeaseLost):
        await asyncio.wait_for(first, 10)
    assert [row.data for row in await saved_checkpoints(gs)] == [{"done": 1}, {"done": 5}]


async def test_a_save_after_the_loss_is_refused(gs: Scope, other: Scope) -> None:
    async def late(task: TaskContext[Any]) -> None:
        await task.checkpoint.save(State(1))
        await revoke_lease(gs)
        await fail_after_saving(other, 5)
        await task.checkpoint.save(State(99))

    with pytest.raises(LeaseLost):
        await gs.tasks.run("etl", late)
    assert [row.data for row in await saved_checkpoints(gs)] == [{"done": 1}, {"done": 5}]


async def test_an_owner_that_loses_its_lease_after_a_save_trims_nothing(
    gs: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = gs.persistence.checkpoint
    assert checkpoints is not None
    cleanup = checkpoints.cleanup

    async def late(task_id: str, keep_count: int, *, fence: Any = None) -> None:
        await revoke_lease(gs)
        await cleanup(task_id, keep_count, fence=fence)

    await fail_after_saving(gs, 1)
    monkeypatch.setattr(checkpoints, "cleanup", late)
    with pytest.raises(LeaseLost):
        await gs.tasks.run("etl", lambda task: task.checkpoint.save(State(2)), max_checkpoints=1)
    assert [row.data for row in await saved_checkpoints(gs)] == [{"done": 1}, {"done": 2}]


async def test_a_late_success_keeps_the_checkpoints_of_the_next_owner(
    gs: Scope, other: Scope
) -> None:
    async def late(task: TaskContext[Any]) -> None:
        await revoke_lease(gs)
        await fail_after_saving(other, 5)

    with pytest.raises(LeaseLost):
        await gs.tasks.run("etl", late)
    assert len(await saved_checkpoints(gs)) == 1


async def test_different_tasks_run_concurrently(gs: Scope) -> None:
    paused = PausedCall()
    async with asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(gs.tasks.run(f"etl:{number}", lambda task: paused.run()))
        await paused.started(3)
        paused.resume()
    assert paused.max_running == 3
