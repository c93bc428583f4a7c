"""The checkpoints of a task: saves and updates."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from typing import Any

import pytest

from goscope import CorruptValue, Scope, ScopeNotOpen, SerializationError, TaskContext

from .support import PausedCall, Store, lease_watchers, ticks
from .tasks import Interrupted, State, fail_after_saving, saved_checkpoints

pytestmark = pytest.mark.asyncio


async def test_a_save_is_committed_when_it_returns(gs: Scope, other: Scope) -> None:
    async def body(task: TaskContext[Any]) -> None:
        await task.checkpoint.save(State(1), progress=25)
        (row,) = await saved_checkpoints(other)
        assert (row.data, row.sequence, row.progress) == ({"done": 1}, 1, 25.0)
        assert task.checkpoint.data == State(1)

    await gs.tasks.run("etl", body)


async def test_saved_data_that_does_not_fit_the_type_is_an_error_and_is_kept(gs: Scope) -> None:
    await fail_after_saving(gs, 1)

    async def body(task: TaskContext[Any]) -> None:
        pytest.fail("the body must not run with data that it cannot read")

    with pytest.raises(CorruptValue, match="etl"):
        await gs.tasks.run("etl", body, type=list[int])
    assert len(await saved_checkpoints(gs)) == 1


async def test_data_json_cannot_carry_is_refused_and_the_task_continues(gs: Scope) -> None:
    async def body(task: TaskContext[Any]) -> None:
        with pytest.raises(SerializationError):
            await task.checkpoint.save(object())
        await task.checkpoint.save(State(1))
        raise Interrupted

    with pytest.raises(Interrupted):
        await gs.tasks.run("etl", body)
    assert [row.sequence for row in await saved_checkpoints(gs)] == [1]


@pytest.mark.parametrize("limit", [1, 3])
async def test_max_checkpoints_limits_the_checkpoints_kept(gs: Scope, limit: int) -> None:
    await fail_after_saving(gs, 1, 2, 3, 4, 5, max_checkpoints=limit)
    assert [row.sequence for row in await saved_checkpoints(gs)] == [1, 2, 3, 4, 5][-limit:]
    # Those of earlier runs count too.
    await fail_after_saving(gs, 6, max_checkpoints=limit)
    assert [row.sequence for row in await saved_checkpoints(gs)] == [1, 2, 3, 4, 5, 6][-limit:]


@pytest.mark.parametrize("limit", [0, -1, 2.5, True])
async def test_max_checkpoints_must_be_a_positive_int(gs: Scope, limit: Any) -> None:
    with pytest.raises(ValueError, match="max_checkpoints must be an int of at least 1"):
        await gs.tasks.run("etl", ticks, max_checkpoints=limit)  # type: ignore[arg-type]  # never called


@pytest.mark.parametrize("steps", range(6))
async def test_after_a_cancelled_save_the_sequence_matches_the_store(gs: Scope, steps: int) -> None:
    async def body(task: TaskContext[Any]) -> None:
        save = asyncio.create_task(task.checkpoint.save(State(1)))
        await ticks(steps)
        save.cancel()
        await asyncio.wait([save])
        rows = await saved_checkpoints(gs)
        assert task.checkpoint.sequence == len(rows)
        await task.checkpoint.save(State(2))
        assert task.checkpoint.sequence == len(rows) + 1
        raise Interrupted

    with pytest.raises(Interrupted):
        await gs.tasks.run("etl", body)
    assert (await saved_checkpoints(gs))[-1].data == {"done": 2}


async def test_concurrent_saves_run_one_after_another(gs: Scope) -> None:
    async def body(task: TaskContext[Any]) -> None:
        await asyncio.gather(*(task.checkpoint.save(State(done)) for done in range(8)))
        raise Interrupted

    with pytest.raises(Interrupted):
        await gs.tasks.run("etl", body)
    assert [row.sequence for row in await saved_checkpoints(gs)] == list(range(1, 9))


async def test_updates_are_saved_every_save_interval(store: Store, gs: Scope) -> None:
    paused = PausedCall()

    async def body(task: TaskContext[Any]) -> None:
        for done in range(3):
            task.checkpoint.update(State(done), progress=done)
        assert task.checkpoint.data == State(2)
        await paused.run()

    run = asyncio.create_task(gs.tasks.run("etl", body, save_interval="2s"))
    await paused.started()
    await store.wait_until_idle()
    assert await saved_checkpoints(gs) == []
    await store.advance("2s")
    (row,) = await saved_checkpoints(gs)
    assert (row.data, row.progress) == ({"done": 2}, 2.0)
    await store.advance("10s")
    assert len(await saved_checkpoints(gs)) == 1, "there was nothing new to save"
    paused.resume()
    await run


async def test_the_save_interval_is_5_s_by_default(store: Store, gs: Scope) -> None:
    paused = PausedCall()

    async def body(task: TaskContext[Any]) -> None:
        task.checkpoint.update(State(1))
        await paused.run()

    run = asyncio.create_task(gs.tasks.run("etl", body))
    await paused.started()
    await store.advance("4900ms")
    assert await saved_checkpoints(gs) == []
    await store.advance("200ms")
    assert len(await saved_checkpoints(gs)) == 1
    paused.resume()
    await run


async def test_the_last_update_is_saved_when_the_task_fails(gs: Scope) -> None:
    async def body(task: TaskContext[Any]) -> None:
        task.checkpoint.update(State(1))
        task.checkpoint.update(State(2), progress=50)
        raise Interrupted

    with pytest.raises(Interrupted):
        await gs.tasks.run("etl", body)
    (row,) = await saved_checkpoints(gs)
    assert (row.data, row.progress) == ({"done": 2}, 50.0)


async def test_an_update_that_cannot_be_saved_adds_a_note_to_the_error(gs: Scope) -> None:
    async def body(task: TaskContext[Any]) -> None:
        task.checkpoint.update(object())
        raise Interrupted

    with pytest.raises(Interrupted) as caught:
        await gs.tasks.run("etl", body)
    assert "last state could not be saved" in caught.value.__notes__[0]


@pytest.mark.parametrize("fails", [False, True])
async def test_saving_by_interval_ends_with_the_task(store: Store, gs: Scope, fails: bool) -> None:
    async def body(task: TaskContext[Any]) -> None:
        task.checkpoint.update(State(1))
        if fails:
            raise Interrupted

    with pytest.raises(Interrupted) if fails else nullcontext():
        await gs.tasks.run("etl", body)
    await store.advance("20s")
    assert len(await saved_checkpoints(gs)) == fails
    assert not [task for task in asyncio.all_tasks() if "_save_every_interval" in repr(task)]
    assert lease_watchers() == []


async def test_a_second_cancellation_does_not_lose_the_last_update(gs: Scope) -> None:
    for ticks_between in range(8):
        paused = PausedCall()

        async def body(task: TaskContext[Any], paused: PausedCall = paused) -> None:
            task.checkpoint.update(State(99))
            await paused.run()

        run = asyncio.create_task(gs.tasks.run("etl", body, save_interval="1h"))
        await paused.started()
        run.cancel()
        await ticks(ticks_between)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert (await saved_checkpoints(gs))[-1].data == {"done": 99}, ticks_between
        await gs.tasks.run("etl", lambda task: ticks())


@pytest.mark.parametrize("fails", [True, False])
async def test_an_update_after_the_run_is_refused_and_starts_nothing(
    gs: Scope, fails: bool
) -> None:
    kept: list[TaskContext[Any]] = []

    async def body(task: TaskContext[Any]) -> None:
        kept.append(task)
        if fails:
            raise ZeroDivisionError

    await asyncio.gather(gs.tasks.run("etl", body), return_exceptions=True)
    before = asyncio.all_tasks()
    with pytest.raises(RuntimeError, match="the run of task 'etl' has ended"):
        kept[0].checkpoint.update(State(1))
    assert asyncio.all_tasks() == before


async def test_closing_the_scope_saves_the_last_update(store: Store) -> None:
    gs = store.scope()
    await gs.open()
    paused = PausedCall()

    async def body(task: TaskContext[Any]) -> None:
        task.checkpoint.update(State(99))
        await paused.run()
        task.checkpoint.update(State(100))

    run = asyncio.create_task(gs.tasks.run("etl", body, save_interval="1h"))
    await paused.started()
    await gs.close()
    async with store.scope() as later:
        assert [row.data for row in await saved_checkpoints(later)] == [{"done": 99}]
    paused.resume()
    with pytest.raises(ScopeNotOpen, match="its last state was saved"):
        await run
