"""Latency of a call in an event loop that is never idle.

Such a loop releases the GIL only while it polls its selector, too briefly for another thread to
wake up: drivers that need a thread starve.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from time import perf_counter
from typing import Final

from .progress import log_progress
from .result import BusyLoop, Missing
from .size import Size
from .subject import Operation, Subject
from .subjects.aiosqlite_direct import AiosqliteDirect
from .subjects.diskcache_in_thread import DiskcacheInThread
from .subjects.goscope_backends import GoscopeSQLite, GoscopeSQLiteBun
from .summary import percentile

SLICES_MS: Final = (0.1, 1.0, 4.0, 10.0)
MAX_KEYS: Final = 1000

SUBJECTS: Final[tuple[type[Subject], ...]] = (
    GoscopeSQLite,
    GoscopeSQLiteBun,
    AiosqliteDirect,
    DiskcacheInThread,
)


async def measure_busy_loop(folder: Path, size: Size) -> tuple[list[BusyLoop], list[Missing]]:
    """Measure get and set of one caller for each slice length."""
    found: list[BusyLoop] = []
    missing: list[Missing] = []
    for kind in SUBJECTS:
        log_progress(f"busy loop: {kind.name}")
        subject = kind(folder / "busy", size.keys)
        try:
            await subject.open()
        except Exception as exc:
            reason = f"{type(exc).__name__}: {exc}"
            missing.append(Missing(subject=kind.name, benchmark="busy loop", reason=reason))
            continue
        try:
            for number in range(min(size.keys, MAX_KEYS)):
                await subject.operations()["set"](number)
            found += await _measure_slices(subject, size.loop_seconds)
        finally:
            await subject.close()
    shutil.rmtree(folder / "busy")
    return found, missing


async def _measure_slices(subject: Subject, seconds: float) -> list[BusyLoop]:
    found: list[BusyLoop] = []
    for slice_ms in SLICES_MS:
        for verb in ("get", "set"):
            latencies_ms = await _latencies_ms(subject.operations()[verb], slice_ms / 1000, seconds)
            found.append(
                BusyLoop(
                    slice_ms=slice_ms,
                    verb=verb,
                    subject=subject.name,
                    p50_ms=percentile(latencies_ms, 0.5),
                    p99_ms=percentile(latencies_ms, 0.99),
                    calls=len(latencies_ms),
                )
            )
    return found


async def _latencies_ms(operation: Operation, slice_seconds: float, seconds: float) -> list[float]:
    """Return the latency of each call; a starved call completes when the loop becomes idle."""
    latencies_ms: list[float] = []
    deadline = perf_counter() + seconds
    spinning = asyncio.create_task(_spin(slice_seconds, deadline))
    number = 0
    while (started := perf_counter()) < deadline:
        await operation(number)
        latencies_ms.append((perf_counter() - started) * 1000)
        await asyncio.sleep(0)  # a call that never suspends would keep the spinner from running
        number += 1
    await spinning
    return latencies_ms


async def _spin(slice_seconds: float, deadline: float) -> None:
    while (now := perf_counter()) < deadline:
        while perf_counter() < now + slice_seconds:
            pass
        await asyncio.sleep(0)
