"""The published report has the wording of the generator, although its samples are not published."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest

from bench import imports, layers
from bench.comparison import other_run
from bench.machine import describe
from bench.report import render
from bench.result import (
    BusyLoop,
    Contention,
    Footprint,
    LoopLag,
    Measurement,
    Report,
    SteadyState,
)
from bench.size import FULL
from bench.subjects import BY_NAME
from bench.wait_result import BlockedWait, Competition, Handoff, ServerWaiting, Waiting
from bench.workload import GROWTH, SERVER_GROUPS, WORKLOADS

PUBLISHED = Path(__file__).parents[2] / "docs" / "performance" / "results.md"

ON_SERVERS = {workload.name for group in SERVER_GROUPS for workload in group.workloads}
"""Workloads that need not be published."""


def measurement(workload: str, subject: str, baseline: str, rows: int = 0) -> Measurement:
    return Measurement(
        workload=workload, subject=subject, baseline=baseline, seconds=[1.0], rows=rows
    )


@pytest.fixture
def page() -> str:
    """A report that has every section, rendered from one sample of everything."""
    name = "goscope sqlite"
    waits = {"p50_ms": 1.0, "p99_ms": 1.0, "max_ms": 1.0}
    latencies = {"call_p50_ms": 1.0, "call_p99_ms": 1.0}
    report = Report(
        size="full",
        seconds=1,
        machine=describe(),
        configuration={kind.name: kind.about for kind in BY_NAME.values()},
        measurements=[
            measurement(workload.name, subject, workload.baseline)
            for workload in WORKLOADS
            for subject in (workload.baseline, name)
        ],
        contention=[Contention(subject=name, seconds_per_grant=[1.0], minimum_shares=[1.0])],
        growth=[
            measurement(workload.name, subject, workload.baseline, rows)
            for workload in GROWTH.workloads
            for subject in (workload.baseline, name)
            for rows in FULL.growth
        ],
        loop_lag=[
            LoopLag(
                situation="get",
                subject=name,
                p999_ms=1,
                ticks=1,
                calls=1,
                **waits,
                **latencies,
            )
        ],
        busy_loop=[BusyLoop(slice_ms=1, verb="get", subject=name, p50_ms=1, p99_ms=1, calls=1)],
        footprints=[Footprint(subject=name, entries=1, memory_bytes=1, file_bytes=1)],
        steady_state=[SteadyState(subject=name, samples=[(1, 1)] * 3)],
        waiting=[
            Waiting(
                subject=name,
                competition=Competition(grants=[1], **waits),
                blocked=BlockedWait(seconds=1, cpu_seconds=1, polls=1),
                handoff=Handoff(count=1, **waits),
            )
        ],
        server_waiting=[
            ServerWaiting(
                subject=name,
                competition=Competition(grants=[1], **waits),
                handoff=Handoff(count=1, **waits),
            )
        ],
    )
    report.other_run = other_run(report)
    return render(report)


def sections(page: str) -> dict[str, list[str]]:
    """Return the prose and the table heads of each section; numbers of the run become ``#``."""
    found: dict[str, list[str]] = {}
    for section in page.split("\n## ")[1:]:
        title, _, rest = section.partition("\n")
        lines = rest.splitlines()
        heads = {above for above, line in pairwise(lines) if "| --- |" in line}
        prose = {line for line in lines if line and not line.startswith(("|", "#"))}
        found[title] = sorted(re.sub(r"\d[\d:-]*", "#", line) for line in heads | prose)
    return found


def test_prose_and_table_heads_are_those_of_the_generator(page: str) -> None:
    assert sections(PUBLISHED.read_text()) == sections(page)


def test_configurations_are_those_of_the_subjects() -> None:
    table = PUBLISHED.read_text().partition("\n## Configuration\n")[2]
    rows = dict(re.findall(r"^\| (.+?) \| (.+) \|$", table, re.MULTILINE))
    on_servers = {kind.name for group in SERVER_GROUPS for kind in group.subjects}
    wanted = {name: kind.about for name, kind in BY_NAME.items() if name not in on_servers}
    assert {name: about for name, about in rows.items() if name in wanted} == wanted


def test_every_workload_is_published() -> None:
    published = re.findall(r"^### (.+)$", PUBLISHED.read_text(), re.MULTILINE)
    names = [*(workload.name for workload in WORKLOADS), *layers.WORKLOADS, imports.WORKLOAD]
    assert [name for name in published if name not in ON_SERVERS] == names
