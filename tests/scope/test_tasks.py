"""``gs.tasks.run``: resuming from a checkpoint, ``on_resume``, progress and events."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from goscope import Checkpoint, Progress, Scope, TaskAlreadyRunning, TaskContext
from goscope.events import CheckpointSaved, TaskCompleted, TaskFailed, TaskResumed, TaskStarted
from goscope.testing import record_events

from .support import PausedCall, Store, lease_watchers, ticks
from .tasks import Interrupted, State, fail_after_saving, saved_checkpoints

pytestmark = pytest.mark.asyncio


async def test_a_first_run_starts_without_a_checkpoint(gs: Scope) -> None:
    async def body(task: TaskContext[Any]) -> str:
        assert task.id == "etl"
        assert task.resumed is False
        assert task.checkpoint.data is None
        assert task.checkpoint.sequence == 0
        assert task.progress.percentage == 0
        return "result"

    assert await gs.tasks.run("etl", body) == "result"


async def test_a_failed_run_is_resumed_from_its_last_save(gs: Scope, other: Scope) -> None:
    await fail_after_saving(gs, 1, 2)

    async def body(task: TaskContext[State]) -> int:
        assert task.resumed is True
        assert task.checkpoint.data == State(2)
        assert task.checkpoint.sequence == 2
        assert task.progress.percentage == 2
        await task.checkpoint.save(State(3))
        return task.checkpoint.sequence

    assert await other.tasks.run("etl", body, type=State) == 3


async def test_without_a_type_the_data_is_plain_json(gs: Scope) -> None:
    await fail_after_saving(gs, 1)

    async def body(task: TaskContext[Any]) -> Any:
        return task.checkpoint.data

    assert await gs.tasks.run("etl", body) == {"done": 1}


async def test_success_deletes_the_checkpoints(gs: Scope) -> None:
    await fail_after_saving(gs, 1, 2)

    async def body(task: TaskContext[Any]) -> None:
        await task.checkpoint.save(State(3))

    await gs.tasks.run("etl", body)
    assert await saved_checkpoints(gs) == []
    await fail_after_saving(gs, 1)  # starts from 1 again


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
    assert [row.data for row in await saved_checkpoints(gs)] == [{"done": 1}, {"done": 2}]


@pytest.mark.parametrize("option", ["save_interval", "wait"])
async def test_a_bare_number_is_no_duration(gs: Scope, option: str) -> None:
    options: dict[str, Any] = {option: 5}
    with pytest.raises(TypeError, match="'5s'"):
        await gs.tasks.run("etl", lambda task: ticks(), **options)
    with pytest.raises(TypeError, match="'5s'"):
        gs.resumable("etl", **options)


async def test_on_resume_is_called_once_before_the_body_of_a_resumed_run(gs: Scope) -> None:
    await fail_after_saving(gs, 1, 2)
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


async def test_on_resume_gets_the_task_as_it_was_saved(gs: Scope) -> None:
    """It may be a plain function."""
    await fail_after_saving(gs, 1, 2)
    found: list[tuple[State | None, int, float]] = []

    def resumed(task: TaskContext[State]) -> None:
        found.append((task.checkpoint.data, task.checkpoint.sequence, task.progress.percentage))

    await gs.tasks.run("etl", lambda task: ticks(), type=State, on_resume=resumed)
    assert found == [(State(2), 2, 2.0)]


async def test_on_resume_is_not_called_when_there_is_nothing_to_resume(gs: Scope) -> None:
    def resumed(task: TaskContext[Any]) -> None:
        pytest.fail("there is nothing to resume")

    await fail_after_saving(gs, on_resume=resumed)  # fails without a checkpoint
    await gs.tasks.run("etl", lambda task: ticks(), on_resume=resumed)
    await fail_after_saving(gs, 1, on_resume=resumed)
    await gs.tasks.run("etl", lambda task: ticks())
    await gs.tasks.run(
        "etl", lambda task: ticks(), on_resume=resumed
    )  # the last run succeeded: nothing to resume


async def test_on_resume_runs_under_the_tasks_lease(gs: Scope, other: Scope) -> None:
    await fail_after_saving(gs, 1)

    async def resumed(task: TaskContext[Any]) -> None:
        with pytest.raises(TaskAlreadyRunning):
            await other.tasks.run("etl", lambda task: ticks(), wait=0)
        await task.checkpoint.save(State(2))

    async def body(task: TaskContext[Any]) -> Any:
        return task.checkpoint.data

    assert await gs.tasks.run("etl", body, on_resume=resumed) == State(2)


@pytest.mark.parametrize("awaitable", [False, True])
async def test_an_error_of_on_resume_ends_the_run_like_one_of_the_body(
    gs: Scope, awaitable: bool
) -> None:
    await fail_after_saving(gs, 1)

    def failing(task: TaskContext[Any]) -> None:
        task.checkpoint.update(State(2))
        raise Interrupted

    async def failing_later(task: TaskContext[Any]) -> None:
        await ticks()
        failing(task)

    async def body(task: TaskContext[Any]) -> None:
        pytest.fail("on_resume refused the checkpoint")

    with pytest.raises(Interrupted):
        await gs.tasks.run("etl", body, on_resume=failing_later if awaitable else failing)
    assert [row.data for row in await saved_checkpoints(gs)] == [{"done": 1}, {"done": 2}]
    assert lease_watchers() == []


async def test_progress_has_a_percentage_an_eta_and_listeners(store: Store, gs: Scope) -> None:
    reported: list[tuple[float, int | None]] = []

    def listener(progress: Progress) -> None:
        reported.append((progress.percentage, progress.eta_ms))

    async def body(task: TaskContext[Any]) -> None:
        stop = task.progress.listen(listener)
        assert task.progress.eta_ms is None
        await store.advance("10s")
        task.progress.update(25)
        stop()
        task.progress.update(50)
        await task.checkpoint.save(State(1))
        (row,) = await saved_checkpoints(gs)
        assert (row.progress, row.estimated_time_remaining) == (50.0, 10_000)

    await gs.tasks.run("etl", body)
    assert reported == [(25.0, 30_000)]


async def test_the_eta_of_a_resumed_task_uses_the_rate_of_this_run(store: Store, gs: Scope) -> None:
    await fail_after_saving(gs, 50)

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


async def test_saves_resumption_and_completion_emit_events(gs: Scope) -> None:
    with record_events(gs) as events:
        await fail_after_saving(gs, 30)
        await gs.tasks.run("etl", lambda task: ticks())
    emitted = [event for event in events if event.key == "etl"]
    assert [type(event) for event in emitted] == [
        TaskStarted,
        CheckpointSaved,
        TaskFailed,
        TaskStarted,
        TaskResumed,
        TaskCompleted,
    ]
    steps = [
        (event.sequence, event.progress)
        for event in emitted
        if isinstance(event, CheckpointSaved | TaskResumed)
    ]
    assert steps == [(1, 30.0), (1, 30.0)]


async def test_the_durations_are_those_of_the_save_and_the_run(
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
        (TaskStarted, 0),
        (CheckpointSaved, 1000),
        (TaskCompleted, 3000),
    ]
