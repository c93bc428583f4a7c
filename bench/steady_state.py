"""A steady workload, whose memory and files must not grow."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import Final

from goscope.backend import BaseAdapter
from goscope.memory import MemoryAdapter
from goscope.testing import FakeClock
from goscope_bun_compat import BunSQLiteAdapter
from goscope_sqlite import SQLiteAdapter

from .footprint import file_bytes
from .process import resident_memory, run_isolated
from .progress import log_progress
from .result import SteadyState
from .size import Size
from .values import small

BACKENDS: Final = ("goscope sqlite", "goscope sqlite-bun", "goscope memory")
TTL: Final = "30s"
SAMPLE_INTERVAL_S: Final = 30
"""Simulated seconds between two samples."""

REAL_S_PER_SIMULATED_S: Final = 0.005
"""Time for the sweeper and the WAL checkpoints, which run in real time."""


def measure_steady_state(folder: Path, size: Size) -> list[SteadyState]:
    """Write new entries that expire, for minutes of a simulated clock."""
    log_progress("steady workload")
    return [run_isolated(_write, name, folder / "steady", size) for name in BACKENDS]


def _write(name: str, folder: Path, size: Size) -> SteadyState:
    where = folder / name.replace(" ", "-")
    where.mkdir(parents=True)
    return asyncio.run(_write_for_minutes(name, where, size))


async def _write_for_minutes(name: str, folder: Path, size: Size) -> SteadyState:
    clock = FakeClock()
    samples: list[tuple[int, int]] = []
    async with _adapter(name, folder / "app.db", clock) as adapter:
        assert adapter.cache is not None
        for second in range(1, 60 * size.steady_minutes + 1):
            first = second * size.writes_per_second
            numbers = range(first, first + size.writes_per_second)
            await asyncio.gather(*(adapter.cache.set(f"{n}", small(n), TTL) for n in numbers))
            await clock.advance("1s")
            await asyncio.sleep(REAL_S_PER_SIMULATED_S)
            if second % SAMPLE_INTERVAL_S == 0:
                gc.collect()
                samples.append((file_bytes(folder), resident_memory()))
    return SteadyState(subject=name, samples=samples)


def _adapter(name: str, path: Path, clock: FakeClock) -> BaseAdapter:
    match name:
        case "goscope sqlite":
            return SQLiteAdapter(path, clock=clock)
        case "goscope sqlite-bun":
            return BunSQLiteAdapter(path, clock=clock)
        case _:
            return MemoryAdapter(clock=clock)
