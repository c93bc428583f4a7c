"""What each mechanism of the SQLite engine gains: on against off, in the case it was made for.

    python -m bench.mechanisms --rounds 12 --only "starvation guard"

Rounds with a mechanism on and off alternate, each in a new process. A mechanism that gains nothing
beyond the quartiles does not belong in the engine.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, Final, NamedTuple

import goscope_sqlite._engine.shared_read as shared_read
import goscope_sqlite._engine.wal as wal
import goscope_sqlite._engine.writer as writer
import goscope_sqlite.providers.lock_queue as lock_queue
from goscope_sqlite import SQLiteAdapter
from goscope_sqlite._engine.reader import Reader

from .busy_loop import _latencies_ms
from .mix import with_mix
from .process import run_isolated
from .round import _seconds
from .subjects.goscope_backends import GoscopeSQLite
from .summary import quartiles
from .waiting import (
    COMPETING_HOLD_S,
    COMPETING_PROCESSES,
    Grant,
    _compete,
    _competition,
    _receive_barrier,
)

KEYS: Final = 10_000
WARM_UP_CALLS: Final = 2_000


class Case(NamedTuple):
    """A mechanism, how to switch it off, and the workload it was made for."""

    mechanism: str
    verb: str
    callers: int
    switch_off: Callable[[], None]


def _options(**options: Any) -> Callable[[], None]:
    def switch_off() -> None:
        defaults = SQLiteAdapter.__init__.__kwdefaults__
        assert defaults is not None
        defaults.update(options)

    return switch_off


def _share_nothing(*_: object) -> None: ...


def _take_batch(*_: object) -> bool:
    return False


CASES: Final = [
    Case("writes in the loop", "set", 1, _options(writes="thread")),
    Case("writes in the loop", "set", 64, _options(writes="thread")),
    Case("writes in the loop", "shared_lock", 1, _options(writes="thread")),
    Case("group commit", "set", 64, partial(setattr, writer, "MAX_LOOP_ROWS", 1)),
    Case("gathering", "mix", 64, partial(setattr, writer, "MAX_GATHER_TICKS", 2)),
    Case("lone statements", "set", 1, partial(setattr, writer.Writer, "_run_alone", _take_batch)),
    Case("page cache of the writer", "mix", 1, partial(setattr, Reader, "share", _share_nothing)),
    Case("page cache of the writer", "mix", 64, partial(setattr, Reader, "share", _share_nothing)),
    Case(
        "shared read transaction",
        "get",
        64,
        partial(setattr, shared_read, "MIN_READS_PER_TICK", sys.maxsize),
    ),
    Case(
        "shared read transaction",
        "mix",
        64,
        partial(setattr, shared_read, "MIN_READS_PER_TICK", sys.maxsize),
    ),
    Case("checkpoints beside writes", "set", 1, partial(setattr, wal, "MAX_COPIES", 0)),
    Case("checkpoints beside writes", "set", 64, partial(setattr, wal, "MAX_COPIES", 0)),
    Case("checkpoints beside writes", "shared_lock", 1, partial(setattr, wal, "MAX_COPIES", 0)),
    Case("starvation guard", "busy", 1, _options(starvation_guard=False)),
    Case(
        "lock queue",
        "contend",
        COMPETING_PROCESSES,
        partial(setattr, lock_queue, "QUEUE_AFTER_MS", sys.maxsize),
    ),
]


class Sample(NamedTuple):
    """One round: seconds per call of wall time, and of CPU time where that is meaningful.

    In the busy loop it is the longest call; with several processes the longest wait, and ``cpu`` is
    the least share of a process (1 is fair).
    """

    wall: float
    cpu: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cases and print a table."""
    parser = argparse.ArgumentParser(prog="python -m bench.mechanisms", description=__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each sample")
    parser.add_argument("--only", choices=sorted({each.mechanism for each in CASES}))
    options = parser.parse_args(arguments)
    print("| mechanism | case | on | off | off / on | in CPU time |")
    print("| --- | --- | --- | --- | --- | --- |")
    for number, case in enumerate(CASES):
        if options.only in (None, case.mechanism):
            print(_row(case, *_measure(number, options.rounds, options.seconds)), flush=True)
    return 0


def _measure(number: int, rounds: int, seconds: float) -> tuple[list[Sample], list[Sample]]:
    """The samples with the mechanism on and off, round by round."""
    order = random.Random(number)
    samples: dict[bool, list[Sample]] = {True: [], False: []}
    for _ in range(rounds):
        for is_on in order.sample([True, False], 2):
            if CASES[number].verb == "contend":
                samples[is_on].append(_contend(number, is_on, seconds))
            else:
                samples[is_on].append(run_isolated(_sample, number, is_on, seconds))
    return samples[True], samples[False]


def _row(case: Case, on: Sequence[Sample], off: Sequence[Sample]) -> str:
    on_us = quartiles([each.wall * 1e6 for each in on])
    off_us = quartiles([each.wall * 1e6 for each in off])
    wall = quartiles([b.wall / a.wall for a, b in zip(on, off, strict=True)])
    cpu = quartiles([_divide(b.cpu, a.cpu) for a, b in zip(on, off, strict=True)])
    cells = (
        case.mechanism,
        f"{case.verb}, {case.callers}",
        f"{on_us.median:.0f} us",
        f"{off_us.median:.0f} us",
        f"{wall.median:.2f} ({wall.low:.2f} to {wall.high:.2f})",
        f"{cpu.median:.2f} ({cpu.low:.2f} to {cpu.high:.2f})",
    )
    return f"| {' | '.join(cells)} |"


def _divide(one: float, other: float) -> float:
    return one / other if other else math.nan


def _sample(number: int, is_on: bool, seconds: float) -> Sample:
    case = CASES[number]
    if not is_on:
        case.switch_off()
    with tempfile.TemporaryDirectory(prefix="goscope-bench-") as folder:
        return asyncio.run(_run(case, Path(folder), seconds))


async def _run(case: Case, folder: Path, seconds: float) -> Sample:
    subject = GoscopeSQLite(folder, KEYS)
    await subject.open()
    try:
        operations = with_mix(subject)
        await _seconds(subject, operations["set"], KEYS, 64, 0)
        if case.verb == "busy":
            defaults = SQLiteAdapter.__init__.__kwdefaults__ or {}
            path, guard = folder / "busy.db", defaults["starvation_guard"]
            async with SQLiteAdapter(path, writes="thread", starvation_guard=guard) as adapter:
                latencies = await _latencies_ms(
                    lambda n: adapter.cache.set(f"{n}", n), 0.001, 4 * seconds
                )
            return Sample(max(latencies) / 1000, 0)
        operation, callers, first = operations[case.verb], case.callers, KEYS
        took = await _seconds(subject, operation, WARM_UP_CALLS, callers, first)
        calls = max(round(WARM_UP_CALLS * seconds / took / callers), 1) * callers
        cpu, started = process_time(), perf_counter()
        await _seconds(subject, operation, calls, callers, first + WARM_UP_CALLS)
        return Sample((perf_counter() - started) / calls, (process_time() - cpu) / calls)
    finally:
        await subject.close()


def _contend(number: int, is_on: bool, seconds: float) -> Sample:
    context = get_context("spawn")
    barrier = context.Barrier(COMPETING_PROCESSES)
    with (
        tempfile.TemporaryDirectory(prefix="goscope-bench-") as folder,
        ProcessPoolExecutor(COMPETING_PROCESSES, context, _receive_barrier, (barrier,)) as pool,
    ):
        path = Path(folder) / "bench.db"
        jobs = [
            pool.submit(_compete_switched, number, is_on, path, 4 * seconds)
            for _ in range(COMPETING_PROCESSES)
        ]
        grants = [job.result() for job in jobs]
    found = _competition(grants)
    counts = found.grants
    return Sample(found.max_ms / 1000, min(counts) * len(counts) / sum(counts))


def _compete_switched(number: int, is_on: bool, path: Path, seconds: float) -> list[Grant]:
    if not is_on:
        CASES[number].switch_off()
    return _compete(GoscopeSQLite.name, path, seconds, COMPETING_HOLD_S, 0.0)


if __name__ == "__main__":
    sys.exit(main())
