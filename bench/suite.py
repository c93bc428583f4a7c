"""The benchmarks of a run, and their order."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Final

import msgspec

from . import machine
from .busy_loop import measure_busy_loop
from .contention import measure_contention
from .footprint import measure_footprints
from .imports import measure_imports
from .layers import measure_layers
from .loop_lag import WARM, measure_loop_lag
from .result import Report
from .rows import create_databases
from .runner import Job, Runner
from .size import Size
from .steady_state import measure_steady_state
from .subject import Subject
from .subjects import BY_NAME, FILES, LOOPS
from .waiting import measure_waiting
from .workload import BULK, GROWTH, SERVER_GROUPS, WORKLOAD_GROUPS

BENCHMARKS: Final = (
    *(group.name for group in WORKLOAD_GROUPS),
    *(group.name for group in SERVER_GROUPS),
    "layers",
    "contention",
    "waiting",
    "busy loop",
    "footprint",
    "steady state",
    "import",
    GROWTH.name,
    BULK.name,
    "event loop",
)


def run(folder: Path, size: Size, benchmarks: Sequence[str] = BENCHMARKS) -> Report:
    """Run the benchmarks on stores below the folder."""
    started = perf_counter()
    report = Report(
        size=size.name,
        seconds=0,
        machine=machine.describe(),
        configuration={kind.name: kind.about for kind in BY_NAME.values()},
    )
    runner = Runner(folder, size)
    report.measurements += runner.run(
        [
            Job(group, size.held_locks if group.prepare == "hold" else size.keys)
            for group in (*WORKLOAD_GROUPS, *SERVER_GROUPS)
            if group.name in benchmarks
        ]
    )
    asyncio.run(_in_one_loop(folder, size, report, benchmarks))
    _in_processes(folder, size, report, benchmarks)
    _on_many_rows(runner, report, benchmarks)
    report.missing += runner.missing
    report.seconds = perf_counter() - started
    report.machine = msgspec.structs.replace(report.machine, load_after=machine.load_average())
    return report


async def _in_one_loop(folder: Path, size: Size, report: Report, benchmarks: Sequence[str]) -> None:
    if "layers" in benchmarks:
        report.measurements += await measure_layers(folder, size)
    if "busy loop" in benchmarks:
        report.busy_loop, missing = await measure_busy_loop(folder, size)
        report.missing += missing


def _in_processes(folder: Path, size: Size, report: Report, benchmarks: Sequence[str]) -> None:
    if "contention" in benchmarks:
        report.contention, missing = measure_contention(folder / "contention", size)
        report.missing += missing
    if "waiting" in benchmarks:
        waits = measure_waiting(folder / "waiting", size)
        report.waiting, report.server_waiting = waits.on_files, waits.on_servers
        report.missing += waits.missing
    if "footprint" in benchmarks:
        report.footprints, missing = measure_footprints(folder, size)
        report.missing += missing
    if "steady state" in benchmarks:
        report.steady_state = measure_steady_state(folder, size)
    if "import" in benchmarks:
        measurements, missing = measure_imports(folder / "bytecode", size)
        report.measurements += measurements
        report.missing += missing


def _on_many_rows(runner: Runner, report: Report, benchmarks: Sequence[str]) -> None:
    """Measure on files of each number of rows; the largest files serve every such benchmark."""
    wanted = {GROWTH.name, BULK.name, "event loop"} & set(benchmarks)
    size = runner.size
    for rows in size.growth if GROWTH.name in wanted else size.growth[-1:] if wanted else ():
        folder = runner.folder / f"{rows}-rows"
        kinds: list[type[Subject]] = list(dict.fromkeys([*FILES, *LOOPS]))
        (folder / WARM).mkdir(parents=True)
        asyncio.run(create_databases(folder, kinds, rows))
        if GROWTH.name in wanted:
            report.growth += runner.run([Job(GROWTH, rows, folder, rows)])
        if rows == size.many_rows:
            if BULK.name in wanted:
                report.measurements += runner.run([Job(BULK, rows, folder)])
            if "event loop" in wanted:
                report.loop_lag = asyncio.run(measure_loop_lag(folder, size))
        shutil.rmtree(folder)
