"""Every benchmark runs at the smallest size. No test depends on how long anything takes.

`make smoke` runs it, since it takes a quarter of the time of all other tests.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple
from xml.etree import ElementTree

import msgspec
import pytest

from bench import imports, layers
from bench.result import Report
from bench.size import SMOKE
from bench.subjects import BY_NAME
from bench.suite import BENCHMARKS
from bench.workload import BULK, GROWTH, SERVER_GROUPS, WORKLOAD_GROUPS, WorkloadGroup

ROOT = Path(__file__).parents[2]
GOSCOPE = {name for name in BY_NAME if name.startswith("goscope")}
LOCAL = GOSCOPE - {kind.name for group in SERVER_GROUPS for kind in group.subjects}
"""The backends that need no server."""
GROUPS = (*WORKLOAD_GROUPS, *SERVER_GROUPS, BULK)
PEERS = ("aiocache", "cashews", "purgatory")

RUNS = (
    ("cache", "circuit breaker", "checkpoint"),
    ("idempotency", "lock in memory", "lock in memory, others held", "shared lock", "layers"),
    ("contention", "busy loop"),
    ("waiting",),
    ("footprint", "steady state"),
    ("import",),
    (GROWTH.name, BULK.name),
    ("event loop",),
    ("mysql",),
    ("postgres",),
    ("redis", "redis lock"),
)
"""Several runs, because one run of all benchmarks exceeds any timeout on an overloaded machine."""

TIMEOUT_S: Final = 110
"""Less than pytest's own timeout, which would end the whole test run."""


class Run(NamedTuple):
    """A run, and the folder of its output."""

    report: Report
    folder: Path


def bench(*arguments: object) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-m", "bench", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def run(folder: Path, benchmarks: Sequence[str]) -> Run:
    databases = folder / "databases"
    databases.mkdir()
    only = [argument for name in benchmarks for argument in ("--only", name)]
    output = folder / "output"
    bench("--size", "smoke", "--output", output, "--folder", databases, *only)
    assert list(databases.iterdir()) == []
    samples = (output / "results.json").read_bytes()
    return Run(msgspec.json.decode(samples, type=Report), output)


def check_samples(report: Report, group: WorkloadGroup) -> None:
    """The baseline and goscope's backends have a sample per round and workload."""
    measured = {(each.workload, each.subject): each for each in report.measurements}
    for workload in group.workloads:
        baseline = measured[workload.name, workload.baseline]
        assert len(baseline.seconds) == SMOKE.rounds
        for subject in GOSCOPE & {kind.name for kind in group.subjects}:
            each = measured[workload.name, subject]
            assert len(each.seconds) == SMOKE.rounds
            assert min(each.seconds) > 0
            assert (workload.name, each.baseline) in measured


def check_missing(report: Report) -> None:
    """Only peers that are not installed are missing."""
    assert [each for each in report.missing if each.subject in GOSCOPE] == []
    if all(find_spec(peer) for peer in PEERS):
        assert report.missing == []
    for each in report.missing:
        assert "not installed" in each.reason or "No module named" in each.reason


def check_layers(report: Report) -> None:
    """Every layer is compared with the first."""
    for workload in layers.WORKLOADS:
        found = [each for each in report.measurements if each.workload == workload]
        assert len(found) >= 4
        assert {each.baseline for each in found} == {found[0].subject}


def check_contention(report: Report) -> None:
    assert {each.subject for each in report.contention} >= LOCAL - {"goscope memory"}


def check_import(report: Report) -> None:
    measured = {(each.workload, each.subject) for each in report.measurements}
    assert (imports.WORKLOAD, "goscope") in measured


def check_waiting(report: Report) -> None:
    assert {each.subject for each in report.waiting} == LOCAL - {"goscope memory"}
    assert {each.subject for each in report.server_waiting} == GOSCOPE - LOCAL


def check_busy_loop(report: Report) -> None:
    assert {each.slice_ms for each in report.busy_loop} == {0.1, 1.0, 4.0, 10.0}


def check_steady_state(report: Report) -> None:
    assert {each.subject for each in report.steady_state} == LOCAL
    assert all(each.samples for each in report.steady_state)


def check_footprint(report: Report) -> None:
    assert {each.subject for each in report.footprints} >= LOCAL


def check_growth(report: Report) -> None:
    """Every workload is measured with every number of rows."""
    found = {(each.workload, each.subject, each.rows) for each in report.growth}
    for workload in GROWTH.workloads:
        for kind in GROWTH.subjects:
            for rows in SMOKE.growth:
                assert (workload.name, kind.name, rows) in found


def check_event_loop(report: Report) -> None:
    """The delay of the loop is measured in every situation."""
    situations = {lag.situation for lag in report.loop_lag if lag.subject == "goscope sqlite"}
    assert {"get", "set", "mix", "get, cold cache", "get, during a sweep"} <= situations
    assert "mix, another process holds the write lock" in situations
    assert "mix, warm" in situations


CHECKS: Final[dict[str, Callable[[Report], None]]] = {
    "layers": check_layers,
    "contention": check_contention,
    "import": check_import,
    "waiting": check_waiting,
    "busy loop": check_busy_loop,
    "steady state": check_steady_state,
    "footprint": check_footprint,
    GROWTH.name: check_growth,
    "event loop": check_event_loop,
    **{group.name: partial(check_samples, group=group) for group in GROUPS},
}
"""What a report has of each benchmark."""


def test_the_runs_cover_every_benchmark() -> None:
    assert sorted(name for names in RUNS for name in names) == sorted(BENCHMARKS)


@pytest.mark.parametrize("benchmarks", RUNS, ids=", ".join)
def test_a_run_measures_what_it_names(
    request: pytest.FixtureRequest, tmp_path: Path, benchmarks: Sequence[str]
) -> None:
    """One test a run, since each worker that runs tests in parallel would repeat the run."""
    server = benchmarks[0].partition(" ")[0]
    if server in ("mysql", "postgres", "redis"):
        request.getfixturevalue(f"{server}_url")  # skips the test without a server
    report, folder = run(tmp_path, benchmarks)
    check_missing(report)
    for name in benchmarks:
        CHECKS[name](report)
    page = (folder / "results.md").read_text()
    named = [
        workload.name
        for group in GROUPS
        if group.name in benchmarks
        for workload in group.workloads
    ]
    for heading in named:
        assert f"### {heading}\n" in page
    for kind in BY_NAME.values():
        assert kind.about in page


def test_a_report_is_rendered_again_from_its_samples(tmp_path: Path) -> None:
    _, folder = run(tmp_path, ["import"])
    assert (
        ElementTree.fromstring((folder / "workloads.svg").read_text()).tag
        == "{http://www.w3.org/2000/svg}svg"
    )
    page = folder / "results.md"
    before = page.read_text()
    page.unlink()
    bench("--render", "--output", folder)
    assert page.read_text() == before
