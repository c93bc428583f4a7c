"""Lag of the event loop while a store is in use."""

from __future__ import annotations

import asyncio
import gc
import os
import sqlite3
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Final

from .mix import with_mix
from .progress import log_progress
from .result import LoopLag
from .rows import create_databases, expire, revive
from .size import Size
from .subject import Operation, Subject
from .subjects import LOOPS
from .subjects.goscope_backends import GoscopeFile
from .summary import percentile
from .ticker import Ticker
from .values import large

CALLERS: Final = 64
SITUATIONS: Final = {
    "get": "get",
    "set": "set",
    "mix": "mix",
    "get_many": "get_many",
    "set_many": "set_many",
    "get_or_set": "get_or_set",
    "failure": "record_failure and get_state",
    "healthy": "call on a healthy circuit",
    "checkpoint": "checkpoint",
    "replay": "idempotent replay",
    "shared_lock": "shared lock",
    "some_keys": "scan",
}
"""What the report calls each verb."""

WARM: Final = "warm"
"""Subfolder of the small files, whose pages all stay in memory."""

UNLOCKED_S: Final = 0.05
"""How long the other process releases the write lock between two holds."""


async def measure_loop_lag(folder: Path, size: Size) -> list[LoopLag]:
    """Run a ticker beside the work of each subject on its file of many rows in ``folder``.

    Several rounds reduce the effect of other work on the machine, which delays the ticker too.
    Changes the files: entries expire.
    """
    await create_databases(folder / WARM, LOOPS, size.keys)
    gc.collect()
    gc.freeze()  # a full collection would traverse everything that the peers have loaded
    rounds: defaultdict[tuple[str, str], list[LoopLag]] = defaultdict(list)
    for number in range(size.loop_rounds):
        found = [await _idle(size.loop_seconds)]
        for kind in LOOPS:
            log_progress(f"round {number + 1}: event loop: {kind.name}")
            found += await _every_situation(kind, folder, size)
        for each in found:
            rounds[each.subject, each.situation].append(each)
    return [_combined(each) for each in rounds.values()]


async def _every_situation(kind: type[Subject], folder: Path, size: Size) -> list[LoopLag]:
    revive(kind(folder, size.many_rows).path, size.many_rows)
    found = [
        *await _every_verb(kind(folder, size.many_rows), size),
        *await _every_verb(kind(folder / WARM, size.keys), size, f", {WARM}"),
        await _cold_cache(kind, folder, size),
        await _write_lock_held(kind, folder, size),
        await _checkpoints(kind, folder, size),
    ]
    if issubclass(kind, GoscopeFile):
        found.append(await _sweeper(kind, folder, size))
    return found


async def _idle(seconds: float) -> LoopLag:
    async with Ticker() as ticker:
        await asyncio.sleep(seconds)
    return _loop_lag("idle", "none", ticker, [])


async def _every_verb(subject: Subject, size: Size, suffix: str = "") -> list[LoopLag]:
    async with _opened(subject):
        operations = with_mix(subject)
        return [
            await _measure(f"{situation}{suffix}", subject, operations[verb], size.loop_seconds)
            for verb, situation in SITUATIONS.items()
            if verb in operations
        ]


async def _cold_cache(kind: type[Subject], folder: Path, size: Size) -> LoopLag:
    subject = kind(folder, size.many_rows)
    _drop_from_page_cache(subject.path)
    async with _opened(subject):
        get = subject.operations()["get"]
        return await _measure("get, cold cache", subject, get, size.loop_seconds)


async def _write_lock_held(kind: type[Subject], folder: Path, size: Size) -> LoopLag:
    async with _opened(kind(folder, size.many_rows)) as subject:
        mix = with_mix(subject)["mix"]
        context = get_context("spawn")
        ready, stop = context.Event(), context.Event()
        process = context.Process(
            target=_hold_write_lock, args=(subject.path, size.held_seconds, ready, stop)
        )
        process.start()
        try:
            await asyncio.to_thread(ready.wait)
            situation = "mix, another process holds the write lock"
            seconds = max(size.loop_seconds, 2 * size.held_seconds)
            return await _measure(situation, subject, mix, seconds)
        finally:
            stop.set()
            await asyncio.to_thread(process.join)


async def _checkpoints(kind: type[Subject], folder: Path, size: Size) -> LoopLag:
    """Save large values, so that the WAL is checkpointed repeatedly."""
    async with _opened(kind(folder, size.many_rows)) as subject:
        save = subject.operations()["checkpoint"]
        return await _measure(
            f"checkpoint of {len(str(large(0))) // 1000} KB, during WAL checkpoints",
            subject,
            save,
            2 * size.loop_seconds,
        )


async def _sweeper(kind: type[GoscopeFile], folder: Path, size: Size) -> LoopLag:
    subject = kind(folder, size.many_rows)
    subject.sweep_interval = "1ms"  # starts the sweep immediately
    expire(subject.path, size.many_rows)
    async with _opened(subject):
        get = subject.operations()["get"]
        return await _measure("get, during a sweep", subject, get, size.loop_seconds)


@asynccontextmanager
async def _opened(subject: Subject) -> AsyncGenerator[Subject]:
    await subject.open()
    try:
        yield subject
    finally:
        await subject.close()


async def _measure(
    situation: str, subject: Subject, operation: Operation, seconds: float
) -> LoopLag:
    """Run 64 callers beside a ticker."""
    latencies_ms: list[float] = []
    deadline = perf_counter() + seconds

    async def call(number: int) -> None:
        while (started := perf_counter()) < deadline:
            await operation(number)
            latencies_ms.append((perf_counter() - started) * 1000)
            number += CALLERS

    async with Ticker() as ticker:
        await asyncio.gather(*(call(number) for number in range(CALLERS)))
    return _loop_lag(situation, subject.name, ticker, latencies_ms)


def _loop_lag(
    situation: str, subject: str, ticker: Ticker, latencies_ms: Sequence[float]
) -> LoopLag:
    return LoopLag(
        situation=situation,
        subject=subject,
        p50_ms=ticker.percentile_ms(0.5),
        p99_ms=ticker.percentile_ms(0.99),
        p999_ms=ticker.percentile_ms(0.999),
        max_ms=max(ticker.lags_ms, default=0.0),
        ticks=len(ticker.lags_ms),
        calls=len(latencies_ms),
        call_p50_ms=percentile(latencies_ms, 0.5),
        call_p99_ms=percentile(latencies_ms, 0.99),
    )


def _combined(rounds: Sequence[LoopLag]) -> LoopLag:
    """Combine the rounds of one situation."""
    return LoopLag(
        situation=rounds[0].situation,
        subject=rounds[0].subject,
        p50_ms=median(each.p50_ms for each in rounds),
        p99_ms=median(each.p99_ms for each in rounds),
        p999_ms=median(each.p999_ms for each in rounds),
        max_ms=max(each.max_ms for each in rounds),
        ticks=sum(each.ticks for each in rounds),
        calls=sum(each.calls for each in rounds),
        call_p50_ms=median(each.call_p50_ms for each in rounds),
        call_p99_ms=median(each.call_p99_ms for each in rounds),
    )


def _drop_from_page_cache(path: Path) -> None:
    """Ask the kernel to drop the file from its page cache, on systems that support it."""
    if not hasattr(os, "posix_fadvise"):
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)  # the kernel drops only clean pages
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def _hold_write_lock(path: Path, seconds: float, ready: Event, stop: Event) -> None:
    """Hold the write lock nearly all the time."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=30)
    while not stop.is_set():
        connection.execute("BEGIN IMMEDIATE")
        ready.set()
        time.sleep(seconds)
        connection.execute("ROLLBACK")
        time.sleep(UNLOCKED_S)
    connection.close()
