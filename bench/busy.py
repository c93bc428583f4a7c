"""How long a call takes in a loop that is never idle.

Such a loop gives the interpreter's lock away only for the moment of each look at its sockets, in
which no thread wakes up: drivers that need one starve.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from time import perf_counter
from typing import Final

from .contender import Contender, Operation
from .contenders.aiosqlite_by_hand import AiosqliteByHand
from .contenders.diskcache_in_thread import DiskcacheInThread
from .contenders.goscope_backends import GoscopeSQLite, GoscopeSQLiteBun
from .progress import say
from .result import BusyLoop, Missing
from .size import Size
from .summary import percentile

SLICES: Final = (0.1, 1.0, 4.0, 10.0)
"""Milliseconds for which the loop is kept at a time."""

CONTENDERS: Final[tuple[type[Contender], ...]] = (
    GoscopeSQLite,
    GoscopeSQLiteBun,
    AiosqliteByHand,
    DiskcacheInThread,
)


async def keep_busy(folder: Path, size: Size) -> tuple[list[BusyLoop], list[Missing]]:
    """Measure get and set, one caller, in loops that are busy in slices of each length."""
    found: list[BusyLoop] = []
    missing: list[Missing] = []
    for kind in CONTENDERS:
        say(f"busy loop: {kind.name}")
        contender = kind(folder / "busy", size.keys)
        try:
            await contender.open()
        except Exception as exc:
            reason = f"{type(exc).__name__}: {exc}"
            missing.append(Missing(contender=kind.name, part="busy loop", reason=reason))
            continue
        try:
            for number in range(min(size.keys, 1000)):
                await contender.operations()["set"](number)
            found += await _all_slices(contender, size.loop_seconds)
        finally:
            await contender.close()
    shutil.rmtree(folder / "busy")
    return found, missing


async def _all_slices(contender: Contender, seconds: float) -> list[BusyLoop]:
    found: list[BusyLoop] = []
    for slice_ms in SLICES:
        for verb in ("get", "set"):
            took = await _took(contender.operations()[verb], slice_ms / 1000, seconds)
            found.append(
                BusyLoop(
                    slice_ms=slice_ms,
                    verb=verb,
                    contender=contender.name,
                    p50=percentile(took, 0.5),
                    p99=percentile(took, 0.99),
                    calls=len(took),
                )
            )
    return found


async def _took(operation: Operation, slice_seconds: float, seconds: float) -> list[float]:
    """The milliseconds of each call; the last one ends when the loop is idle again."""
    took: list[float] = []
    until = perf_counter() + seconds
    spinning = asyncio.create_task(_spin(slice_seconds, until))
    number = 0
    while (began := perf_counter()) < until:
        await operation(number)
        took.append((perf_counter() - began) * 1000)
        await asyncio.sleep(0)  # a call that never suspends would keep the loop to itself
        number += 1
    await spinning
    return took


async def _spin(slice_seconds: float, until: float) -> None:
    while (now := perf_counter()) < until:
        while perf_counter() < now + slice_seconds:
            pass
        await asyncio.sleep(0)
