"""Runs families of workloads, each round in a process of its own.

What differs between processes, the layout of their memory for one, changes some ratios by more than
a whole round of samples in the same process tells: only so do quartiles show what a run is worth.
"""

from __future__ import annotations

import asyncio
import shutil
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from .process import isolated
from .progress import say
from .result import Measured, Missing
from .round import Round, play
from .size import Size
from .workload import Family


class Job(NamedTuple):
    """A family to measure, on new stores or on those that are in ``folder``."""

    family: Family
    keys: int
    folder: Path | None = None
    rows: int = 0


class Runner:
    """Measures families of workloads on stores below ``folder``."""

    def __init__(self, folder: Path, size: Size) -> None:
        self.folder: Final = folder
        self.size: Final = size
        self.missing: Final[list[Missing]] = []

    def run(self, jobs: Sequence[Job]) -> list[Measured]:
        """Measure the families, round by round, so that each sees all of the time this takes."""
        played: list[list[Round]] = [[] for _ in jobs]
        for number in range(self.size.rounds):
            for job, rounds in zip(jobs, played, strict=True):
                if number < (job.family.most_rounds or self.size.rounds):
                    say(_title(job, number))
                    rounds.append(self._play(job, number))
                    self._note_missing(rounds[-1])
        for job in jobs:
            if job.folder is None:
                shutil.rmtree(self._where(job))
        return [
            measured
            for job, rounds in zip(jobs, played, strict=True)
            for measured in collect(job.family, rounds, job.rows)
        ]

    def _play(self, job: Job, number: int) -> Round:
        seconds = self.size.sample_seconds
        return isolated(_play, job.family, self._where(job), job.keys, seconds, number)

    def _where(self, job: Job) -> Path:
        return job.folder or self.folder / job.family.name.replace(" ", "-")

    def _note_missing(self, played: Round) -> None:
        known = {(each.contender, each.part) for each in self.missing}
        for missing in played.missing:
            if (missing.contender, missing.part) not in known:
                known.add((missing.contender, missing.part))
                say(f"  {missing.contender} takes no part in {missing.part}: {missing.reason}")
                self.missing.append(missing)


def collect(family: Family, played: Sequence[Round], rows: int) -> list[Measured]:
    """Put the samples of the rounds together, of those who were there in all of them."""
    seconds: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for sample in (each for one in played for each in one.samples):
        seconds[sample.workload, sample.contender].append(sample.seconds)
    return [
        Measured(
            workload=workload.name,
            contender=kind.name,
            limit=workload.limit_of(kind.name),
            seconds=seconds[workload.name, kind.name],
            rows=rows,
        )
        for workload in family.workloads
        for kind in family.contenders
        if len(seconds[workload.name, kind.name]) == len(played)
    ]


def _title(job: Job, number: int) -> str:
    rows = f", {job.rows} rows" if job.rows else ""
    return f"round {number + 1}: {job.family.name}{rows}"


def _play(family: Family, folder: Path, keys: int, sample_seconds: float, number: int) -> Round:
    return asyncio.run(
        play(family, folder, keys=keys, sample_seconds=sample_seconds, number=number)
    )
