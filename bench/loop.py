"""What a store does to the event loop it is used in."""

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

from .contender import Contender, Operation
from .contenders import LOOPS
from .contenders.goscope_backends import GoscopeFile
from .mix import with_mix
from .progress import say
from .result import Lateness
from .rows import expire, provide, revive
from .size import Size
from .summary import percentile
from .ticker import Ticker
from .value import large

CALLERS: Final = 64
VERBS: Final = (
    "get",
    "set",
    "mix",
    "get_many",
    "set_many",
    "get_or_set",
    "failure",
    "healthy",
    "checkpoint",
    "replay",
    "shared_lock",
    "some_keys",
)
WARM: Final = "warm"
"""Where the files are that are read so often that all their pages are in memory."""

FREE: Final = 0.05
"""Seconds for which the foreign process gives the write lock back."""


async def watch_loop(folder: Path, size: Size) -> list[Lateness]:
    """Look at a ticker beside each contender's work; ``folder`` has a file of many rows for each.

    In several rounds, since what else the machine does makes a ticker late as well. Changes the
    files: entries expire.
    """
    await provide(folder / WARM, LOOPS, size.keys)
    gc.collect()
    gc.freeze()  # else collecting the garbage walks through all that the peers have loaded
    looks: defaultdict[tuple[str, str], list[Lateness]] = defaultdict(list)
    for number in range(size.loop_rounds):
        found = [await _idle(size.loop_seconds)]
        for kind in LOOPS:
            say(f"round {number + 1}: event loop: {kind.name}")
            found += await _every_situation(kind, folder, size)
        for look in found:
            looks[look.contender, look.situation].append(look)
    return [_together(each) for each in looks.values()]


async def _every_situation(kind: type[Contender], folder: Path, size: Size) -> list[Lateness]:
    revive(kind(folder, size.many_rows).path, size.many_rows)
    found = [
        *await _every_verb(kind(folder, size.many_rows), size),
        *await _every_verb(kind(folder / WARM, size.keys), size, f", {WARM}"),
        await _cold(kind, folder, size),
        await _foreign_writer(kind, folder, size),
        await _checkpoints(kind, folder, size),
    ]
    if issubclass(kind, GoscopeFile):
        found.append(await _sweeper(kind, folder, size))
    return found


async def _idle(seconds: float) -> Lateness:
    async with Ticker() as ticker:
        await asyncio.sleep(seconds)
    return _lateness("idle", "nobody", ticker, [])


async def _every_verb(contender: Contender, size: Size, where: str = "") -> list[Lateness]:
    async with _opened(contender):
        operations = with_mix(contender)
        return [
            await _watch(f"{verb}{where}", contender, operations[verb], size.loop_seconds)
            for verb in VERBS
            if verb in operations
        ]


async def _cold(kind: type[Contender], folder: Path, size: Size) -> Lateness:
    contender = kind(folder, size.many_rows)
    _forget_pages(contender.path)
    async with _opened(contender):
        get = contender.operations()["get"]
        return await _watch("get, pages on disk", contender, get, size.loop_seconds)


async def _foreign_writer(kind: type[Contender], folder: Path, size: Size) -> Lateness:
    async with _opened(kind(folder, size.many_rows)) as contender:
        mix = with_mix(contender)["mix"]
        context = get_context("spawn")
        ready, enough = context.Event(), context.Event()
        process = context.Process(
            target=_hold, args=(contender.path, size.held_seconds, ready, enough)
        )
        process.start()
        try:
            await asyncio.to_thread(ready.wait)
            situation = "mix, another process holds the write lock"
            seconds = max(size.loop_seconds, 2 * size.held_seconds)
            return await _watch(situation, contender, mix, seconds)
        finally:
            enough.set()
            await asyncio.to_thread(process.join)


async def _checkpoints(kind: type[Contender], folder: Path, size: Size) -> Lateness:
    """Save 10 KB each time: the log is moved into the file again and again."""
    async with _opened(kind(folder, size.many_rows)) as contender:
        save = contender.operations()["checkpoint"]
        return await _watch(
            f"checkpoint, {len(str(large(0))) // 1000} KB: the log is moved",
            contender,
            save,
            2 * size.loop_seconds,
        )


async def _sweeper(kind: type[GoscopeFile], folder: Path, size: Size) -> Lateness:
    contender = kind(folder, size.many_rows)
    contender.sweep_interval = "1ms"  # so that it begins at once
    expire(contender.path, size.many_rows)
    async with _opened(contender):
        get = contender.operations()["get"]
        return await _watch("get, the sweeper at work", contender, get, size.loop_seconds)


@asynccontextmanager
async def _opened(contender: Contender) -> AsyncGenerator[Contender]:
    await contender.open()
    try:
        yield contender
    finally:
        await contender.close()


async def _watch(
    situation: str, contender: Contender, operation: Operation, seconds: float
) -> Lateness:
    """Let 64 callers call for so long, beside a ticker."""
    took: list[float] = []
    until = perf_counter() + seconds

    async def call(number: int) -> None:
        while (began := perf_counter()) < until:
            await operation(number)
            took.append((perf_counter() - began) * 1000)
            number += CALLERS

    async with Ticker() as ticker:
        await asyncio.gather(*(call(number) for number in range(CALLERS)))
    return _lateness(situation, contender.name, ticker, took)


def _lateness(situation: str, contender: str, ticker: Ticker, took: Sequence[float]) -> Lateness:
    return Lateness(
        situation=situation,
        contender=contender,
        p50=ticker.share(0.5),
        p99=ticker.share(0.99),
        p999=ticker.share(0.999),
        worst=max(ticker.late, default=0.0),
        ticks=len(ticker.late),
        calls=len(took),
        call_p50=percentile(took, 0.5),
        call_p99=percentile(took, 0.99),
    )


def _together(looks: Sequence[Lateness]) -> Lateness:
    """Put several looks at the same situation together."""
    return Lateness(
        situation=looks[0].situation,
        contender=looks[0].contender,
        p50=median(each.p50 for each in looks),
        p99=median(each.p99 for each in looks),
        p999=median(each.p999 for each in looks),
        worst=max(each.worst for each in looks),
        ticks=sum(each.ticks for each in looks),
        calls=sum(each.calls for each in looks),
        call_p50=median(each.call_p50 for each in looks),
        call_p99=median(each.call_p99 for each in looks),
    )


def _forget_pages(path: Path) -> None:
    """Let the kernel forget the file's pages, where it can be told to."""
    if not hasattr(os, "posix_fadvise"):
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)  # only clean pages are forgotten
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def _hold(path: Path, seconds: float, ready: Event, enough: Event) -> None:
    """Hold the write lock nearly all the time."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=30)
    while not enough.is_set():
        connection.execute("BEGIN IMMEDIATE")
        ready.set()
        time.sleep(seconds)
        connection.execute("ROLLBACK")
        time.sleep(FREE)
    connection.close()
