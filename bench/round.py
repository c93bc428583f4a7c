"""One round of a family: every contender has one sample of every workload, in random order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Final

import msgspec

from .contender import Contender, Operation
from .mix import with_mix
from .result import Missing
from .workload import Family, Workload

FIRST_CALLS: Final = 4
PREPARING: Final = 64
"""How many calls the calibration begins with, and how many prepare a store at the same time."""

NUMBERS: Final = 100_000_000
"""More than a round counts to: rounds must not write the same values again."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds one call took for one entry."""

    workload: str
    contender: str
    seconds: float


class Round(msgspec.Struct, kw_only=True):
    """What one round brought."""

    samples: list[Sample] = []
    missing: list[Missing] = []


async def play(
    family: Family, folder: Path, *, keys: int, sample_seconds: float, number: int
) -> Round:
    """Play the round of this number; the first one, 0, also prepares the files in the folder."""
    order = random.Random(number)
    found = Round()
    opened = await _open(family, folder, keys, number, found)
    try:
        for workload in family.workloads:
            lanes: list[_Lane] = []
            for contender in order.sample(opened, len(opened)):
                operations = with_mix(contender)
                if workload.verb in operations:
                    lanes.append(_Lane(contender, workload, operations, number))
            await _take_turns(lanes, family, sample_seconds, order, found)
    finally:
        for contender in opened:
            await contender.close()
    return found


async def _open(
    family: Family, folder: Path, keys: int, number: int, found: Round
) -> list[Contender]:
    opened: list[Contender] = []
    for kind in family.contenders:
        contender = kind(folder, keys)
        try:
            await contender.open()
        except Exception as exc:
            found.missing.append(_missing(contender, family.name, exc))
            continue
        opened.append(contender)
        if family.prepare is not None and (number == 0 or family.prepare not in contender.keeps):
            operation = contender.operations()[family.prepare]
            await _seconds(contender, operation, keys, PREPARING, 0)
    return opened


async def _take_turns(
    lanes: Sequence[_Lane],
    family: Family,
    sample_seconds: float,
    order: random.Random,
    found: Round,
) -> None:
    ready: list[_Lane] = []
    for lane in lanes:
        try:
            await lane.calibrate(sample_seconds)
        except Exception as exc:
            part = f"{family.name}: {lane.workload.name}"
            found.missing.append(_missing(lane.contender, part, exc))
        else:
            ready.append(lane)
    for lane in order.sample(ready, len(ready)):
        found.samples.append(await lane.sample())


def _missing(contender: Contender, part: str, exc: Exception) -> Missing:
    return Missing(contender=contender.name, part=part, reason=f"{type(exc).__name__}: {exc}")


class _Lane:
    """One contender in one workload."""

    def __init__(
        self,
        contender: Contender,
        workload: Workload,
        operations: Mapping[str, Operation],
        number: int,
    ) -> None:
        self.contender: Final = contender
        self.workload: Final = workload
        self._operation = operations[workload.verb]
        self._before = operations[workload.before] if workload.before is not None else None
        self._calls = workload.callers
        self._begun = (number + 1) * NUMBERS

    async def calibrate(self, sample_seconds: float) -> None:
        """Find how many calls fill a sample; this warms up as well."""
        if self._before is not None:
            self._calls = 1
            return
        self._calls = max(self.workload.callers, FIRST_CALLS)
        while (taken := await self._run()) < sample_seconds / 2:
            self._calls *= 2
        callers = self.workload.callers
        turns = round(self._calls * sample_seconds / taken / callers)
        self._calls = max(turns, 1) * callers

    async def sample(self) -> Sample:
        seconds = await self._run() / self._calls / self.workload.per_call
        return Sample(workload=self.workload.name, contender=self.contender.name, seconds=seconds)

    async def _run(self) -> float:
        if self._before is not None:
            await _seconds(self.contender, self._before, 1, 1, 0)
        first, self._begun = self._begun, self._begun + self._calls
        callers = min(self.workload.callers, self._calls)
        return await _seconds(self.contender, self._operation, self._calls, callers, first)


async def _seconds(
    contender: Contender, operation: Operation, calls: int, callers: int, first: int
) -> float:
    """Make the calls and return what that took; a contender without a loop has one caller."""
    await asyncio.sleep(0)  # what the one before has left to the loop is not for this one to bear
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
