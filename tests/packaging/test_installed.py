"""goscope and goscope-sqlite, installed as a user installs them and run from elsewhere."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .distributions import Environment

USE = """
import asyncio, sys, goscope

async def main():
    async with goscope.Scope(backend="sqlite", path=sys.argv[1]) as gs:
        await gs.cache.set("answer", 42)
        print(await gs.cache.get("answer"))

asyncio.run(main())
"""

IMPORT = """
import importlib.metadata, sys

def scanned(*args, **kwargs):
    raise AssertionError("import goscope searched for installed plugins")

importlib.metadata.Distribution.discover = scanned
importlib.metadata.distributions = scanned
importlib.metadata.entry_points = scanned

import goscope
print(sorted(sys.modules))
"""


def succeeded(done: subprocess.CompletedProcess[str]) -> str:
    """The output of a process that exited with 0 and printed no warning."""
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_scope_finds_the_backend_by_name(installed: Environment, tmp_path: Path) -> None:
    database = tmp_path / "app.db"
    printed = succeeded(installed.run("-W", "error", "-c", USE, str(database)))
    assert printed == "42\n"
    assert database.exists()


def test_both_backends_are_registered(installed: Environment) -> None:
    printed = succeeded(
        installed.run(
            "-c",
            "from importlib.metadata import entry_points\n"
            "for point in entry_points(group='goscope.backends'): print(point.name, point.value)",
        )
    )
    assert set(printed.splitlines()) == {"memory goscope.memory", "sqlite goscope_sqlite._plugin"}


def test_the_error_for_an_unknown_backend_lists_the_installed_ones(installed: Environment) -> None:
    done = installed.run("-c", USE.replace('"sqlite"', '"postgres"'), "app.db")
    assert done.returncode != 0
    error = done.stderr.splitlines()[-1]
    assert error.startswith("goscope.errors.UnknownBackend: no backend named 'postgres'")
    assert "(installed: memory, sqlite)" in error
    assert "README" in error


def test_only_declared_dependencies_are_installed(installed: Environment) -> None:
    """So the other tests here would fail without a dependency that is not declared."""
    printed = subprocess.run(
        [sys.executable, "-m", "pip", "--python", installed.folder, "list", "--format=freeze"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    names = {re.split("==", line)[0] for line in printed.splitlines()}
    assert names == {"aiosqlite", "goscope", "goscope-sqlite", "msgspec", "pluggy"}


def test_import_goscope_loads_only_what_it_needs(installed: Environment) -> None:
    """No database driver, no backend, no plugin; it does not search for them either."""
    loaded: list[str] = ast.literal_eval(succeeded(installed.run("-c", IMPORT)))
    packages = {name.partition(".")[0] for name in loaded}
    assert packages - sys.stdlib_module_names - {"__main__"} <= {"goscope", "msgspec", "pluggy"}
    assert packages.isdisjoint({"sqlite3", "_sqlite3"})
    assert {"goscope.memory", "goscope.testing", "goscope.cli"}.isdisjoint(loaded)
    assert {"goscope.backend", "goscope.inspection"}.isdisjoint(loaded)


@pytest.mark.parametrize("module", ["goscope.testing", "goscope.memory", "goscope.cli"])
def test_public_modules_import_without_extras(installed: Environment, module: str) -> None:
    succeeded(installed.run("-W", "error", "-c", f"import {module}"))


def command(installed: Environment, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [installed.folder / "bin" / "goscope", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_command_lists_its_subcommands(installed: Environment) -> None:
    done = command(installed, "--help")
    assert done.returncode == 0, done.stderr
    assert "demo" in done.stdout


def test_the_command_names_the_missing_extra(installed: Environment) -> None:
    done = command(installed, "demo")
    assert done.returncode != 0
    assert "goscope[demo]" in done.stderr
    assert "Traceback" not in done.stderr
