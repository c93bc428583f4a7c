"""The command line writes samples to its output folder, and publishes a report only on request."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from bench import __main__ as command_line
from bench.result import Machine, Measurement, Report

REPORT_FILES = ["results.md", "workloads.svg"]


def report(date: str, *seconds: float) -> Report:
    """A run that measured one workload; the baseline took one second in each round."""
    machine = Machine(
        date=date,
        system="Linux",
        processor="some",
        cores=2,
        memory_gib=1,
        load_before=0,
        versions={},
    )
    measured = [
        Measurement(workload="set, 1 caller", subject=name, baseline="sqlite3", seconds=list(each))
        for name, each in (
            ("sqlite3", [1.0] * len(seconds)),
            ("goscope sqlite-bun", seconds),
        )
    ]
    return Report(size="smoke", seconds=1, machine=machine, configuration={}, measurements=measured)


def save(folder: Path, run: Report) -> Path:
    folder.mkdir()
    path = folder / "results.json"
    path.write_bytes(msgspec.json.encode(run))
    return path


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_render_writes_the_report_of_saved_samples(tmp_path: Path) -> None:
    output = save(tmp_path / "output", report("2026-01-02", 1.0, 2.0, 3.0)).parent
    assert command_line.main(["--render", "--output", str(output)], tmp_path / "docs") == 0
    assert files(output) == ["results.json", *REPORT_FILES]
    assert "2.00 (1.50 to 2.50)" in (output / "results.md").read_text()


def test_the_report_is_not_published_by_default(tmp_path: Path) -> None:
    output = save(tmp_path / "output", report("2026-01-02", 1.0)).parent
    command_line.main(["--render", "--output", str(output)], tmp_path / "docs")
    assert not (tmp_path / "docs").exists()


def test_publish_writes_the_report_without_the_samples(tmp_path: Path) -> None:
    output = save(tmp_path / "output", report("2026-01-02", 1.0)).parent
    published = tmp_path / "docs"
    command_line.main(["--render", "--publish", "--output", str(output)], published)
    assert files(published) == REPORT_FILES
    for name in REPORT_FILES:
        assert (published / name).read_text() == (output / name).read_text()


def test_against_compares_with_another_run(tmp_path: Path) -> None:
    output = save(tmp_path / "output", report("2026-01-02", 1.0, 2.0, 3.0)).parent
    other = save(tmp_path / "other", report("2026-01-01", 9.0, 9.0, 9.0))
    command_line.main(["--render", "--against", str(other), "--output", str(output)])
    page = (output / "results.md").read_text()
    assert "0 of 1 ratios agree with the run of 2026-01-01" in page


def test_the_comparison_is_kept_with_the_samples(tmp_path: Path) -> None:
    output = save(tmp_path / "output", report("2026-01-02", 1.0)).parent
    other = save(tmp_path / "other", report("2026-01-01", 1.0))
    command_line.main(["--render", "--against", str(other), "--output", str(output)])
    first = (output / "results.md").read_text()
    command_line.main(["--render", "--output", str(output)])
    assert (output / "results.md").read_text() == first
    assert "1 of 1 ratios agree" in first


def test_render_without_samples_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command_line.main(["--render", "--output", str(tmp_path)])
    assert "run the benchmarks first" in capsys.readouterr().err


def test_git_ignores_the_default_output_folder() -> None:
    patterns = (command_line.ROOT / ".gitignore").read_text().splitlines()
    folder = command_line.OUTPUT.relative_to(command_line.ROOT).parts[0]
    assert f"{folder}/" in patterns
