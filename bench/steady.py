"""A workload that goes on: what it leaves behind must not grow."""

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

from .footprint import bytes_below
from .process import isolated, memory_in_use
from .progress import say
from .result import Steady
from .size import Size
from .value import small

BACKENDS: Final = ("goscope sqlite", "goscope sqlite-bun", "goscope memory")
TTL: Final = "30s"
BETWEEN_SAMPLES: Final = 30
"""Simulated seconds."""

BREATH: Final = 0.005
"""Real seconds for each simulated one: the sweeper and the checkpoints run in real time."""


def stay(folder: Path, size: Size) -> list[Steady]:
    """Write new entries that expire, for minutes that a clock of our own lets pass."""
    say("steady workload")
    return [isolated(_write, name, folder / "steady", size) for name in BACKENDS]


def _write(name: str, folder: Path, size: Size) -> Steady:
    where = folder / name.replace(" ", "-")
    where.mkdir(parents=True)
    return asyncio.run(_write_for_minutes(name, where, size))


async def _write_for_minutes(name: str, folder: Path, size: Size) -> Steady:
    clock = FakeClock()
    samples: list[tuple[int, int]] = []
    async with _adapter(name, folder / "app.db", clock) as adapter:
        assert adapter.cache is not None
        for second in range(1, 60 * size.steady_minutes + 1):
            first = second * size.writes_a_second
            numbers = range(first, first + size.writes_a_second)
            await asyncio.gather(*(adapter.cache.set(f"{n}", small(n), TTL) for n in numbers))
            await clock.advance("1s")
            await asyncio.sleep(BREATH)
            if second % BETWEEN_SAMPLES == 0:
                gc.collect()
                samples.append((bytes_below(folder), memory_in_use()))
    return Steady(contender=name, samples=samples)


def _adapter(name: str, path: Path, clock: FakeClock) -> BaseAdapter:
    match name:
        case "goscope sqlite":
            return SQLiteAdapter(path, clock=clock)
        case "goscope sqlite-bun":
            return BunSQLiteAdapter(path, clock=clock)
        case _:
            return MemoryAdapter(clock=clock)
