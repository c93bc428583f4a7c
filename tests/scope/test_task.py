"""``gs.run`` and ``@gs.resumable``: going on where it stopped, and one owner at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import pytest

from goscope import (
    Checkpoint,
    ConfigurationError,
    CorruptValue,
    LeaseLost,
    Progress,
    Scope,
    SerializationError,
    TaskAlreadyRunning,
    TaskContext,
)
from goscope.events import CheckpointSaved, TaskCompleted, TaskResumed
from goscope.testing import record_events

from .support import PausedCall, Store, lease_watchers, leases_of, ticks, wait_until

pytestmark = pytest.mark.asyncio


@dataclass
class State:
    done: int


class Stop(Exception):
    """Ends a task on its way."""


async def saved(gs: Scope, task_id: str = "etl") -> Sequence[Checkpoint]:
    checkpoints = gs.persistence.checkpoint
    assert checkpoints is not None
    return await checkpoints.list(task_id)


async def take_away(gs: Scope, task_id: str = "etl") -> None:
    await leases_of(gs).force_release(f"task:{task_id}")


async def stop_after(gs: Scope, *states: int, **options: Any) -> None:
    """A run that saves the states and fails."""

    async def body(task: TaskContext[Any]) -> None:
        for done in states:
            await task.checkpoint.save(State(done), progress=done)
        raise Stop

    with pytest.raises(Stop):
        await gs.tasks.run("etl", body, **options)


# --- resuming --------------------------------------------------------------------------------


async def test_a_fresh_run_starts_with_nothing(gs: Scope) -> None:
    async def body(task: TaskContext[Any]) -> str:
        assert task.id == "etl"
        assert task.resumed is False
        assert task.checkpoint.data is None
        assert task.checkpoint.sequence == 0
        assert task.progress.percentage == 0
        return "result"

    assert await gs.tasks.run("etl", body) == "result"


async def test_a_failed_run_is_resumed_from_its_last_save(gs: Scope, other: Scope) -> None:
    await stop_after(gs, 1, 2)

    async def body(task: TaskContext[State]) -> int:
        assert task.resumed is True
        assert task.checkpoint.data == State(2)
        assert task.checkpoint.sequence == 2
        assert task.progress.percentage == 2
        await task.checkpoint.save(State(3))
        return task.checkpoint.sequence

    assert await other.tasks.run("etl", body, type=State) == 3


async def test_without_a_state_type_the_data_is_plain_json(gs: Scope) -> None:
    await stop_after(gs, 1)

    async def body(task: TaskContext[Any]) -> Any:
        return task.checkpoint.data

    assert await gs.tasks.run("etl", body) == {"done": 1}


async def test_success_deletes_the_checkpoints(gs: Scope) -> None:
    await stop_after(gs, 1, 2)

    async def body(task: TaskContext[Any]) -> None:
        await task.checkpoint.save(State(3))

    await gs.tasks.run("etl", body)
    assert await saved(gs) == []
    await stop_after(gs, 1)  # starts from 1 again


async def test_a_save_is_committed_when_it_returns(gs: Scope, other: Scope) -> None:
    async def body(task: TaskContext[Any]) -> None:
        await task.checkpoint.save(State(1), progress=25)
        (row,) = await saved(other)
        assert (row.data, row.sequence, row.progress) == ({"done": 1}, 1, 25.0)
        assert task.checkpoint.data == State(1)

    await gs.tasks.run("etl", body)


async def test_a_cancelled_run_keeps_its_checkpoints(gs: Scope) -> None:
    paused = PausedCall()

    async def body(task: TaskContext[Any]) -> None:
        await task.checkpoint.save(State(1))
        task.checkpoint.update(State(2))
        await paused.run()

    run = asyncio.create_task(gs.tasks.run("etl", body))
    await paused.started()
    run.cancel()
    await asyncio.wait([run])
    assert run.cancelled()
    assert [row.data for row in await saved(gs)] == [{"done": 1}, {"done": 2}]


async def test_saved_data_that_does_not_fit_the_state_is_an_error_and_is_kept(gs: Scope) -> None:
    await stop_after(gs, 1)

    async def body(task: TaskContext[Any]) -> None:
        pytest.fail("it must not run on a state it does not understand")

    with pytest.raises(CorruptValue, match="etl"):
        await gs.tasks.run("etl", body, type=list[int])
    assert len(await saved(gs)) == 1


async def test_data_json_cannot_carry_is_refused_and_the_task_can_go_on(gs: Scope) -> None:
    async def body(task: TaskContext[Any]) -> None:
        with pytest.raises(SerializationError):
            await task.checkpoint.save(object())
        await task.checkpoint.save(State(1))
        raise Stop

    with pytest.raises(Stop):
        await gs.tasks.run("etl", body)
    assert [row.sequence for row in await saved(gs)] == [1]


@pytest.mark.parametrize("keep", [1, 3])
async def test_as_many_checkpoints_are_kept_as_told(gs: Scope, keep: int) -> None:
    await stop_after(gs, 1, 2, 3, 4, 5, max_checkpoints=keep)
    assert [row.sequence for row in await saved(gs)] == [1, 2, 3, 4, 5][-keep:]
    # Those of earlier runs count too.
    await stop_after(gs, 6, max_checkpoints=keep)
    assert [row.sequence for row in await saved(gs)] == [1, 2, 3, 4, 5, 6][-keep:]


@pytest.mark.parametrize("keep", [0, -1, 2.5, True])
async def test_a_number_of_checkpoints_that_is_none_is_refused(gs: Scope, keep: Any) -> None:
    with pytest.raises(ValueError, match="max_checkpoints must be an int of at least 1"):
        await gs.tasks.run("etl", ticks, max_checkpoints=keep)  # type: ignore[arg-type]  # never called


@pytest.mark.parametrize("option", ["save_interval", "wait"])
async def test_a_bare_number_is_no_duration(gs: Scope, option: str) -> None:
    options: dict[str, Any] = {option: 5}
    with pytest.raises(TypeError, match="'5s'"):
        await gs.tasks.run("etl", lambda task: ticks(), **options)
    with pytest.raises(TypeError, match="'5s'"):
        gs.resumable("etl", **options)


# --- on_resume -------------------------------------------------------------------------------


async def test_on_resume_is_called_once_before_the_body_of_a_resumed_run(gs: Scope) -> None:
    await stop_after(gs, 1, 2)
    order: list[tuple[str, TaskContext[State]]] = []

    async def resumed(task: TaskContext[State]) -> None:
        await ticks()
        order.append(("on_resume", task))

    async def body(task: TaskContext[State]) -> None:
        order.append(("body", task))
        await task.checkpoint.save(State(3))

    await gs.tasks.run("etl", body, type=State, on_resume=resumed)
    assert [called for called, _ in order] == ["on_resume", "body"]
    assert order[0][1] is order[1][1], "both get the same task"


async def test_on_resume_sees_the_task_where_it_stopped(gs: Scope) -> None:
    """A plain function will do."""
    await stop_after(gs, 1, 2)
    seen: list[tuple[State | None, int, float]] = []

    def resumed(task: TaskContext[State]) -> None:
        seen.append((task.checkpoint.data, task.checkpoint.sequence, task.progress.percentage))

    await gs.tasks.run("etl", lambda task: ticks(), type=State, on_resume=resumed)
    assert seen == [(State(2), 2, 2.0)]


async def test_on_resume_is_not_called_when_there_is_nothing_to_resume(gs: Scope) -> None:
    def resumed(task: TaskContext[Any]) -> None:
        pytest.fail("this run is the first")

    await stop_after(gs, on_resume=resumed)  # fails without a checkpoint
    await gs.tasks.run("etl", lambda task: ticks(), on_resume=resumed)
    await stop_after(gs, 1, on_resume=resumed)
    await gs.tasks.run("etl", lambda task: ticks())
    await gs.tasks.run("etl", lambda task: ticks(), on_resume=resumed)  # done, so it starts anew


async def test_on_resume_runs_under_the_tasks_lease(gs: Scope, other: Scope) -> None:
    await stop_after(gs, 1)

    async def resumed(task: TaskContext[Any]) -> None:
        with pytest.raises(TaskAlreadyRunning):
            await other.tasks.run("etl", lambda task: ticks(), wait=0)
        await task.checkpoint.save(State(2))

    async def body(task: TaskContext[Any]) -> Any:
        return task.checkpoint.data

    assert await gs.tasks.run("etl", body, on_resume=resumed) == State(2)


@pytest.mark.parametrize("awaitable", [False, True])
async def test_an_error_of_on_resume_ends_the_run_as_one_of_the_body(
    gs: Scope, awaitable: bool
) -> None:
    await stop_after(gs, 1)

    def failing(task: TaskContext[Any]) -> None:
        task.checkpoint.update(State(2))
        raise Stop

    async def failing_later(task: TaskContext[Any]) -> None:
        await ticks()
        failing(task)

    async def body(task: TaskContext[Any]) -> None:
        pytest.fail("on_resume refused the checkpoint")

    with pytest.raises(Stop):
        await gs.tasks.run("etl", body, on_resume=failing_later if awaitable else failing)
    assert [row.data for row in await saved(gs)] == [{"done": 1}, {"done": 2}]
    assert lease_watchers() == []


async def test_a_resumable_function_takes_on_resume(gs: Scope) -> None:
    resumed: list[str] = []

    @gs.resumable("etl:{path}", on_resume=lambda task: resumed.append(task.id))
    async def etl(task: TaskContext[Any], path: str) -> None:
        if not task.resumed:
            await task.checkpoint.save(State(1))
            raise Stop

    with pytest.raises(Stop):
        await etl("a.csv")
    await etl("a.csv")
    assert resumed == ["etl:a.csv"]


# --- cancelled saves -------------------------------------------------------------------------


@pytest.mark.parametrize("steps", range(6))
async def test_a_cancelled_save_keeps_the_sequence_right(gs: Scope, steps: int) -> None:
    async def body(task: TaskContext[Any]) -> None:
        save = asyncio.create_task(task.checkpoint.save(State(1)))
        await ticks(steps)
        save.cancel()
        await asyncio.wait([save])
        rows = await saved(gs)
        assert task.checkpoint.sequence == len(rows)
        await task.checkpoint.save(State(2))
        assert task.checkpoint.sequence == len(rows) + 1
        raise Stop

    with pytest.raises(Stop):
        await gs.tasks.run("etl", body)
    assert (await saved(gs))[-1].data == {"done": 2}


async def test_concurrent_saves_queue_up(gs: Scope) -> None:
    async def body(task: TaskContext[Any]) -> None:
        await asyncio.gather(*(task.checkpoint.save(State(done)) for done in range(8)))
        raise Stop

    with pytest.raises(Stop):
        await gs.tasks.run("etl", body)
    assert [row.sequence for row in await saved(gs)] == list(range(1, 9))


# --- updates ---------------------------------------------------------------------------------


async def test_updates_are_saved_every_interval(store: Store, gs: Scope) -> None:
    paused = PausedCall()

    async def body(task: TaskContext[Any]) -> None:
        for done in range(3):
            task.checkpoint.update(State(done), progress=done)
        assert task.checkpoint.data == State(2)
        await paused.run()

    run = asyncio.create_task(gs.tasks.run("etl", body, save_interval="2s"))
    await paused.started()
    await store.wait_until_idle()
    assert await saved(gs) == []
    await store.advance("2s")
    (row,) = await saved(gs)
    assert (row.data, row.progress) == ({"done": 2}, 2.0)
    await store.advance("10s")
    assert len(await saved(gs)) == 1, "nothing new, nothing saved"
    paused.resume()
    await run


async def test_the_interval_is_5_s_unless_told_otherwise(store: Store, gs: Scope) -> None:
    paused = PausedCall()

    async def body(task: TaskContext[Any]) -> None:
        task.checkpoint.update(State(1))
        await paused.run()

    run = asyncio.create_task(gs.tasks.run("etl", body))
    await paused.started()
    await store.advance("4900ms")
    assert await saved(gs) == []
    await store.advance("200ms")
    assert len(await saved(gs)) == 1
    paused.resume()
    await run


async def test_the_last_update_is_saved_at_an_exit_without_success(gs: Scope) -> None:
    async def body(task: TaskContext[Any]) -> None:
        task.checkpoint.update(State(1))
        task.checkpoint.update(State(2), progress=50)
        raise Stop

    with pytest.raises(Stop):
        await gs.tasks.run("etl", body)
    (row,) = await saved(gs)
    assert (row.data, row.progress) == ({"done": 2}, 50.0)


async def test_an_update_that_cannot_be_saved_is_a_note_on_the_error(gs: Scope) -> None:
    async def body(task: TaskContext[Any]) -> None:
        task.checkpoint.update(object())
        raise Stop

    with pytest.raises(Stop) as caught:
        await gs.tasks.run("etl", body)
    assert "last state could not be saved" in caught.value.__notes__[0]


@pytest.mark.parametrize("fails", [False, True])
async def test_saving_by_interval_ends_with_the_task(store: Store, gs: Scope, fails: bool) -> None:
    async def body(task: TaskContext[Any]) -> None:
        task.checkpoint.update(State(1))
        if fails:
            raise Stop

    with pytest.raises(Stop) if fails else nullcontext():
        await gs.tasks.run("etl", body)
    await store.advance("20s")
    assert len(await saved(gs)) == fails
    assert not [task for task in asyncio.all_tasks() if "_save_every_interval" in repr(task)]
    assert lease_watchers() == []


# --- one owner at a time ---------------------------------------------------------------------


async def test_a_second_run_in_the_same_process_is_refused_at_once(gs: Scope) -> None:
    paused = PausedCall()
    first = asyncio.create_task(gs.tasks.run("etl", lambda task: paused.run()))
    await paused.started()
    with pytest.raises(TaskAlreadyRunning, match="task 'etl' is already running") as caught:
        await gs.tasks.run("etl", lambda task: paused.run())
    assert caught.value.holder is not None
    paused.resume()
    await first
    assert paused.calls == 1


async def test_a_task_that_runs_itself_is_refused_at_once(gs: Scope) -> None:
    async def body(task: TaskContext[Any]) -> None:
        with pytest.raises(TaskAlreadyRunning):
            await gs.tasks.run("etl", lambda task: ticks())

    await asyncio.wait_for(gs.tasks.run("etl", body), 10)


async def test_a_second_run_elsewhere_is_refused_when_the_lease_is_seen_renewed(
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


async def test_with_a_wait_it_waits_for_the_owner_to_end(
    store: Store, gs: Scope, other: Scope
) -> None:
    paused = PausedCall()
    first = asyncio.create_task(gs.tasks.run("etl", lambda task: paused.run(1)))
    await paused.started()
    here = asyncio.create_task(gs.tasks.run("etl", lambda task: paused.run(2), wait="60s"))
    there = asyncio.create_task(other.tasks.run("etl", lambda task: paused.run(3), wait="60s"))
    await store.advance("20s")
    paused.resume()
    await store.advance("5s")
    assert [await run for run in (first, here, there)] == [1, 2, 3]
    assert paused.max_running == 1


async def test_a_wait_that_is_over_is_refused(store: Store, gs: Scope, other: Scope) -> None:
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


async def test_an_owner_that_hangs_is_replaced_when_its_lease_runs_out(
    store: Store, gs: Scope
) -> None:
    assert await leases_of(gs).acquire("task:etl", "10s") is not None
    run = asyncio.create_task(gs.tasks.run("etl", lambda task: ticks()))
    await store.wait_until_idle()
    await store.advance("9s")
    assert not run.done()
    await store.advance("2s")
    await wait_until(run.done)
    await run


async def test_of_two_who_replace_a_hanging_owner_one_runs(
    store: Store, gs: Scope, other: Scope
) -> None:
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


async def test_an_owner_that_lost_its_lease_is_ended_and_saves_nothing(
    store: Store, gs: Scope, other: Scope
) -> None:
    paused = PausedCall()

    async def late(task: TaskContext[Any]) -> None:
        await task.checkpoint.save(State(1))
        task.checkpoint.update(State(99))
        await paused.run()

    first = asyncio.create_task(gs.tasks.run("etl", late, save_interval="1h"))
    await paused.started()
    await take_away(gs)
    await stop_after(other, 5)
    await store.advance("4s")
    with pytest.raises(LeaseLost):
        await asyncio.wait_for(first, 10)
    assert [row.data for row in await saved(gs)] == [{"done": 1}, {"done": 5}]


async def test_a_save_after_the_loss_is_refused(gs: Scope, other: Scope) -> None:
    async def late(task: TaskContext[Any]) -> None:
        await task.checkpoint.save(State(1))
        await take_away(gs)
        await stop_after(other, 5)
        await task.checkpoint.save(State(99))

    with pytest.raises(LeaseLost):
        await gs.tasks.run("etl", late)
    assert [row.data for row in await saved(gs)] == [{"done": 1}, {"done": 5}]


async def test_an_owner_that_loses_its_lease_behind_a_save_trims_nothing(
    gs: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = gs.persistence.checkpoint
    assert checkpoints is not None
    cleanup = checkpoints.cleanup

    async def late(task_id: str, keep_count: int, *, fence: Any = None) -> None:
        await take_away(gs)
        await cleanup(task_id, keep_count, fence=fence)

    await stop_after(gs, 1)
    monkeypatch.setattr(checkpoints, "cleanup", late)
    with pytest.raises(LeaseLost):
        await gs.tasks.run("etl", lambda task: task.checkpoint.save(State(2)), max_checkpoints=1)
    assert [row.data for row in await saved(gs)] == [{"done": 1}, {"done": 2}]


async def test_a_late_success_deletes_nothing_of_the_next_owners(gs: Scope, other: Scope) -> None:
    async def late(task: TaskContext[Any]) -> None:
        await take_away(gs)
        await stop_after(other, 5)

    with pytest.raises(LeaseLost):
        await gs.tasks.run("etl", late)
    assert len(await saved(gs)) == 1


async def test_different_tasks_run_side_by_side(gs: Scope) -> None:
    paused = PausedCall()
    async with asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(gs.tasks.run(f"etl:{number}", lambda task: paused.run()))
        await paused.started(3)
        paused.resume()
    assert paused.max_running == 3


# --- progress --------------------------------------------------------------------------------


async def test_progress_tells_percentage_eta_and_listeners(store: Store, gs: Scope) -> None:
    heard: list[tuple[float, int | None]] = []

    def listener(progress: Progress) -> None:
        heard.append((progress.percentage, progress.eta_ms))

    async def body(task: TaskContext[Any]) -> None:
        stop = task.progress.listen(listener)
        assert task.progress.eta_ms is None
        await store.advance("10s")
        task.progress.update(25)
        stop()
        task.progress.update(50)
        await task.checkpoint.save(State(1))
        (row,) = await saved(gs)
        assert (row.progress, row.estimated_time_remaining) == (50.0, 10_000)

    await gs.tasks.run("etl", body)
    assert heard == [(25.0, 30_000)]


async def test_the_eta_of_a_resumed_task_is_of_its_own_speed(store: Store, gs: Scope) -> None:
    await stop_after(gs, 50)

    async def body(task: TaskContext[Any]) -> int | None:
        await store.advance("10s")
        task.progress.update(75)
        return task.progress.eta_ms

    assert await gs.tasks.run("etl", body) == 10_000


@pytest.mark.parametrize("percentage", [-1, 100.5, float("nan")])
async def test_progress_outside_0_to_100_is_refused(gs: Scope, percentage: float) -> None:
    async def body(task: TaskContext[Any]) -> None:
        with pytest.raises(ValueError, match="from 0 to 100"):
            task.progress.update(percentage)
        with pytest.raises(ValueError, match="from 0 to 100"):
            await task.checkpoint.save(State(1), progress=percentage)

    await gs.tasks.run("etl", body)


# --- the decorator ---------------------------------------------------------------------------


async def test_a_resumable_function_is_called_without_its_task(gs: Scope) -> None:
    @gs.resumable("etl:{path}", type=State)
    async def etl(task: TaskContext[State], path: str, *, fails: bool = False) -> int:
        done = 0 if task.checkpoint.data is None else task.checkpoint.data.done
        await task.checkpoint.save(State(done + 1))
        if fails:
            raise Stop
        return done + 1

    assert etl.__name__ == "etl"
    for _ in range(2):
        with pytest.raises(Stop):
            await etl("a.csv", fails=True)
    assert await etl("b.csv") == 1
    assert [row.task_id for row in await saved(gs, "etl:a.csv")] == ["etl:a.csv"] * 2
    assert await etl(path="a.csv") == 3


async def test_a_method_can_be_resumable(gs: Scope) -> None:
    class Importer:
        def __init__(self, name: str) -> None:
            self.name = name

        @gs.resumable("import:{path}", type=State)
        async def run(self, task: TaskContext[State], path: str) -> str:
            return f"{self.name} {task.id} {path}"

    assert await Importer("ada").run("a.csv") == "ada import:a.csv a.csv"


async def test_a_template_may_not_name_the_task(gs: Scope) -> None:
    async def etl(task: TaskContext[Any], path: str) -> None: ...

    with pytest.raises(ConfigurationError, match=r"names 'task', .*it has: path"):
        gs.resumable("etl:{task}")(etl)


async def test_a_function_without_a_task_is_refused(gs: Scope) -> None:
    async def etl() -> None: ...

    with pytest.raises(ConfigurationError, match="etl must take the task"):
        gs.resumable("etl")(etl)  # type: ignore[arg-type]  # wrong on purpose


async def test_a_plain_function_is_refused(gs: Scope) -> None:
    def plain(task: TaskContext[Any]) -> None: ...

    with pytest.raises(ConfigurationError, match="plain must be a coroutine function"):
        gs.resumable("etl")(plain)  # type: ignore[arg-type]  # wrong on purpose


# --- events ----------------------------------------------------------------------------------


async def test_saves_the_resumption_and_the_end_are_told(gs: Scope) -> None:
    with record_events(gs) as events:
        await stop_after(gs, 30)
        await gs.tasks.run("etl", lambda task: ticks())
    told = [event for event in events if event.key == "etl"]
    assert [type(event) for event in told] == [CheckpointSaved, TaskResumed, TaskCompleted]
    steps = [
        (event.sequence, event.progress)
        for event in told
        if isinstance(event, CheckpointSaved | TaskResumed)
    ]
    assert steps == [(1, 30.0), (1, 30.0)]


async def test_the_durations_are_those_of_the_save_and_of_the_run(
    store: Store, gs: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = gs.persistence.checkpoint
    assert checkpoints is not None
    save = checkpoints.save

    async def slow(checkpoint: Checkpoint, *, fence: Any = None) -> None:
        await store.clock.advance("1s")
        await save(checkpoint, fence=fence)

    async def body(task: TaskContext[Any]) -> None:
        await store.clock.advance("2s")
        await task.checkpoint.save(State(1))

    monkeypatch.setattr(checkpoints, "save", slow)
    with record_events(gs) as events:
        await gs.tasks.run("etl", body)
    assert [(type(event), event.duration_ms) for event in events] == [
        (CheckpointSaved, 1000),
        (TaskCompleted, 3000),
    ]
