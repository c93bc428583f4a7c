"""Every benchmark runs at the smallest size. No test depends on how long anything takes."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple
from xml.etree import ElementTree

import msgspec
import pytest

from bench import imports, layers
from bench.result import Missing, Report
from bench.size import SMOKE
from bench.subjects import BY_NAME
from bench.suite import BENCHMARKS
from bench.workload import BULK, GROWTH, WORKLOAD_GROUPS, WorkloadGroup

ROOT = Path(__file__).parents[2]
GOSCOPE = {name for name in BY_NAME if name.startswith("goscope")}
PEERS = ("aiocache", "cashews", "purgatory")

WORKLOADS = [*(group.name for group in WORKLOAD_GROUPS), "layers"]
PROCESSES = ["contention", "waiting", "busy loop", "footprint", "steady state", "import"]
MANY_ROWS = [GROWTH.name, BULK.name, "event loop"]
"""Three runs, because one run of all benchmarks is too long for a timeout on a busy machine."""

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


def run(folder: Path, benchmarks: list[str]) -> Run:
    databases = folder / "databases"
    databases.mkdir()
    only = [argument for name in benchmarks for argument in ("--only", name)]
    output = folder / "output"
    bench("--size", "smoke", "--output", output, "--folder", databases, *only)
    assert list(databases.iterdir()) == []
    samples = (output / "results.json").read_bytes()
    return Run(msgspec.json.decode(samples, type=Report), output)


@pytest.fixture(scope="module")
def workloads(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(tmp_path_factory.mktemp("workloads"), WORKLOADS)


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(tmp_path_factory.mktemp("processes"), PROCESSES)


@pytest.fixture(scope="module")
def many_rows(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(tmp_path_factory.mktemp("many-rows"), MANY_ROWS)


def check_samples(report: Report, groups: list[WorkloadGroup]) -> None:
    """Check that the baseline and goscope's backends have a sample per round and workload."""
    measured = {(each.workload, each.subject): each for each in report.measurements}
    for group in groups:
        for workload in group.workloads:
            baseline = measured[workload.name, workload.baseline]
            assert len(baseline.seconds) == SMOKE.rounds
            for subject in GOSCOPE & {kind.name for kind in group.subjects}:
                each = measured[workload.name, subject]
                assert len(each.seconds) == SMOKE.rounds
                assert min(each.seconds) > 0
                assert (workload.name, each.baseline) in measured


def check_missing(missing: list[Missing]) -> None:
    """Check that only peers that are not installed are missing."""
    assert [each for each in missing if each.subject in GOSCOPE] == []
    if all(find_spec(peer) for peer in PEERS):
        assert missing == []
    for each in missing:
        assert "not installed" in each.reason or "No module named" in each.reason


def test_the_smoke_runs_cover_every_benchmark() -> None:
    assert sorted([*WORKLOADS, *PROCESSES, *MANY_ROWS]) == sorted(BENCHMARKS)


def test_only_peers_that_are_not_installed_are_missing(workloads: Run) -> None:
    check_missing(workloads.report.missing)


def test_every_workload_has_a_sample_per_round(workloads: Run) -> None:
    check_samples(workloads.report, WORKLOAD_GROUPS)


def test_every_layer_is_compared_with_the_first(workloads: Run) -> None:
    for workload in layers.WORKLOADS:
        found = [each for each in workloads.report.measurements if each.workload == workload]
        assert len(found) >= 5
        assert {each.baseline for each in found} == {found[0].subject}


def test_the_report_names_every_workload_and_configuration(workloads: Run) -> None:
    page = (workloads.folder / "results.md").read_text()
    for group in WORKLOAD_GROUPS:
        for workload in group.workloads:
            assert f"### {workload.name}\n" in page
    for kind in BY_NAME.values():
        assert kind.about in page


def test_the_plot_is_valid_svg(workloads: Run) -> None:
    root = ElementTree.fromstring((workloads.folder / "workloads.svg").read_text())
    assert root.tag == "{http://www.w3.org/2000/svg}svg"


def test_render_reproduces_the_report(workloads: Run) -> None:
    page = workloads.folder / "results.md"
    before = page.read_text()
    page.unlink()
    bench("--render", "--output", workloads.folder)
    assert page.read_text() == before


def test_only_modules_that_are_not_installed_are_missing(processes: Run) -> None:
    check_missing(processes.report.missing)


def test_contention_and_imports_are_measured(processes: Run) -> None:
    report = processes.report
    assert {each.subject for each in report.contention} >= GOSCOPE - {"goscope memory"}
    measured = {(each.workload, each.subject) for each in report.measurements}
    assert (imports.WORKLOAD, "goscope") in measured


def test_waiting_is_measured_for_both_file_backends(processes: Run) -> None:
    waiting = processes.report.waiting
    assert {each.subject for each in waiting} == GOSCOPE - {"goscope memory"}
    assert all(each.blocked.polls > 0 for each in waiting)


def test_the_busy_loop_is_measured_for_every_slice(processes: Run) -> None:
    assert {each.slice_ms for each in processes.report.busy_loop} == {0.1, 1.0, 4.0, 10.0}


def test_steady_state_and_footprints_are_measured(processes: Run) -> None:
    report = processes.report
    assert {each.subject for each in report.steady_state} == GOSCOPE
    assert all(each.samples for each in report.steady_state)
    assert {each.subject for each in report.footprints} >= GOSCOPE


def test_long_calls_have_a_sample_per_round(many_rows: Run) -> None:
    assert many_rows.report.missing == []
    check_samples(many_rows.report, [BULK])
    page = (many_rows.folder / "results.md").read_text()
    assert all(f"### {workload.name}\n" in page for workload in BULK.workloads)


def test_growth_is_measured_for_every_number_of_rows(many_rows: Run) -> None:
    found = {(each.workload, each.subject, each.rows) for each in many_rows.report.growth}
    for workload in GROWTH.workloads:
        for kind in GROWTH.subjects:
            for rows in SMOKE.growth:
                assert (workload.name, kind.name, rows) in found


def test_loop_lag_is_measured_in_every_situation(many_rows: Run) -> None:
    lags = many_rows.report.loop_lag
    situations = {lag.situation for lag in lags if lag.subject == "goscope sqlite"}
    assert {"get", "set", "mix", "get, cold cache", "get, during a sweep"} <= situations
    assert "mix, another process holds the write lock" in situations
    assert "mix, warm" in situations
