"""Every benchmark runs, at its smallest size. How long anything took is not looked at."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest

from bench import imports, layers
from bench.contenders import BY_NAME
from bench.result import Report
from bench.size import SMOKE
from bench.workload import BULK, FAMILIES, GROWTH

ROOT = Path(__file__).parents[2]
OURS = {name for name in BY_NAME if name.startswith("goscope")}
WORKLOADS = [(family, workload) for family in [*FAMILIES, BULK] for workload in family.workloads]


def bench(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-m", "bench", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the results of one run."""
    base = tmp_path_factory.mktemp("bench")
    databases = base / "databases"
    databases.mkdir()
    output = base / "output"
    done = bench("--size", "smoke", "--output", output, "--folder", databases)
    assert done.returncode == 0, done.stderr
    assert list(databases.iterdir()) == []
    return output


@pytest.fixture(scope="module")
def report(output: Path) -> Report:
    return msgspec.json.decode((output / "results.json").read_bytes(), type=Report)


def test_only_peers_that_are_not_installed_are_missing(report: Report) -> None:
    assert [missing for missing in report.missing if missing.contender in OURS] == []
    if find_spec("cashews") and find_spec("aiocache") and find_spec("purgatory"):
        assert report.missing == []
    for missing in report.missing:
        assert "not installed" in missing.reason or "No module named" in missing.reason


def test_every_workload_is_measured_in_every_round(report: Report) -> None:
    measured = {(each.workload, each.contender): each for each in report.measured}
    for family, workload in WORKLOADS:
        limit = measured[workload.name, workload.limit]
        assert len(limit.seconds) == SMOKE.rounds
        ours = OURS & {kind.name for kind in family.contenders}
        for contender in ours:
            each = measured[workload.name, contender]
            assert len(each.seconds) == SMOKE.rounds
            assert min(each.seconds) > 0
            assert (workload.name, each.limit) in measured


def test_processes_and_imports_are_measured(report: Report) -> None:
    measured = {(each.workload, each.contender) for each in report.measured}
    assert {each.contender for each in report.contests} >= OURS - {"goscope memory"}
    assert (imports.WORKLOAD, "goscope") in measured


def test_calls_are_measured_layer_by_layer(report: Report) -> None:
    for workload in layers.WORKLOADS:
        found = [each for each in report.measured if each.workload == workload]
        assert len(found) >= 5
        assert {each.limit for each in found} == {found[0].contender}


def test_growth_is_measured_at_every_number_of_rows(report: Report) -> None:
    found = {(each.workload, each.contender, each.rows) for each in report.growth}
    for workload in GROWTH.workloads:
        for kind in GROWTH.contenders:
            for rows in SMOKE.growth:
                assert (workload.name, kind.name, rows) in found


def test_the_loop_is_watched(report: Report) -> None:
    situations = {late.situation for late in report.lateness if late.contender == "goscope sqlite"}
    assert {"get", "set", "mix", "get, pages on disk", "get, the sweeper at work"} <= situations
    assert "mix, another process holds the write lock" in situations
    assert "mix, warm" in situations
    assert {busy.slice_ms for busy in report.busy} == {0.1, 1.0, 4.0, 10.0}


def test_what_is_left_behind_is_measured(report: Report) -> None:
    assert {each.contender for each in report.steady} == OURS
    assert all(each.samples for each in report.steady)
    assert {each.contender for each in report.footprints} >= OURS


def test_the_page_names_every_workload(output: Path) -> None:
    page = (output / "results.md").read_text()
    for _, workload in WORKLOADS:
        assert f"### {workload.name}\n" in page
    for kind in BY_NAME.values():
        assert kind.about in page


def test_the_plot_is_svg(output: Path) -> None:
    root = ElementTree.fromstring((output / "workloads.svg").read_text())
    assert root.tag == "{http://www.w3.org/2000/svg}svg"


def test_the_pages_can_be_written_again(output: Path) -> None:
    page = output / "results.md"
    before = page.read_text()
    page.unlink()
    done = bench("--render", "--output", output)
    assert done.returncode == 0, done.stderr
    assert page.read_text() == before
