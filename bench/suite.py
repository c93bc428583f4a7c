"""The parts of a run, and the order they come in."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Final

import msgspec

from . import machine
from .busy import keep_busy
from .contender import Contender
from .contenders import BY_NAME, FILES, LOOPS
from .contest import contest
from .footprint import footprints
from .imports import imports
from .layers import layers
from .loop import WARM, watch_loop
from .result import Report
from .rows import provide
from .runner import Job, Runner
from .size import Size
from .steady import stay
from .waiting import waiting
from .workload import BULK, FAMILIES, GROWTH

PARTS: Final = (
    *(family.name for family in FAMILIES),
    "layers",
    "contest",
    "waiting",
    "busy loop",
    "footprint",
    "steady",
    "import",
    GROWTH.name,
    BULK.name,
    "event loop",
)


def run(folder: Path, size: Size, parts: Sequence[str] = PARTS) -> Report:
    """Run the parts on stores below the folder, and report."""
    began = perf_counter()
    report = Report(
        size=size.name,
        seconds=0,
        machine=machine.describe(),
        configuration={kind.name: kind.about for kind in BY_NAME.values()},
    )
    runner = Runner(folder, size)
    report.measured += runner.run(
        [
            Job(family, size.held_locks if family.prepare == "hold" else size.keys)
            for family in FAMILIES
            if family.name in parts
        ]
    )
    asyncio.run(_in_one_loop(folder, size, report, parts))
    _in_processes(folder, size, report, parts)
    _on_many_rows(runner, report, parts)
    report.missing += runner.missing
    report.seconds = perf_counter() - began
    report.machine = msgspec.structs.replace(report.machine, load_after=machine.load_average())
    return report


async def _in_one_loop(folder: Path, size: Size, report: Report, parts: Sequence[str]) -> None:
    if "layers" in parts:
        report.measured += await layers(folder, size)
    if "busy loop" in parts:
        report.busy, missing = await keep_busy(folder, size)
        report.missing += missing


def _in_processes(folder: Path, size: Size, report: Report, parts: Sequence[str]) -> None:
    if "contest" in parts:
        report.contests, missing = contest(folder / "contest", size)
        report.missing += missing
    if "waiting" in parts:
        report.waiting = waiting(folder / "waiting", size)
    if "footprint" in parts:
        report.footprints, missing = footprints(folder, size)
        report.missing += missing
    if "steady" in parts:
        report.steady = stay(folder, size)
    if "import" in parts:
        measured, missing = imports(folder / "bytecode", size)
        report.measured += measured
        report.missing += missing


def _on_many_rows(runner: Runner, report: Report, parts: Sequence[str]) -> None:
    """Measure on files of each number of rows; the largest ones serve all that need many."""
    wanted = {GROWTH.name, BULK.name, "event loop"} & set(parts)
    size = runner.size
    for rows in size.growth if GROWTH.name in wanted else size.growth[-1:] if wanted else ():
        folder = runner.folder / f"{rows}-rows"
        contenders: list[type[Contender]] = list(dict.fromkeys([*FILES, *LOOPS]))
        (folder / WARM).mkdir(parents=True)
        asyncio.run(provide(folder, contenders, rows))
        if GROWTH.name in wanted:
            report.growth += runner.run([Job(GROWTH, rows, folder, rows)])
        if rows == size.many_rows:
            if BULK.name in wanted:
                report.measured += runner.run([Job(BULK, rows, folder)])
            if "event loop" in wanted:
                report.lateness = asyncio.run(watch_loop(folder, size))
        shutil.rmtree(folder)
