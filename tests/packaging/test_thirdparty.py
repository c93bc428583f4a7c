"""A backend that someone else wrote: installed from its wheel, found, tested and used.

Its project is made from docs/write-a-backend.md, step by step.
"""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest

from . import guides
from .distributions import ROOT, Environment, build_wheel

PAGE = "write-a-backend.md"
SOURCE = ROOT / "tests" / "thirdparty" / "goscope_json"

USE = """
import asyncio, sys, goscope

async def main():
    async with goscope.Scope(backend="json", path=sys.argv[1]) as gs:
        async with gs.lock("stock:42", ttl="30s") as handle:
            await gs.cache.set("stock:42", 7, fence=handle)
    async with goscope.Scope(f"json:///{sys.argv[1]}") as gs:
        print(await gs.cache.get("stock:42"))

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the page makes of an empty folder."""
    return guides.follow(PAGE, tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def author(
    project: Path, wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Environment:
    """An environment with the backend's wheel, goscope, and what tests and demonstration need."""
    folder = tmp_path_factory.mktemp("author")
    wheel = build_wheel(project, tmp_path_factory.mktemp("wheel"))
    environment = Environment.create(folder, f"{wheels['goscope']}[cli,testing]")
    environment.install(wheel)  # after what it depends on, which no index has
    return environment


def test_the_page_shows_the_project_file_by_file() -> None:
    """What is linted and type-checked here is what the page shows, and all of it."""
    here = {
        str(path.relative_to(SOURCE)): path.read_text()
        for path in [*SOURCE.rglob("*.py"), *SOURCE.rglob("*.toml")]
    }
    assert guides.files(PAGE) == here


def test_it_is_small() -> None:
    """The base classes leave little to write, or they would be wrong."""
    lines = [line for file in SOURCE.glob("src/**/*.py") for line in file.read_text().splitlines()]
    assert len(lines) < 200


def test_it_imports_public_modules_only() -> None:
    imported = {
        node.module
        for file in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0
    }
    of_goscope = {name for name in imported if name.partition(".")[0] == "goscope"}
    assert of_goscope
    assert not [name for name in of_goscope if "._" in name]


def test_it_is_found_and_usable(author: Environment, tmp_path: Path) -> None:
    done = author.run("-W", "error", "-c", USE, str(tmp_path / "store.json"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "7\n", "")


def test_it_passes_the_kit_at_the_levels_it_declares(author: Environment, project: Path) -> None:
    """Its tests run against the installed wheel: nothing puts the sources on the path."""
    done = author.run("-m", "pytest", "-q", "-p", "no:cacheprovider", str(project), timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    for part in ("adapter", "cache", "checkpoint", "circuit", "idempotency", "lock", "process"):
        assert f"{part} " in done.stdout
    assert "PERSISTENT: shown" in done.stdout
    assert "SHARED_LOCKS: shown" in done.stdout


def test_the_demonstration_runs_on_it(author: Environment, tmp_path: Path) -> None:
    """Several processes, one of which is killed."""
    command = f"{author.folder}/bin/goscope demo --backend json --records 100 --path {tmp_path}"
    done = subprocess.run(command.split(), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
