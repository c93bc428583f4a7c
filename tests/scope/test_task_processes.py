"""``gs.tasks.run`` among real processes on one file."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from goscope import Scope

from .support import leases_of, wait_until
from .workers import EXPIRING, bodies_started, end_bodies, journal, outlive_lease, workers

pytestmark = [pytest.mark.asyncio, pytest.mark.long]


async def saved_data(folder: Path) -> list[Any]:
    """The data of the task's checkpoints."""
    async with Scope(backend="sqlite", path=folder / "app.db") as gs:
        checkpoints = gs.persistence.checkpoint
        assert checkpoints is not None
        return [checkpoint.data for checkpoint in await checkpoints.list("key")]


def queued(folder: Path) -> int:
    """How many processes have joined a wait queue in the file."""
    with contextlib.closing(sqlite3.connect(folder / "app.db")) as connection:
        count = connection.execute("SELECT count(*) FROM go_goscope_lock_queue").fetchall()
    return int(count[0][0])


async def test_a_task_that_another_process_runs_is_refused(tmp_path: Path) -> None:
    """At once: its owner's process exists, so nobody waits for a lease of an hour."""
    async with workers(tmp_path, 2) as [owner, second]:
        owner.send("run_task", until="end")
        await bodies_started(tmp_path, 1)
        assert await second.call("run_task") == ["TaskAlreadyRunning"]
        assert await second.call("run_task", options={"wait": 0}) == ["TaskAlreadyRunning"]
        end_bodies(tmp_path)
        assert await owner.results() == [None]
    assert journal(tmp_path) == [owner.pid]


async def test_four_processes_at_once_run_a_task_once(tmp_path: Path) -> None:
    async with workers(tmp_path, 4) as started:
        for worker in started:
            worker.send("run_task", until="end")
        await bodies_started(tmp_path, 1)
        [owner] = [worker for worker in started if worker.pid in journal(tmp_path)]
        for worker in started:
            if worker is not owner:
                assert await worker.results() == ["TaskAlreadyRunning"]
        end_bodies(tmp_path)
        assert await owner.results() == [None]
    assert journal(tmp_path) == [owner.pid]


@pytest.mark.parametrize("decorated", ["run_task", "call_resumable"])
async def test_four_processes_that_wait_for_one_another_run_a_task_once(
    tmp_path: Path, decorated: str
) -> None:
    async with workers(tmp_path, 4) as started:
        for worker in started:
            worker.send(decorated, until="end", options={"wait": "1m"})
        await bodies_started(tmp_path, 1)
        await wait_until(lambda: queued(tmp_path) == 3)
        end_bodies(tmp_path)
        results = sorted([str((await worker.results())[0]) for worker in started])
        assert results == ["None", *["TaskAlreadyRunning"] * 3]
    assert len(journal(tmp_path)) == 1


async def test_four_processes_with_after_wait_run_a_task_four_times(tmp_path: Path) -> None:
    async with workers(tmp_path, 4) as started:
        for worker in started:
            worker.send("run_task", options={"wait": "1m", "after_wait": "run"})
        assert [await worker.results() for worker in started] == [[None]] * 4
    assert sorted(journal(tmp_path)) == sorted(worker.pid for worker in started)


async def test_with_a_wait_a_run_resumes_after_an_owner_that_failed(tmp_path: Path) -> None:
    async with (
        workers(tmp_path, 2, lease_ttl="6s") as [owner, second],
        Scope(backend="sqlite", path=tmp_path / "app.db") as gs,
    ):
        owner.send("run_task", until="end", fails=True, saves=[1])
        await bodies_started(tmp_path, 1)
        second.send("run_task", options={"wait": "1m"})
        await outlive_lease(leases_of(gs), "task:key")
        assert journal(tmp_path) == [owner.pid]
        end_bodies(tmp_path)
        assert await owner.results() == ["ZeroDivisionError"]
        assert await second.results() == [1], "it did not resume where the owner stopped"
    assert journal(tmp_path) == [owner.pid, second.pid]


async def test_the_task_of_a_killed_owner_resumes_before_its_lease_expires(tmp_path: Path) -> None:
    async with workers(tmp_path, 2) as [owner, second]:
        owner.send("run_task", until="never", saves=[1, 2, 3])
        await bodies_started(tmp_path, 1)
        await owner.kill()
        assert await second.call("run_task") == [3]
    assert await saved_data(tmp_path) == []


async def test_a_save_by_an_owner_that_overslept_its_lease_is_refused(tmp_path: Path) -> None:
    """It is the next step of the owner, which has not noticed the loss yet."""
    async with (
        workers(tmp_path, 1, lease_ttl=EXPIRING) as [late],
        workers(tmp_path, 1) as [second],
    ):
        late.send("run_task", until="end", blocks_loop=True, saves=[1], late_saves=[99])
        await bodies_started(tmp_path, 1)
        late.suspend()
        second.send("run_task", until="end second", options={"wait": "1m"})
        await bodies_started(tmp_path, 2)
        end_bodies(tmp_path)
        late.resume()
        assert await late.results() == ["LeaseLost"]
        assert await saved_data(tmp_path) == [1]
        end_bodies(tmp_path, "end second")
        assert await second.results() == [1]
    assert journal(tmp_path) == [late.pid, second.pid]


async def test_an_owner_that_overslept_its_lease_deletes_no_checkpoints(tmp_path: Path) -> None:
    """Success deletes them, but another owner runs the task by then."""
    async with (
        workers(tmp_path, 1, lease_ttl=EXPIRING) as [late],
        workers(tmp_path, 1) as [second],
    ):
        late.send("run_task", until="end", blocks_loop=True, saves=[1])
        await bodies_started(tmp_path, 1)
        late.suspend()
        second.send("run_task", until="end second", saves=[2], options={"wait": "1m"})
        await bodies_started(tmp_path, 2)
        end_bodies(tmp_path)
        late.resume()
        assert await late.results() == ["LeaseLost"]
        assert await saved_data(tmp_path) == [1, 2]
        end_bodies(tmp_path, "end second")
        await second.results()
    assert await saved_data(tmp_path) == []
