"""What ``goscope demo`` refuses, and with which message."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from goscope.cli import main

from .demo_runs import COMMAND


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo", "--records", "3"], "must be at least 100, not 3"),
        (["demo", "--records", "many"], "invalid number value: 'many'"),
        (["demo", "--workers", "1"], "must be at least 2, not 1"),
        (["demo", "--url", "sqlite:///x", "--backend", "sqlite"], "not allowed with"),
    ],
)
def test_invalid_arguments_are_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--backend", "memory", "backend 'memory' has no capability 'persistent'"),
        ("--backend", "nope", "no backend named 'nope' is installed"),
        ("--url", "app.db", "names no backend"),
    ],
)
def test_a_store_that_processes_cannot_share_is_refused(
    option: str, value: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--path", str(tmp_path), option, value]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_foreign_database_is_not_touched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database = tmp_path / "import.db"
    database.write_text("mine")
    assert main(["demo", "--path", str(tmp_path)]) == 2
    assert "Choose another folder with --path" in capsys.readouterr().err
    assert database.read_text() == "mine"


def test_an_unusable_folder_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert main(["demo", "--path", str(file)]) == 2
    assert f"cannot use {file}: File exists" in capsys.readouterr().err


def test_a_damaged_database_is_reported_without_a_traceback(
    imported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("import.db-wal", "import.db-shm"):
        (imported / name).unlink(missing_ok=True)
    (imported / "import.db").write_text("no database " * 100)
    assert main(["demo", "--path", str(imported)]) == 1
    assert "The import failed: " in capsys.readouterr().out


def test_a_closed_pipe_ends_the_demo_silently(tmp_path: Path) -> None:
    arguments = [*COMMAND, "demo", "--path", str(tmp_path), "--records", "100", "--no-kill"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(timeout=60) == 1
        assert process.stderr is not None
        assert process.stderr.read() == b""
