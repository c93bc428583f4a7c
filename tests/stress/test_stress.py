"""Processes use all features on one file while a supervisor kills and suspends them.

``make stress`` runs 8 processes for 60 s. ``GOSCOPE_STRESS_SECONDS`` sets the duration,
``GOSCOPE_STRESS_SEED`` repeats the faults and the random choices of an earlier run, and
``GOSCOPE_STRESS_URL`` names another store than a file.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from goscope import CircuitBreakerState, Scope

from .event_log import Log, read_logs
from .history import History
from .report import story, table
from .rules import check
from .store import integrity, open_scope
from .supervisor import Supervisor

SECONDS: Final = float(os.environ.get("GOSCOPE_STRESS_SECONDS", "4"))
SEED: Final = os.environ.get("GOSCOPE_STRESS_SEED") or str(random.SystemRandom().randrange(10**6))
PROCESSES: Final = 8 if "GOSCOPE_STRESS_SECONDS" in os.environ else 4

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the logs need CLOCK_BOOTTIME")


def test_the_contract_holds_while_processes_are_killed_and_suspended(tmp_path: Path) -> None:
    print(f"\nGOSCOPE_STRESS_SEED={SEED}, logs in {tmp_path}")  # noqa: T201  # to repeat it
    asyncio.run(open_circuit(tmp_path))
    with closing(Log(tmp_path, "supervisor")) as log:
        with Supervisor(tmp_path, log, PROCESSES, SEED) as supervisor:
            supervisor.run(SECONDS)
        asyncio.run(log_final_state(tmp_path, log))
    history = History(read_logs(tmp_path))
    violations = check(history)
    print(table(history, violations))  # noqa: T201  # the result of the test
    assert history.killed, "no process was killed"
    assert history.marks["suspend"], "no process was suspended"
    assert history.grants, "no lease was granted"
    if violations:
        first = {violation.rule: violation for violation in reversed(violations)}
        pytest.fail(
            "\n\n".join(story(history, violation) for violation in first.values()), pytrace=False
        )


async def open_circuit(folder: Path) -> None:
    """Open the circuit of the service that is always down."""
    state = CircuitBreakerState(state="open", failure_count=1, last_failure_time=1)
    async with open_scope(folder) as gs:
        circuits = gs.persistence.circuit_breaker
        assert circuits is not None
        await circuits.set_state("down", state)


async def log_final_state(folder: Path, log: Log) -> None:
    """Log the final contents of the store."""
    history = History(read_logs(folder))
    async with open_scope(folder) as gs:
        await log_counts(gs, log, history)
        await log_results(gs, log, history)
    log.mark("integrity", "app.db", integrity(folder))


async def log_counts(gs: Scope, log: Log, history: History) -> None:
    for key in history.by_key("cache.increment"):
        entry = log.begin("total", key)
        entry.end(await gs.cache.get(key, 0))
    entry = log.begin("total", "counts")
    state = await gs.circuit_breaker("counts").state()
    entry.end(state.failure_count)


async def log_results(gs: Scope, log: Log, history: History) -> None:
    for name in history.by_key("write"):
        entry = log.begin("read", name)
        entry.end(await gs.cache.get(name))
    for key in history.by_key("store"):
        entry = log.begin("has", key)
        entry.end(await gs.cache.has(key))
    for key in history.by_key("idempotency.run_detailed"):
        entry = log.begin("result", key)
        record = await gs.idempotency.get(key)
        entry.end(None if record is None else record.value)
    checkpoints = gs.persistence.checkpoint
    assert checkpoints is not None
    for task_id in history.by_key("run"):
        entry = log.begin("load_latest", task_id)
        latest = await checkpoints.load_latest(task_id)
        entry.end(None if latest is None else latest.data)
