"""Several processes that compete for the same lock."""

from __future__ import annotations

import asyncio
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from threading import BrokenBarrierError
from time import perf_counter
from typing import Final

from .progress import log_progress
from .result import Contention, Missing
from .size import Size
from .subject import Subject
from .subjects import BY_NAME, SHARED_LOCKS

PROCESSES: Final = 4
START_TIMEOUT_S: Final = 60
"""How long a process waits for the others to start."""

_barriers: list[Barrier] = []


def measure_contention(folder: Path, size: Size) -> tuple[list[Contention], list[Missing]]:
    """Count the grants of each process over a fixed time in each round."""
    log_progress(f"shared lock, {PROCESSES} processes")
    found = {
        kind.name: Contention(subject=kind.name, seconds_per_grant=[], minimum_shares=[])
        for kind in SHARED_LOCKS
    }
    missing: list[Missing] = []
    context = get_context("spawn")
    barrier = context.Barrier(PROCESSES)
    with ProcessPoolExecutor(PROCESSES, context, _receive_barrier, (barrier,)) as pool:
        for _ in range(size.rounds):
            for name in list(found):
                try:
                    grants = _grants(pool, name, folder, size.contention_seconds)
                except Exception as exc:
                    barrier.reset()
                    del found[name]
                    reason = f"{type(exc).__name__}: {exc}"
                    missing.append(Missing(subject=name, benchmark="contention", reason=reason))
                    continue
                total = max(sum(grants), 1)
                found[name].seconds_per_grant.append(size.contention_seconds / total)
                found[name].minimum_shares.append(min(grants) * PROCESSES / total)
    return list(found.values()), missing


def _grants(pool: ProcessPoolExecutor, name: str, folder: Path, seconds: float) -> list[int]:
    """Return how often each process got the lock."""
    jobs = [pool.submit(_compete, name, folder, seconds) for _ in range(PROCESSES)]
    errors = [error for job in jobs if (error := job.exception()) is not None]
    if errors:
        # A process that fails breaks the barrier of the others: raise the cause.
        raise min(errors, key=lambda error: isinstance(error, BrokenBarrierError))
    return [job.result() for job in jobs]


def _receive_barrier(barrier: Barrier) -> None:
    _barriers.append(barrier)


def _compete(name: str, folder: Path, seconds: float) -> int:
    return asyncio.run(_open_and_count(BY_NAME[name](folder, 1), seconds))


async def _open_and_count(subject: Subject, seconds: float) -> int:
    try:
        await subject.open()
    except BaseException:
        _barriers[0].abort()  # the others would wait for this process until the timeout
        raise
    try:
        # Blocking the loop until all processes are ready keeps each from taking a second job.
        _barriers[0].wait(START_TIMEOUT_S)
        return await _count(subject, seconds)
    finally:
        await subject.close()


async def _count(subject: Subject, seconds: float) -> int:
    contend = subject.operations()["contend"]
    deadline = perf_counter() + seconds
    grants = 0
    while perf_counter() < deadline:
        if subject.is_async:
            await contend(grants)
        else:
            contend(grants)
        grants += 1
    return grants
