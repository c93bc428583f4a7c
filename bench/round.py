"""One round of a workload group: one sample of each workload per subject, in random order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Final

import msgspec

from .mix import with_mix
from .result import Missing
from .subject import Operation, Subject
from .workload import Workload, WorkloadGroup

FIRST_CALLS: Final = 4
"""Calls of the first calibration step."""

PREPARE_CALLERS: Final = 64
"""Concurrent callers that prepare a store."""

NUMBERS_PER_ROUND: Final = 100_000_000
"""More than a round uses, because rounds must not write the same values again."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds per entry."""

    workload: str
    subject: str
    seconds: float


class Round(msgspec.Struct, kw_only=True):
    """The results of one round."""

    samples: list[Sample] = []
    missing: list[Missing] = []


async def run_round(
    group: WorkloadGroup, folder: Path, *, keys: int, sample_seconds: float, number: int
) -> Round:
    """Run the round with this number; round 0 also prepares the files in the folder."""
    order = random.Random(number)
    results = Round()
    opened = await _open(group, folder, keys, number, results)
    try:
        for workload in group.workloads:
            probes: list[_Probe] = []
            for subject in order.sample(opened, len(opened)):
                operations = with_mix(subject)
                if workload.verb in operations:
                    probes.append(_Probe(subject, workload, operations, number))
            await _measure(probes, group, sample_seconds, order, results)
    finally:
        for subject in opened:
            await subject.close()
    return results


async def _open(
    group: WorkloadGroup, folder: Path, keys: int, number: int, results: Round
) -> list[Subject]:
    opened: list[Subject] = []
    for kind in group.subjects:
        subject = kind(folder, keys)
        try:
            await subject.open()
        except Exception as exc:
            results.missing.append(_missing(subject, group.name, exc))
            continue
        opened.append(subject)
        prepare = subject.operations().get(group.prepare or "")
        if prepare is not None and (number == 0 or group.prepare not in subject.persistent_verbs):
            await _seconds(subject, prepare, keys, PREPARE_CALLERS, 0)
    return opened


async def _measure(
    probes: Sequence[_Probe],
    group: WorkloadGroup,
    sample_seconds: float,
    order: random.Random,
    results: Round,
) -> None:
    ready: list[_Probe] = []
    for probe in probes:
        try:
            await probe.calibrate(sample_seconds)
        except Exception as exc:
            benchmark = f"{group.name}: {probe.workload.name}"
            results.missing.append(_missing(probe.subject, benchmark, exc))
        else:
            ready.append(probe)
    for probe in order.sample(ready, len(ready)):
        results.samples.append(await probe.sample())


def _missing(subject: Subject, benchmark: str, exc: Exception) -> Missing:
    reason = f"{type(exc).__name__}: {exc}"
    return Missing(subject=subject.name, benchmark=benchmark, reason=reason)


class _Probe:
    """Measures one subject in one workload."""

    def __init__(
        self,
        subject: Subject,
        workload: Workload,
        operations: Mapping[str, Operation],
        round_number: int,
    ) -> None:
        self.subject: Final = subject
        self.workload: Final = workload
        self._operation = operations[workload.verb]
        self._before = operations[workload.before] if workload.before is not None else None
        self._calls = workload.callers
        self._next_number = (round_number + 1) * NUMBERS_PER_ROUND

    async def calibrate(self, sample_seconds: float) -> None:
        """Find the number of calls that fill a sample; this warms up caches as well."""
        if self._before is not None:
            self._calls = 1
            return
        self._calls = max(self.workload.callers, FIRST_CALLS)
        while (elapsed := await self._run()) < sample_seconds / 2:
            self._calls *= 2
        callers = self.workload.callers
        calls_per_caller = round(self._calls * sample_seconds / elapsed / callers)
        self._calls = max(calls_per_caller, 1) * callers

    async def sample(self) -> Sample:
        seconds = await self._run() / self._calls / self.workload.per_call
        return Sample(workload=self.workload.name, subject=self.subject.name, seconds=seconds)

    async def _run(self) -> float:
        if self._before is not None:
            await _seconds(self.subject, self._before, 1, 1, 0)
        first, self._next_number = self._next_number, self._next_number + self._calls
        callers = min(self.workload.callers, self._calls)
        return await _seconds(self.subject, self._operation, self._calls, callers, first)


async def _seconds(
    subject: Subject, operation: Operation, calls: int, callers: int, first: int
) -> float:
    """Time the calls; a synchronous subject has one caller."""
    await asyncio.sleep(0)  # callbacks that the previous subject left must not run in this sample
    if not subject.is_async:
        started = perf_counter()
        for number in range(first, first + calls):
            operation(number)
        return perf_counter() - started
    shares = [range(first + caller, first + calls, callers) for caller in range(callers)]
    started = perf_counter()
    if callers == 1:
        await _call(operation, shares[0])
    else:
        await asyncio.gather(*(_call(operation, share) for share in shares))
    return perf_counter() - started


async def _call(operation: Operation, numbers: range) -> None:
    for number in numbers:
        await operation(number)
