"""``gs.idempotency.run`` among real processes on one file."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from goscope import Scope

from .peers import all_call, began, journal, open_gate, peers

pytestmark = pytest.mark.asyncio


async def result(folder: Path) -> Any:
    async with Scope(backend="sqlite", path=folder / "app.db") as gs:
        record = await gs.idempotency.get("key")
        assert record is not None
        return record.value


async def test_of_8_processes_with_50_callers_one_executes(tmp_path: Path) -> None:
    """Everybody gets its result, and one is told that it executed."""
    async with peers(tmp_path, 8) as callers:
        answers = await all_call(tmp_path, callers, "once", times=50)
    (pid,) = journal(tmp_path)
    assert answers.count([pid, False]) == 1
    assert answers.count([pid, True]) == 399


async def test_one_takes_over_from_a_process_that_was_killed_in_flight(tmp_path: Path) -> None:
    """At once: nobody could wait for the end of this lease."""
    async with peers(tmp_path, 4, lease_ttl="1h") as [first, *others]:
        first.tell("once", times=5, gate="never")
        await began(tmp_path, 1)
        for other in others:
            other.tell("once", times=5)
        await asyncio.sleep(0.5)
        assert journal(tmp_path) == [first.pid]
        await first.kill()
        answers = [answer for other in others for answer in await other.answers()]
    _, pid = journal(tmp_path)
    assert answers.count([pid, False]) == 1
    assert answers.count([pid, True]) == 14


async def test_the_completion_of_a_caller_that_overslept_its_lease_is_refused(
    tmp_path: Path,
) -> None:
    async with peers(tmp_path, 2, lease_ttl="1s") as [late, other]:
        late.tell("once", gate="gate", deaf=True)
        await began(tmp_path, 1)
        late.stop()
        assert await other.call("once") == [[other.pid, False]]
        open_gate(tmp_path)
        late.go_on()
        assert await late.answers() == ["LeaseLost"]
        assert await late.call("once") == [[other.pid, True]]
    assert journal(tmp_path) == [late.pid, other.pid]
    assert await result(tmp_path) == other.pid


async def test_another_fingerprint_is_refused_in_flight_and_afterwards(tmp_path: Path) -> None:
    async with peers(tmp_path, 2) as [first, other]:
        first.tell("once", gate="gate", options={"fingerprint": "a"})
        await began(tmp_path, 1)
        other.tell("once", options={"fingerprint": "b"})
        await asyncio.sleep(0.5)
        open_gate(tmp_path)
        await first.answers()
        assert await other.answers() == ["FingerprintMismatch"]
        assert await other.call("once", options={"fingerprint": "b"}) == ["FingerprintMismatch"]
        assert await other.call("once", options={"fingerprint": "a"}) == [[first.pid, True]]
    assert journal(tmp_path) == [first.pid]
