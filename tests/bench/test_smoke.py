"""Every benchmark runs at the smallest size. No test depends on how long anything takes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache
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
from bench.workload import BULK, GROWTH, WORKLOAD_GROUPS, WorkloadGroup

ROOT = Path(__file__).parents[2]
GOSCOPE = {name for name in BY_NAME if name.startswith("goscope")}
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


@pytest.fixture(scope="module")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """Returns the run that includes a benchmark; each run happens once."""

    @cache
    def cached(benchmarks: Sequence[str]) -> Run:
        return run(tmp_path_factory.mktemp("bench"), benchmarks)

    def run_of(benchmark: str) -> Run:
        return cached(next(names for names in RUNS if benchmark in names))

    return run_of


def check_samples(report: Report, group: WorkloadGroup) -> None:
    """Check that the baseline and goscope's backends have a sample per round and workload."""
    measured = {(each.workload, each.subject): each for each in report.measurements}
    for workload in group.workloads:
        baseline = measured[workload.name, workload.baseline]
        assert len(baseline.seconds) == SMOKE.rounds
        for subject in GOSCOPE & {kind.name for kind in group.subjects}:
            each = measured[workload.name, subject]
            assert len(each.seconds) == SMOKE.rounds
            assert min(each.seconds) > 0
            assert (workload.name, each.baseline) in measured


def test_the_runs_cover_every_benchmark() -> None:
    assert sorted(name for names in RUNS for name in names) == sorted(BENCHMARKS)


@pytest.mark.parametrize("benchmark", [names[0] for names in RUNS])
def test_only_peers_that_are_not_installed_are_missing(
    run_of: Callable[[str], Run], benchmark: str
) -> None:
    missing = run_of(benchmark).report.missing
    assert [each for each in missing if each.subject in GOSCOPE] == []
    if all(find_spec(peer) for peer in PEERS):
        assert missing == []
    for each in missing:
        assert "not installed" in each.reason or "No module named" in each.reason


@pytest.mark.parametrize("group", [*WORKLOAD_GROUPS, BULK], ids=lambda group: group.name)
def test_every_workload_has_a_sample_per_round(
    run_of: Callable[[str], Run], group: WorkloadGroup
) -> None:
    check_samples(run_of(group.name).report, group)


@pytest.mark.parametrize("group", [*WORKLOAD_GROUPS, BULK], ids=lambda group: group.name)
def test_the_report_names_every_workload_and_configuration(
    run_of: Callable[[str], Run], group: WorkloadGroup
) -> None:
    page = (run_of(group.name).folder / "results.md").read_text()
    for workload in group.workloads:
        assert f"### {workload.name}\n" in page
    for kind in BY_NAME.values():
        assert kind.about in page


def test_every_layer_is_compared_with_the_first(run_of: Callable[[str], Run]) -> None:
    report = run_of("layers").report
    for workload in layers.WORKLOADS:
        found = [each for each in report.measurements if each.workload == workload]
        assert len(found) >= 5
        assert {each.baseline for each in found} == {found[0].subject}


def test_the_plot_is_valid_svg(run_of: Callable[[str], Run]) -> None:
    root = ElementTree.fromstring((run_of("cache").folder / "workloads.svg").read_text())
    assert root.tag == "{http://www.w3.org/2000/svg}svg"


def test_render_reproduces_the_report(run_of: Callable[[str], Run]) -> None:
    folder = run_of("cache").folder
    page = folder / "results.md"
    before = page.read_text()
    page.unlink()
    bench("--render", "--output", folder)
    assert page.read_text() == before


def test_contention_is_measured_for_both_file_backends(run_of: Callable[[str], Run]) -> None:
    report = run_of("contention").report
    assert {each.subject for each in report.contention} >= GOSCOPE - {"goscope memory"}


def test_import_time_is_measured(run_of: Callable[[str], Run]) -> None:
    report = run_of("import").report
    measured = {(each.workload, each.subject) for each in report.measurements}
    assert (imports.WORKLOAD, "goscope") in measured


def test_waiting_is_measured_for_both_file_backends(run_of: Callable[[str], Run]) -> None:
    waiting = run_of("waiting").report.waiting
    assert {each.subject for each in waiting} == GOSCOPE - {"goscope memory"}


def test_the_busy_loop_is_measured_for_every_slice(run_of: Callable[[str], Run]) -> None:
    found = run_of("busy loop").report.busy_loop
    assert {each.slice_ms for each in found} == {0.1, 1.0, 4.0, 10.0}


def test_the_steady_state_is_measured_for_every_backend(run_of: Callable[[str], Run]) -> None:
    found = run_of("steady state").report.steady_state
    assert {each.subject for each in found} == GOSCOPE
    assert all(each.samples for each in found)


def test_the_footprint_is_measured_for_every_backend(run_of: Callable[[str], Run]) -> None:
    assert {each.subject for each in run_of("footprint").report.footprints} >= GOSCOPE


def test_growth_is_measured_for_every_number_of_rows(run_of: Callable[[str], Run]) -> None:
    growth = run_of(GROWTH.name).report.growth
    found = {(each.workload, each.subject, each.rows) for each in growth}
    for workload in GROWTH.workloads:
        for kind in GROWTH.subjects:
            for rows in SMOKE.growth:
                assert (workload.name, kind.name, rows) in found


def test_loop_lag_is_measured_in_every_situation(run_of: Callable[[str], Run]) -> None:
    lags = run_of("event loop").report.loop_lag
    situations = {lag.situation for lag in lags if lag.subject == "goscope sqlite"}
    assert {"get", "set", "mix", "get, cold cache", "get, during a sweep"} <= situations
    assert "mix, another process holds the write lock" in situations
    assert "mix, warm" in situations
