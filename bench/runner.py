"""Runs families of workloads, each round in a process of its own.

What differs between processes, the layout of their memory for one, changes some ratios by more than
a whole round of samples in the same process tells: only so do quartiles show what a run is worth.
"""

from __future__ import annotations

import asyncio
import shutil
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from .process import isolated
from .progress import say
from .result import Measured, Missing
from .round import Round, play
from .size import Size
from .workload import Family


class Runner:
    """Measures families of workloads on stores below ``folder``."""

    def __init__(self, folder: Path, size: Size) -> None:
        self.folder: Final = folder
        self.size: Final = size
        self.missing: Final[list[Missing]] = []

    def run(
        self, family: Family, *, keys: int, folder: Path | None = None, rows: int = 0
    ) -> list[Measured]:
        """Measure the family; stores are new, or those that are in ``folder``."""
        where = folder or self.folder / family.name.replace(" ", "-")
        say(f"{family.name}{f', {rows} rows' if rows else ''}")
        rounds = min(self.size.rounds, family.most_rounds or self.size.rounds)
        played = [
            isolated(_play, family, where, keys, self.size.sample_seconds, number)
            for number in range(rounds)
        ]
        if folder is None:
            shutil.rmtree(where)
        self._note_missing(played)
        return collect(family, played, rows)

    def _note_missing(self, played: Iterable[Round]) -> None:
        known = {(each.contender, each.part) for each in self.missing}
        for missing in (each for one in played for each in one.missing):
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


def _play(family: Family, folder: Path, keys: int, sample_seconds: float, number: int) -> Round:
    return asyncio.run(
        play(family, folder, keys=keys, sample_seconds=sample_seconds, number=number)
    )
