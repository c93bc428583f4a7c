"""Runs workload groups, each round in a separate process.

Differences between processes, such as their memory layout, change some ratios more than all samples
within one process show. Quartiles over processes include them.
"""

from __future__ import annotations

import asyncio
import shutil
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from .process import run_isolated
from .progress import log_progress
from .result import Measurement, Missing
from .round import Round, run_round
from .size import Size
from .workload import WorkloadGroup


class Job(NamedTuple):
    """A group to measure on the stores in ``folder``, or on new stores if that is None."""

    group: WorkloadGroup
    keys: int
    folder: Path | None = None
    rows: int = 0


class Runner:
    """Measures workload groups on stores below ``folder``."""

    def __init__(self, folder: Path, size: Size) -> None:
        self.folder: Final = folder
        self.size: Final = size
        self.missing: Final[list[Missing]] = []

    def run(self, jobs: Sequence[Job]) -> list[Measurement]:
        """Measure the groups round by round, so that the rounds of each spread over the run."""
        finished: list[list[Round]] = [[] for _ in jobs]
        for number in range(self.size.rounds):
            for job, rounds in zip(jobs, finished, strict=True):
                if number < (job.group.max_rounds or self.size.rounds):
                    log_progress(_title(job, number))
                    rounds.append(self._run_round(job, number))
                    self._record_missing(rounds[-1])
        for job in jobs:
            if job.folder is None:
                shutil.rmtree(self._folder_of(job))
        return [
            measurement
            for job, rounds in zip(jobs, finished, strict=True)
            for measurement in collect(job.group, rounds, job.rows)
        ]

    def _run_round(self, job: Job, number: int) -> Round:
        folder = self._folder_of(job)
        seconds = self.size.sample_seconds
        return run_isolated(_run_round, job.group, folder, job.keys, seconds, number)

    def _folder_of(self, job: Job) -> Path:
        return job.folder or self.folder / job.group.name.replace(" ", "-")

    def _record_missing(self, finished: Round) -> None:
        known = {(each.subject, each.benchmark) for each in self.missing}
        for missing in finished.missing:
            if (missing.subject, missing.benchmark) not in known:
                known.add((missing.subject, missing.benchmark))
                self.missing.append(missing)
                log_progress(
                    f"  {missing.subject} is not measured in {missing.benchmark}: {missing.reason}"
                )


def collect(group: WorkloadGroup, rounds: Sequence[Round], rows: int) -> list[Measurement]:
    """Combine the samples of the rounds; leave out subjects that missed a round."""
    seconds: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for sample in (each for one in rounds for each in one.samples):
        seconds[sample.workload, sample.subject].append(sample.seconds)
    return [
        Measurement(
            workload=workload.name,
            subject=kind.name,
            baseline=workload.baseline_of(kind.name),
            seconds=seconds[workload.name, kind.name],
            rows=rows,
        )
        for workload in group.workloads
        for kind in group.subjects
        if len(seconds[workload.name, kind.name]) == len(rounds)
    ]


def _title(job: Job, number: int) -> str:
    rows = f", {job.rows} rows" if job.rows else ""
    return f"round {number + 1}: {job.group.name}{rows}"


def _run_round(
    group: WorkloadGroup, folder: Path, keys: int, sample_seconds: float, number: int
) -> Round:
    return asyncio.run(
        run_round(group, folder, keys=keys, sample_seconds=sample_seconds, number=number)
    )
