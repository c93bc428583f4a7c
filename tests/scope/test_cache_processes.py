"""``get_or_set`` among real processes on one file."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

import pytest

from goscope import Scope

from .peers import all_call, began, journal, open_gate, peers

pytestmark = pytest.mark.asyncio

NEVER: Final = "1h"
"""A lease that does not run out while a test runs."""


async def get(folder: Path) -> Any:
    async with Scope(backend="sqlite", path=folder / "app.db") as gs:
        return await gs.cache.get("key")


async def test_one_of_8_processes_with_8_tasks_computes_a_missing_value(tmp_path: Path) -> None:
    async with peers(tmp_path, 8) as callers:
        values = await all_call(tmp_path, callers, "get_or_set", times=8)
    (pid,) = journal(tmp_path)
    assert values == [pid] * 64


async def test_work_that_takes_longer_than_the_lease_is_not_done_twice(tmp_path: Path) -> None:
    async with peers(tmp_path, 3, lease_ttl="600ms") as callers:
        for caller in callers:
            caller.tell("get_or_set", times=2, gate="gate")
        await began(tmp_path, 1)
        await asyncio.sleep(2)
        open_gate(tmp_path)
        values = [await caller.answers() for caller in callers]
    (pid,) = journal(tmp_path)
    assert values == [[pid] * 2] * 3


async def test_one_who_waits_takes_over_from_a_process_that_was_killed(tmp_path: Path) -> None:
    """At once: nobody could wait for the end of this lease."""
    async with peers(tmp_path, 4, lease_ttl=NEVER) as [first, *others]:
        first.tell("get_or_set", times=4, gate="never")
        await began(tmp_path, 1)
        for other in others:
            other.tell("get_or_set", times=4)
        await asyncio.sleep(0.5)
        assert journal(tmp_path) == [first.pid]
        await first.kill()
        values = [await other.answers() for other in others]
    _, pid = journal(tmp_path)
    assert pid in {other.pid for other in others}
    assert values == [[pid] * 4] * 3


async def test_an_error_is_told_in_its_process_and_another_one_takes_over(tmp_path: Path) -> None:
    async with peers(tmp_path, 3, lease_ttl=NEVER) as [first, *others]:
        first.tell("get_or_set", times=8, gate="gate", fails=True)
        await began(tmp_path, 1)
        for other in others:
            other.tell("get_or_set", times=8)
        await asyncio.sleep(0.5)
        open_gate(tmp_path)
        assert await first.answers() == ["ZeroDivisionError"] * 8
        values = [await other.answers() for other in others]
    failed, pid = journal(tmp_path)
    assert failed == first.pid
    assert values == [[pid] * 8] * 2


async def test_the_value_of_a_process_that_overslept_its_lease_is_not_stored(
    tmp_path: Path,
) -> None:
    """It returns its value all the same: whoever asked there can use it."""
    async with peers(tmp_path, 2, lease_ttl="1s") as [late, other]:
        late.tell("get_or_set", gate="gate", deaf=True)
        await began(tmp_path, 1)
        late.stop()
        assert await other.call("get_or_set") == [other.pid]
        open_gate(tmp_path)
        late.go_on()
        assert await late.answers() == [late.pid]
    assert journal(tmp_path) == [late.pid, other.pid]
    assert await get(tmp_path) == other.pid


async def test_a_stale_value_is_served_to_all_while_one_process_refreshes(tmp_path: Path) -> None:
    async with Scope(backend="sqlite", path=tmp_path / "app.db") as gs:
        await gs.cache.set("key", "old", "1ms", stale_for="1h")
    options = {"ttl": "1h", "stale_for": "1h"}
    async with peers(tmp_path, 4) as callers:
        for caller in callers:
            caller.tell("get_or_set", times=4, gate="gate", options=options)
        assert [await caller.answers() for caller in callers] == [["old"] * 4] * 4
        await began(tmp_path, 1)
        await asyncio.sleep(0.5)
        open_gate(tmp_path)
        (pid,) = journal(tmp_path)
        async with asyncio.timeout(30):
            while await get(tmp_path) != pid:  # noqa: ASYNC110  # another process stores it
                await asyncio.sleep(0.05)
    assert journal(tmp_path) == [pid]
