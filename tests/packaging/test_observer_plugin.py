"""The observer plugin of docs/observer-plugin.md, installed as a distribution."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import guides
from .distributions import Environment, build_wheel

PAGE = "observer-plugin.md"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return guides.follow(PAGE, tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def observed(
    project: Path, wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Environment:
    """An environment with the plugin and goscope."""
    wheel = build_wheel(project, tmp_path_factory.mktemp("wheel"))
    return Environment.create(tmp_path_factory.mktemp("observed"), wheels["goscope"], wheel)


def test_the_plugin_logs_and_counts_as_documented(observed: Environment, project: Path) -> None:
    done = observed.run("-W", "error", str(project / "use.py"))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == guides.printed(PAGE, "python use.py")


def test_the_plugin_can_be_disabled(observed: Environment, project: Path) -> None:
    done = observed.run(str(project / "use.py"), GOSCOPE_PLUGINS="none")
    assert (done.stdout, done.stderr) == ("[]\n", "")
