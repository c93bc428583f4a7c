"""``gs.idempotency.run`` among real processes on one file."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from goscope import Scope

from .workers import (
    EXPIRING,
    GRACE_S,
    bodies_started,
    call_all_during_body,
    end_bodies,
    journal,
    workers,
)

pytestmark = pytest.mark.asyncio


async def result(folder: Path) -> Any:
    async with Scope(backend="sqlite", path=folder / "app.db") as gs:
        record = await gs.idempotency.get("key")
        assert record is not None
        return record.value


async def test_one_of_8_processes_with_50_callers_executes_the_call(tmp_path: Path) -> None:
    """Every caller gets the result; all but one get it as a replay."""
    async with workers(tmp_path, 8) as callers:
        results = await call_all_during_body(tmp_path, callers, "run_idempotent", times=50)
    (pid,) = journal(tmp_path)
    assert results.count([pid, False]) == 1
    assert results.count([pid, True]) == 399


async def test_a_waiter_replaces_a_killed_process_before_its_lease_expires(tmp_path: Path) -> None:
    async with workers(tmp_path, 4) as [first, *others]:
        first.send("run_idempotent", times=5, until="never")
        await bodies_started(tmp_path, 1)
        for other in others:
            other.send("run_idempotent", times=5)
        await asyncio.sleep(GRACE_S)
        assert journal(tmp_path) == [first.pid]
        await first.kill()
        results = [result for other in others for result in await other.results()]
    _, pid = journal(tmp_path)
    assert results.count([pid, False]) == 1
    assert results.count([pid, True]) == 14


async def test_the_completion_of_a_caller_that_overslept_its_lease_is_refused(
    tmp_path: Path,
) -> None:
    async with (
        workers(tmp_path, 1, lease_ttl=EXPIRING) as [late],
        workers(tmp_path, 1) as [other],
    ):
        late.send("run_idempotent", until="end", blocks_loop=True)
        await bodies_started(tmp_path, 1)
        late.suspend()
        assert await other.call("run_idempotent") == [[other.pid, False]]
        end_bodies(tmp_path)
        late.resume()
        assert await late.results() == ["LeaseLost"]
        assert await late.call("run_idempotent") == [[other.pid, True]]
    assert journal(tmp_path) == [late.pid, other.pid]
    assert await result(tmp_path) == other.pid


async def test_another_fingerprint_is_refused_in_flight_and_afterwards(tmp_path: Path) -> None:
    async with workers(tmp_path, 2) as [first, other]:
        first.send("run_idempotent", until="end", options={"fingerprint": "a"})
        await bodies_started(tmp_path, 1)
        other.send("run_idempotent", options={"fingerprint": "b"})
        await asyncio.sleep(GRACE_S)
        end_bodies(tmp_path)
        await first.results()
        assert await other.results() == ["FingerprintMismatch"]
        assert await other.call("run_idempotent", options={"fingerprint": "b"}) == [
            "FingerprintMismatch"
        ]
        assert await other.call("run_idempotent", options={"fingerprint": "a"}) == [
            [first.pid, True]
        ]
    assert journal(tmp_path) == [first.pid]
