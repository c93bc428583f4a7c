"""Broken plugins of a third party, installed beside goscope, affect nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from .distributions import Environment, build_wheel, pip

PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "acme-goscope"
version = "6.5"

[project.entry-points."goscope.backends"]
acme = "acme_goscope.backend"

[project.entry-points."goscope.plugins"]
acme-raises = "acme_goscope.raises"
acme-async = "acme_goscope.asynchronous"
acme-counts = "acme_goscope.counts"

[tool.hatch.build.targets.wheel]
packages = ["acme_goscope"]
"""

RAISES = "raise RuntimeError('acme is broken')\n"

ASYNCHRONOUS = """
from goscope.hookspecs import hookimpl

@hookimpl
async def goscope_event(event): ...
"""

COUNTS = """
from goscope.hookspecs import hookimpl

seen = []

@hookimpl
def goscope_event(event):
    seen.append(event)
"""

USE = """
import asyncio, sys, goscope

async def main():
    async with goscope.Scope(backend=sys.argv[1]) as gs:
        async with gs.lock("door"):
            pass
    counts = sys.modules.get("acme_goscope.counts")
    print([type(event).__name__ for event in counts.seen] if counts else "not loaded")

asyncio.run(main())
"""


@pytest.fixture(scope="session")
def acme(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for the import path, with the distribution acme-goscope installed in it."""
    source = tmp_path_factory.mktemp("acme") / "source"
    package = source / "acme_goscope"
    package.mkdir(parents=True)
    (source / "pyproject.toml").write_text(PYPROJECT)
    (package / "__init__.py").write_text("")
    (package / "backend.py").write_text(RAISES)
    (package / "raises.py").write_text(RAISES)
    (package / "asynchronous.py").write_text(ASYNCHRONOUS)
    (package / "counts.py").write_text(COUNTS)
    target = source.parent / "installed"
    pip("install", "--no-deps", "--target", target, build_wheel(source, source.parent / "dist"))
    return target


def test_the_other_plugins_still_work(installed: Environment, acme: Path) -> None:
    """Including the correct observer of the same distribution."""
    done = installed.run("-c", USE, "memory", path=acme)
    assert done.returncode == 0, done.stderr
    assert "LockAcquired" in done.stdout


@pytest.mark.parametrize(
    ("plugin", "reason"),
    [("acme-raises", "acme is broken"), ("acme-async", "must be a plain function")],
)
def test_a_broken_observer_is_reported_with_its_distribution(
    installed: Environment, acme: Path, plugin: str, reason: str
) -> None:
    done = installed.run("-c", USE, "memory", path=acme)
    (warning,) = (line for line in done.stderr.splitlines() if plugin in line)
    assert "acme-goscope 6.5" in warning
    assert reason in warning


def test_a_broken_backend_that_is_selected_raises(installed: Environment, acme: Path) -> None:
    done = installed.run("-c", USE, "acme", path=acme)
    assert done.returncode != 0
    error = done.stderr.splitlines()[-1]
    assert error.startswith("goscope.errors.BackendLoadError: backend 'acme' from acme-goscope 6.5")
    assert "acme is broken" in error


@pytest.mark.parametrize(
    ("selection", "printed"),
    [
        ("none", "not loaded\n"),
        (
            "acme-counts",
            "['LockAcquired', 'LockBodyStarted', 'LockBodyCompleted', 'LockReleased']\n",
        ),
    ],
)
def test_the_environment_limits_the_observers(
    installed: Environment, acme: Path, selection: str, printed: str
) -> None:
    done = installed.run("-c", USE, "memory", path=acme, GOSCOPE_PLUGINS=selection)
    assert (done.stdout, done.stderr) == (printed, "")
