"""Runs workloads: contenders take turns within a round, in another order each time."""

from __future__ import annotations

import asyncio
import random
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Final

from .contender import Contender, Operation
from .mix import with_mix
from .result import Measured, Missing
from .size import Size
from .workload import Family, Workload

FIRST_CALLS: Final = 4
PREPARING: Final = 64
"""How many calls the calibration begins with, and how many prepare a store at the same time."""


_BEGAN: Final = perf_counter()


def say(text: str) -> None:
    """Tell whoever waits how far it is, and after how many seconds."""
    print(f"{perf_counter() - _BEGAN:5.0f} s  {text}", file=sys.stderr, flush=True)


class Runner:
    """Measures families of workloads on stores below ``folder``."""

    def __init__(self, folder: Path, size: Size, seed: int = 1) -> None:
        self.folder: Final = folder
        self.size: Final = size
        self.missing: Final[list[Missing]] = []
        self._random = random.Random(seed)

    async def run(
        self, family: Family, *, keys: int, folder: Path | None = None, rows: int = 0
    ) -> list[Measured]:
        """Measure the family; stores are new, or those that are in ``folder``."""
        where = folder or self.folder / family.name.replace(" ", "-")
        say(f"{family.name}{f', {rows} rows' if rows else ''}")
        opened = await self._open(family, where, keys)
        measured: list[Measured] = []
        try:
            for workload in family.workloads:
                measured += await self._measure(family, workload, opened, rows)
        finally:
            for contender in opened:
                await contender.close()
            if folder is None:
                shutil.rmtree(where)
        return measured

    async def _open(self, family: Family, where: Path, keys: int) -> list[Contender]:
        opened: list[Contender] = []
        for kind in family.contenders:
            contender = kind(where, keys)
            try:
                await contender.open()
            except Exception as exc:
                self._miss(contender, family.name, exc)
                continue
            opened.append(contender)
            if family.prepare is not None:
                operation = contender.operations()[family.prepare]
                await seconds(contender, operation, keys, PREPARING, 0)
        return opened

    async def _measure(
        self, family: Family, workload: Workload, opened: Sequence[Contender], rows: int
    ) -> list[Measured]:
        lanes: list[_Lane] = []
        for contender in opened:
            operations = with_mix(contender)
            if workload.verb in operations:
                lane = _Lane(contender, workload, operations)
                try:
                    await lane.calibrate(self.size.sample_seconds)
                except Exception as exc:
                    self._miss(contender, f"{family.name}: {workload.name}", exc)
                else:
                    lanes.append(lane)
        for _ in range(min(self.size.rounds, family.most_rounds or self.size.rounds)):
            self._random.shuffle(lanes)
            for lane in lanes:
                await lane.sample()
        order = {contender.name: place for place, contender in enumerate(opened)}
        lanes.sort(key=lambda lane: order[lane.contender.name])
        return [lane.measured(rows) for lane in lanes]

    def _miss(self, contender: Contender, part: str, exc: Exception) -> None:
        reason = f"{type(exc).__name__}: {exc}"
        say(f"  {contender.name} cannot take part in {part}: {reason}")
        self.missing.append(Missing(contender=contender.name, part=part, reason=reason))


class _Lane:
    """One contender in one workload."""

    def __init__(
        self, contender: Contender, workload: Workload, operations: Mapping[str, Operation]
    ) -> None:
        self.contender: Final = contender
        self._workload = workload
        self._operation = operations[workload.verb]
        self._before = operations[workload.before] if workload.before is not None else None
        self._calls = workload.callers
        self._begun = 0
        self._seconds: list[float] = []

    async def calibrate(self, sample_seconds: float) -> None:
        """Find how many calls fill a sample; this warms up as well."""
        if self._before is not None:
            self._calls = 1
            return
        self._calls = max(self._workload.callers, FIRST_CALLS)
        while (taken := await self._run()) < sample_seconds / 4:
            self._calls *= 2
        callers = self._workload.callers
        turns = round(self._calls * sample_seconds / taken / callers)
        self._calls = max(turns, 1) * callers

    async def sample(self) -> None:
        self._seconds.append(await self._run() / self._calls / self._workload.per_call)

    def measured(self, rows: int) -> Measured:
        return Measured(
            workload=self._workload.name,
            contender=self.contender.name,
            limit=self._workload.limit_of(self.contender.name),
            seconds=self._seconds,
            rows=rows,
        )

    async def _run(self) -> float:
        if self._before is not None:
            await seconds(self.contender, self._before, 1, 1, 0)
        first, self._begun = self._begun, self._begun + self._calls
        callers = min(self._workload.callers, self._calls)
        return await seconds(self.contender, self._operation, self._calls, callers, first)


async def seconds(
    contender: Contender, operation: Operation, calls: int, callers: int, first: int
) -> float:
    """Make the calls and return what that took; a contender without a loop has one caller."""
    if not contender.awaits:
        began = perf_counter()
        for number in range(first, first + calls):
            operation(number)
        return perf_counter() - began
    shares = [range(first + caller, first + calls, callers) for caller in range(callers)]
    began = perf_counter()
    if callers == 1:
        await _call(operation, shares[0])
    else:
        await asyncio.gather(*(_call(operation, share) for share in shares))
    return perf_counter() - began


async def _call(operation: Operation, numbers: range) -> None:
    for number in numbers:
        await operation(number)
