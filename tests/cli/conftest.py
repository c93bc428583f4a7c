"""A completed import, shared by the tests that read one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from .demo_runs import Run, finished
from .operator import Operator

RECORDS = 400


@pytest.fixture(scope="package")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    """The folder of a successful import, and its run."""
    folder = tmp_path_factory.mktemp("import") / "demo"
    code, run = finished("--path", folder, "--records", str(RECORDS), "--seed", "1", "--keep")
    assert code == 0, run.output + run.errors
    return folder, run


@pytest.fixture
def imported(original: tuple[Path, Run], tmp_path: Path) -> Path:
    """A copy of that folder that the test may change."""
    return Path(shutil.copytree(original[0], tmp_path / "demo"))


@pytest.fixture
def operator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Operator:
    """The commands, on the store of the test's folder."""
    folder = tmp_path / "store"
    folder.mkdir()
    return Operator(folder / "app.db", monkeypatch, capsys)
