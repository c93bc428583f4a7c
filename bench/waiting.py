"""What waiting for a shared lock costs, and who gets it."""

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
from typing import Final, NamedTuple, TypeVar

import goscope
from goscope.backend import BaseAdapter
from goscope_bun_compat import BunSQLiteAdapter
from goscope_sqlite import SQLiteAdapter

from .internals import PollCounter
from .process import isolated
from .progress import say
from .size import Size
from .summary import percentile
from .wait_result import Handover, Idle, Turns, Waiting

T = TypeVar("T")

MANY: Final = 8
FEW: Final = 4
HELD: Final = 0.001
HELD_LONGER: Final = 0.005
"""Seconds for which the lock is kept, by one of many and by one of few."""

REST: Final = 0.02
"""The most seconds after which one of few wants it again."""

SHORT: Final = 0.1
"""Seconds of a wait that must be handed the lock fast."""

PATIENCE: Final = 60
"""Seconds a process waits for the others to be ready."""

IDLE_LOOKS: Final = 5
CONTESTS: Final = 3
"""How many looks at the loop the wait in vain takes, and how many contests each contest here."""

BACKENDS: Final[dict[str, Callable[[Path], BaseAdapter]]] = {
    "goscope sqlite": lambda path: SQLiteAdapter(path, locks="shared"),
    "goscope sqlite-bun": lambda path: BunSQLiteAdapter(path, locks="shared"),
}

_barriers: list[Barrier] = []


class Grant(NamedTuple):
    """One turn of a process: seconds of a clock that all processes share."""

    token: int
    asked: float
    granted: float
    released: float


def waiting(folder: Path, size: Size) -> list[Waiting]:
    """Let processes wait for one lock: many of them, one for long, and a few for short."""
    found: list[Waiting] = []
    for name in BACKENDS:
        say(f"waiting for a shared lock: {name}")
        where = folder / name.replace(" ", "-")
        where.mkdir(parents=True)
        found.append(
            Waiting(
                contender=name,
                turns=_turns(_all(MANY, name, where / "many.db", size, HELD, 0.0)),
                idle=asyncio.run(_idle(name, where / "idle.db", size)),
                handover=_handover(_all(FEW, name, where / "few.db", size, HELD_LONGER, REST)),
            )
        )
    return found


def _turns(grants: list[list[Grant]]) -> Turns:
    waits = [(grant.granted - grant.asked) * 1000 for grant in chain.from_iterable(grants)]
    return Turns(
        grants=[len(each) for each in grants],
        p50=percentile(waits, 0.5),
        p99=percentile(waits, 0.99),
        worst=max(waits, default=0.0),
    )


def _handover(grants: list[list[Grant]]) -> Handover:
    in_order = sorted(chain.from_iterable(grants))  # tokens grow with every grant
    took = [
        (later.granted - earlier.released) * 1000
        for earlier, later in pairwise(in_order)
        if later.asked < earlier.released and later.granted - later.asked < SHORT
    ]
    return Handover(
        count=len(took),
        p50=percentile(took, 0.5),
        p99=percentile(took, 0.99),
        worst=max(took, default=0.0),
    )


async def _idle(name: str, path: Path, size: Size) -> Idle:
    async with goscope.Scope(persistence=BACKENDS[name](path)) as gs, gs.lock("door", ttl="60s"):
        return await asyncio.to_thread(
            isolated, _wait_in_vain, name, path, IDLE_LOOKS * size.loop_seconds
        )


def _wait_in_vain(name: str, path: Path, seconds: float) -> Idle:
    return asyncio.run(_count_polls(name, path, seconds))


async def _count_polls(name: str, path: Path, seconds: float) -> Idle:
    adapter = BACKENDS[name](path)
    async with goscope.Scope(persistence=adapter) as gs:
        polls = PollCounter(adapter)
        began = time.process_time()
        try:
            await gs.lock("door", wait=f"{seconds * 1000:.0f}ms").acquire()
        except goscope.LockTimeout:
            cpu_seconds = time.process_time() - began
            return Idle(seconds=seconds, cpu_seconds=cpu_seconds, polls=polls.count)
        raise RuntimeError("the lock that was to be waited for is free")


# --- processes that all want the lock -----------------------------------------------------------


def _all(
    processes: int, name: str, path: Path, size: Size, held: float, rest: float
) -> list[list[Grant]]:
    """The turns of each process."""
    seconds = CONTESTS * size.contest_seconds
    context = get_context("spawn")
    barrier = context.Barrier(processes)
    with ProcessPoolExecutor(processes, context, _share, (barrier,)) as pool:
        jobs = [pool.submit(_compete, name, path, seconds, held, rest) for _ in range(processes)]
        return [job.result() for job in jobs]


def _share(barrier: Barrier) -> None:
    _barriers.append(barrier)


def _compete(name: str, path: Path, seconds: float, held: float, rest: float) -> list[Grant]:
    return asyncio.run(_take_turns(name, path, seconds, held, rest))


async def _take_turns(
    name: str, path: Path, seconds: float, held: float, rest: float
) -> list[Grant]:
    grants: list[Grant] = []
    async with goscope.Scope(persistence=BACKENDS[name](path)) as gs:
        # Blocks until all are ready, and so no process gets two of the jobs.
        _barriers[0].wait(PATIENCE)
        until = perf_counter() + seconds
        while (asked := perf_counter()) < until:
            handle = await gs.lock("door", ttl="60s").acquire()
            granted = perf_counter()
            await asyncio.sleep(held)
            released = perf_counter()
            await handle.release()
            grants.append(Grant(handle.fencing_token or 0, asked, granted, released))
            await asyncio.sleep(rest * random.random())
    return grants
