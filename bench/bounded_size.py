"""The size of a bounded cache under a steady workload, and what giving space back costs.

    python -m bench.bounded_size [--minutes 30] [--writes-per-second 100]

It writes new entries for minutes of a simulated clock, and prints the size of the file.
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import closing
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Final

from goscope.testing import FakeClock
from goscope_bun_compat import BunSQLiteAdapter
from goscope_sqlite import SQLiteAdapter

from .progress import log_progress
from .values import small

BOUND: Final = "50MB"
TTLS: Final = (None, "1h", "30s")
LARGE_BYTES: Final = 50_000_000
SAMPLE_INTERVAL_S: Final = 30
REAL_S_PER_SIMULATED_S: Final = 0.02
"""Time for the sweeper, which runs in real time."""

COMPARED_WRITES: Final = 10_000
ROUNDS: Final = 11


async def steady(
    adapter_type: type[Any], ttl: str | None, minutes: int, per_second: int, path: Path
) -> list[int]:
    """Write new entries; the sizes of the file in the last two thirds of the time."""
    clock, sizes = FakeClock(), list[int]()
    async with adapter_type(path, max_size=BOUND, clock=clock) as adapter:
        for second in range(60 * minutes):
            numbers = range(second * per_second, (second + 1) * per_second)
            await asyncio.gather(*(adapter.cache.set(f"{n}", small(n), ttl) for n in numbers))
            await clock.advance("1s")
            await asyncio.sleep(REAL_S_PER_SIMULATED_S)
            if second % SAMPLE_INTERVAL_S == 0:
                sizes.append(_size(path))
    return sizes[len(sizes) // 3 :]


async def deleted(adapter_type: type[Any], path: Path) -> tuple[int, int]:
    """The size of the file with one large value, and after it was deleted and swept."""
    async with adapter_type(path) as adapter:
        await adapter.cache.set("large", "x" * LARGE_BYTES)
        await adapter.cache.delete("large")
        before = _size(path)
        await adapter._sweeper.sweep()
        return before, _size(path)


async def write(path: Path, *, incremental: bool, bound: str | None) -> float:
    """Microseconds of a write of a new entry, 64 at a time."""
    if not incremental:  # a file that another program has created
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE other (key)")
    async with SQLiteAdapter(path, max_size=bound) as adapter:
        await adapter._sweeper.sweep()
        started = perf_counter()
        for first in range(0, COMPARED_WRITES, 64):
            numbers = range(first, first + 64)
            await asyncio.gather(*(adapter.cache.set(f"{n}", small(n)) for n in numbers))
        return (perf_counter() - started) / COMPARED_WRITES * 1e6


def _size(path: Path) -> int:
    return path.stat().st_size


def _run(work: Callable[[Path], Coroutine[Any, Any, Any]]) -> Any:
    with tempfile.TemporaryDirectory(prefix="goscope-bench-") as folder:
        return asyncio.run(work(Path(folder) / "app.db"))


def main(arguments: list[str] | None = None) -> None:
    """Measure everything, and log it."""
    parser = argparse.ArgumentParser(prog="python -m bench.bounded_size", description=__doc__)
    parser.add_argument("--minutes", type=int, default=30)
    parser.add_argument("--writes-per-second", type=int, default=100)
    options = parser.parse_args(arguments)
    per_second = options.writes_per_second
    for adapter_type in (SQLiteAdapter, BunSQLiteAdapter):
        name = adapter_type.__name__
        for ttl in TTLS:
            sizes = _run(partial(steady, adapter_type, ttl, options.minutes, per_second))
            low, high = min(sizes) / 1e6, max(sizes) / 1e6
            log_progress(f"{name}, ttl {ttl}: the file has {low:.1f} to {high:.1f} MB")
        before, after = _run(partial(deleted, adapter_type))
        log_progress(f"{name}, a deleted value: {before / 1e6:.1f} MB, then {after / 1e6:.1f} MB")
    cases = {
        "pages stay": (False, None),
        "pages can be given back": (True, None),
        "and a bound": (True, "10GB"),
    }
    found: dict[str, list[float]] = {case: [] for case in cases}
    for _ in range(ROUNDS):
        for case, (incremental, bound) in cases.items():
            found[case].append(_run(partial(write, incremental=incremental, bound=bound)))
    baseline = found["pages stay"]
    for case, times in found.items():
        ratio = median(time / first for time, first in zip(times, baseline, strict=True))
        log_progress(f"a write, {case}: {median(times):.0f} us, {ratio:.2f} times the first")


if __name__ == "__main__":
    main()
