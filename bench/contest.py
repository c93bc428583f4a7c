"""Several processes want the same lock."""

from __future__ import annotations

import asyncio
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from time import perf_counter
from typing import Final

from .contender import Contender
from .contenders import BY_NAME, SHARED_LOCKS
from .progress import say
from .result import Contest, Missing
from .size import Size

PROCESSES: Final = 4
PATIENCE: Final = 60
"""Seconds a process waits for the others to be ready."""

_barriers: list[Barrier] = []


def contest(folder: Path, size: Size) -> tuple[list[Contest], list[Missing]]:
    """Let the processes take the lock, whoever gets it, for so long in each round."""
    say(f"shared lock, {PROCESSES} processes want the same")
    found = {
        kind.name: Contest(contender=kind.name, seconds=[], least_shares=[])
        for kind in SHARED_LOCKS
    }
    missing: list[Missing] = []
    context = get_context("spawn")
    barrier = context.Barrier(PROCESSES)
    with ProcessPoolExecutor(PROCESSES, context, _share, (barrier,)) as pool:
        for _ in range(size.rounds):
            for name in list(found):
                try:
                    turns = _turns(pool, name, folder, size.contest_seconds)
                except Exception as exc:
                    barrier.reset()
                    del found[name]
                    reason = f"{type(exc).__name__}: {exc}"
                    missing.append(Missing(contender=name, part="contest", reason=reason))
                    continue
                total = max(sum(turns), 1)
                found[name].seconds.append(size.contest_seconds / total)
                found[name].least_shares.append(min(turns) * PROCESSES / total)
    return list(found.values()), missing


def _turns(pool: ProcessPoolExecutor, name: str, folder: Path, seconds: float) -> list[int]:
    """How often each process got the lock."""
    jobs = [pool.submit(_compete, name, folder, seconds) for _ in range(PROCESSES)]
    return [job.result() for job in jobs]


def _share(barrier: Barrier) -> None:
    _barriers.append(barrier)


def _compete(name: str, folder: Path, seconds: float) -> int:
    return asyncio.run(_open_and_count(BY_NAME[name](folder, 1), seconds))


async def _open_and_count(contender: Contender, seconds: float) -> int:
    await contender.open()
    try:
        # Blocks until all are ready, and so no process gets two of the jobs.
        _barriers[0].wait(PATIENCE)
        return await _count(contender, seconds)
    finally:
        await contender.close()


async def _count(contender: Contender, seconds: float) -> int:
    contend = contender.operations()["contend"]
    until = perf_counter() + seconds
    turns = 0
    while perf_counter() < until:
        if contender.awaits:
            await contend(turns)
        else:
            contend(turns)
        turns += 1
    return turns
