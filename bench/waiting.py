"""Waiting for a shared lock: fairness, CPU time and handoff latency."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import chain, pairwise
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from time import perf_counter
from typing import Final, NamedTuple, Self

import goscope
from goscope.backend import BaseAdapter
from goscope_bun_compat import BunSQLiteAdapter
from goscope_sqlite import SQLiteAdapter

from .internals import PollCounter
from .process import run_isolated
from .progress import log_progress
from .result import Missing
from .size import Size
from .subject import SubjectUnavailable
from .subjects import SERVER_BACKENDS
from .summary import percentile
from .wait_result import BlockedWait, Competition, Handoff, ServerWaiting, Waiting

COMPETING_PROCESSES: Final = 8
COMPETING_HOLD_S: Final = 0.001
HANDOFF_PROCESSES: Final = 4
HANDOFF_HOLD_S: Final = 0.005
HANDOFF_MAX_PAUSE_S: Final = 0.02
"""Upper bound of the random pause before a process requests the lock again."""

SHORT_WAIT_S: Final = 0.1
"""Only handoffs to waits shorter than this are measured."""

START_TIMEOUT_S: Final = 60
"""How long a process waits for the others to start."""

BLOCKED_FACTOR: Final = 5
"""Length of the blocked wait, as a multiple of the size's ``loop_seconds``."""

CONTENTION_FACTOR: Final = 3
"""Length of a competition, as a multiple of the size's ``contention_seconds``."""

BACKENDS: Final[dict[str, Callable[[Path], BaseAdapter]]] = {
    "goscope sqlite": lambda path: SQLiteAdapter(path, locks="shared"),
    "goscope sqlite-bun": lambda path: BunSQLiteAdapter(path, locks="shared"),
}

SERVERS: Final = {kind.name: kind for kind in SERVER_BACKENDS}

_barriers: list[Barrier] = []


class Grant(NamedTuple):
    """One grant of the lock, in seconds of a clock that all processes share."""

    token: int
    requested: float
    granted: float
    released: float


class Competitors:
    """Processes that run the same competition at the same time, one after another."""

    def __init__(self, processes: int, size: Size) -> None:
        self._processes = processes
        self._seconds = CONTENTION_FACTOR * size.contention_seconds
        context = get_context("spawn")
        barrier = context.Barrier(processes)
        self._pool = ProcessPoolExecutor(processes, context, _receive_barrier, (barrier,))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._pool.shutdown()

    def run(self, name: str, path: Path, hold_s: float, max_pause_s: float) -> list[list[Grant]]:
        """Return the grants of each process."""
        jobs = [
            self._pool.submit(_compete, name, path, self._seconds, hold_s, max_pause_s)
            for _ in range(self._processes)
        ]
        return [job.result() for job in jobs]


class Waits(NamedTuple):
    """What was measured on files and on servers, and the servers that are missing."""

    on_files: list[Waiting]
    on_servers: list[ServerWaiting]
    missing: list[Missing]


def measure_waiting(folder: Path, size: Size) -> Waits:
    """Measure eight competing processes; on files also a blocked one, and handoffs between four."""
    found = Waits([], [], [])
    with Competitors(COMPETING_PROCESSES, size) as eight:
        with Competitors(HANDOFF_PROCESSES, size) as four:
            for name in BACKENDS:
                log_progress(f"waiting for a shared lock: {name}")
                where = folder / name.replace(" ", "-")
                where.mkdir(parents=True)
                found.on_files.append(_wait_on_file(name, where, size, eight, four))
        for name in SERVERS:
            log_progress(f"waiting for a lock on a server: {name}")
            try:
                found.on_servers.append(asyncio.run(_wait_on_server(name, folder, eight)))
            except SubjectUnavailable as exc:
                missing = Missing(subject=name, benchmark="waiting", reason=str(exc))
                found.missing.append(missing)
    return found


def _wait_on_file(
    name: str, folder: Path, size: Size, eight: Competitors, four: Competitors
) -> Waiting:
    competing = eight.run(name, folder / "competition.db", COMPETING_HOLD_S, 0.0)
    blocked = asyncio.run(_block(name, folder / "blocked.db", size))
    handing_off = four.run(name, folder / "handoff.db", HANDOFF_HOLD_S, HANDOFF_MAX_PAUSE_S)
    return Waiting(
        subject=name,
        competition=_competition(competing),
        blocked=blocked,
        handoff=_handoff(handing_off),
    )


async def _wait_on_server(name: str, folder: Path, eight: Competitors) -> ServerWaiting:
    """Raises `SubjectUnavailable` without a server."""
    store = SERVERS[name](folder, 1)
    await store.create()
    try:
        grants = await asyncio.to_thread(eight.run, name, folder, COMPETING_HOLD_S, 0.0)
    finally:
        await store.drop()
    return ServerWaiting(subject=name, competition=_competition(grants), handoff=_handoff(grants))


def _competition(grants: list[list[Grant]]) -> Competition:
    waits_ms = [(grant.granted - grant.requested) * 1000 for grant in chain.from_iterable(grants)]
    return Competition(
        grants=[len(each) for each in grants],
        p50_ms=percentile(waits_ms, 0.5),
        p99_ms=percentile(waits_ms, 0.99),
        max_ms=max(waits_ms, default=0.0),
    )


def _handoff(grants: list[list[Grant]]) -> Handoff:
    in_order = sorted(chain.from_iterable(grants))  # tokens increase with every grant
    latencies_ms = [
        (later.granted - earlier.released) * 1000
        for earlier, later in pairwise(in_order)
        if later.requested < earlier.released and later.granted - later.requested < SHORT_WAIT_S
    ]
    return Handoff(
        count=len(latencies_ms),
        p50_ms=percentile(latencies_ms, 0.5),
        p99_ms=percentile(latencies_ms, 0.99),
        max_ms=max(latencies_ms, default=0.0),
    )


# --- one process that waits until it times out --------------------------------------------------


async def _block(name: str, path: Path, size: Size) -> BlockedWait:
    async with goscope.Scope(persistence=BACKENDS[name](path)) as gs, gs.lock("door", ttl="60s"):
        return await asyncio.to_thread(
            run_isolated, _wait_until_timeout, name, path, BLOCKED_FACTOR * size.loop_seconds
        )


def _wait_until_timeout(name: str, path: Path, seconds: float) -> BlockedWait:
    return asyncio.run(_count_polls(name, path, seconds))


async def _count_polls(name: str, path: Path, seconds: float) -> BlockedWait:
    adapter = BACKENDS[name](path)
    async with goscope.Scope(persistence=adapter) as gs:
        polls = PollCounter(adapter)
        started = time.process_time()
        try:
            await gs.lock("door", wait=f"{seconds * 1000:.0f}ms").acquire()
        except goscope.LockTimeout:
            cpu_seconds = time.process_time() - started
            return BlockedWait(seconds=seconds, cpu_seconds=cpu_seconds, polls=polls.count)
        raise RuntimeError("the lock is free, but another process should hold it")


# --- processes that compete for the lock --------------------------------------------------------


def _receive_barrier(barrier: Barrier) -> None:
    _barriers.append(barrier)


def _compete(
    name: str, path: Path, seconds: float, hold_s: float, max_pause_s: float
) -> list[Grant]:
    return asyncio.run(_collect_grants(name, path, seconds, hold_s, max_pause_s))


async def _collect_grants(
    name: str, path: Path, seconds: float, hold_s: float, max_pause_s: float
) -> list[Grant]:
    grants: list[Grant] = []
    adapter = SERVERS[name](path, 1).adapter() if name in SERVERS else BACKENDS[name](path)
    async with goscope.Scope(persistence=adapter) as gs:
        # Blocking the loop until all processes are ready keeps each from taking a second job.
        _barriers[0].wait(START_TIMEOUT_S)
        deadline = perf_counter() + seconds
        while (requested := perf_counter()) < deadline:
            handle = await gs.lock("door", ttl="60s").acquire()
            granted = perf_counter()
            await asyncio.sleep(hold_s)
            released = perf_counter()
            await handle.release()
            grants.append(Grant(handle.fencing_token or 0, requested, granted, released))
            await asyncio.sleep(max_pause_s * random.random())
    return grants
