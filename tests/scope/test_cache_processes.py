"""``get_or_set`` among real processes on one file."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from goscope import Scope

from .support import leases_of
from .workers import (
    EXPIRING,
    GRACE_S,
    PATIENCE_S,
    bodies_started,
    call_all_during_body,
    end_bodies,
    journal,
    outlive_lease,
    workers,
)

pytestmark = [pytest.mark.asyncio, pytest.mark.long]


async def get(folder: Path) -> Any:
    async with Scope(backend="sqlite", path=folder / "app.db") as gs:
        return await gs.cache.get("key")


async def test_one_of_8_processes_with_8_tasks_computes_a_missing_value(tmp_path: Path) -> None:
    async with workers(tmp_path, 8) as callers:
        values = await call_all_during_body(tmp_path, callers, "get_or_set", times=8)
    (pid,) = journal(tmp_path)
    assert values == [pid] * 64


async def test_work_that_outlives_its_first_lease_is_done_once(tmp_path: Path) -> None:
    async with (
        workers(tmp_path, 3, lease_ttl="6s") as callers,
        Scope(backend="sqlite", path=tmp_path / "app.db") as gs,
    ):
        for caller in callers:
            caller.send("get_or_set", times=2, until="end")
        await bodies_started(tmp_path, 1)
        await outlive_lease(leases_of(gs), "cache:key")
        end_bodies(tmp_path)
        values = [await caller.results() for caller in callers]
    (pid,) = journal(tmp_path)
    assert values == [[pid] * 2] * 3


async def test_a_waiter_replaces_a_killed_process_before_its_lease_expires(tmp_path: Path) -> None:
    async with workers(tmp_path, 4) as [first, *others]:
        first.send("get_or_set", times=4, until="never")
        await bodies_started(tmp_path, 1)
        for other in others:
            other.send("get_or_set", times=4)
        await asyncio.sleep(GRACE_S)
        assert journal(tmp_path) == [first.pid]
        await first.kill()
        values = [await other.results() for other in others]
    _, pid = journal(tmp_path)
    assert pid in {other.pid for other in others}
    assert values == [[pid] * 4] * 3


async def test_callers_in_one_process_share_an_error_and_another_process_takes_over(
    tmp_path: Path,
) -> None:
    async with workers(tmp_path, 3) as [first, *others]:
        first.send("get_or_set", times=8, until="end", fails=True)
        await bodies_started(tmp_path, 1)
        for other in others:
            other.send("get_or_set", times=8)
        await asyncio.sleep(GRACE_S)
        end_bodies(tmp_path)
        assert await first.results() == ["ZeroDivisionError"] * 8
        values = [await other.results() for other in others]
    failed, pid = journal(tmp_path)
    assert failed == first.pid
    assert values == [[pid] * 8] * 2


async def test_the_value_of_a_process_that_overslept_its_lease_is_returned_unstored(
    tmp_path: Path,
) -> None:
    async with (
        workers(tmp_path, 1, lease_ttl=EXPIRING) as [late],
        workers(tmp_path, 1) as [other],
    ):
        late.send("get_or_set", until="end", blocks_loop=True)
        await bodies_started(tmp_path, 1)
        late.suspend()
        assert await other.call("get_or_set") == [other.pid]
        end_bodies(tmp_path)
        late.resume()
        assert await late.results() == [late.pid]
    assert journal(tmp_path) == [late.pid, other.pid]
    assert await get(tmp_path) == other.pid


async def test_a_stale_value_is_served_to_all_while_one_process_refreshes(tmp_path: Path) -> None:
    async with Scope(backend="sqlite", path=tmp_path / "app.db") as gs:
        await gs.cache.set("key", "old", "1ms", stale_for="1h")
    options = {"ttl": "1h", "stale_for": "1h"}
    async with workers(tmp_path, 4) as callers:
        for caller in callers:
            caller.send("get_or_set", times=4, until="end", options=options)
        assert [await caller.results() for caller in callers] == [["old"] * 4] * 4
        await bodies_started(tmp_path, 1)
        await asyncio.sleep(GRACE_S)
        end_bodies(tmp_path)
        (pid,) = journal(tmp_path)
        async with asyncio.timeout(PATIENCE_S):
            while await get(tmp_path) != pid:  # noqa: ASYNC110  # another process stores it
                await asyncio.sleep(0.05)
    assert journal(tmp_path) == [pid]


@pytest.mark.parametrize("removal", ["delete", "delete_by_tag", "clear"])
async def test_after_a_removal_by_another_process_no_process_gets_or_stores_the_older_value(
    tmp_path: Path, removal: str
) -> None:
    options = {"tags": ["tag"]}
    async with workers(tmp_path, 4) as [computing, waiting, removing, later]:
        computing.send("get_or_set", times=2, until="end", options=options)
        await bodies_started(tmp_path, 1)
        waiting.send("get_or_set", times=2, until="second end", options=options)
        await asyncio.sleep(GRACE_S)
        assert journal(tmp_path) == [computing.pid]
        await removing.call(removal)
        await bodies_started(tmp_path, 2)  # while the first one still runs
        assert journal(tmp_path) == [computing.pid, waiting.pid]
        later.send("get_or_set", times=2, options=options)
        end_bodies(tmp_path)
        assert await computing.results() == [computing.pid] * 2, "they called before the removal"
        assert await get(tmp_path) is None
        end_bodies(tmp_path, "second end")
        assert await waiting.results() == [waiting.pid] * 2
        assert await later.results() == [waiting.pid] * 2
        assert await computing.call("get_or_set", options=options) == [waiting.pid]
