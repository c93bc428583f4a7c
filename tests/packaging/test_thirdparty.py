"""A third party's backend: installed from its wheel, found, tested and used.

Its project is generated from docs/write-a-backend.md, step by step.
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
    """The project of the page, in a new folder."""
    return guides.follow(PAGE, tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def author(
    project: Path, wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Environment:
    """An environment with goscope, the backend's wheel and the extras of the tests and the demo."""
    folder = tmp_path_factory.mktemp("author")
    wheel = build_wheel(project, tmp_path_factory.mktemp("wheel"))
    environment = Environment.create(folder, f"{wheels['goscope']}[demo,testing]")
    environment.install(wheel)  # after goscope, which it depends on and which no index has
    return environment


def test_the_page_shows_the_project_file_by_file() -> None:
    """The page shows exactly the files that are linted and type-checked here."""
    here = {
        str(path.relative_to(SOURCE)): path.read_text()
        for path in [*SOURCE.rglob("*.py"), *SOURCE.rglob("*.toml")]
    }
    assert guides.files(PAGE) == here


def test_a_backend_on_the_base_classes_is_short() -> None:
    """The base classes do most of the work."""
    lines = [line for file in SOURCE.glob("src/**/*.py") for line in file.read_text().splitlines()]
    assert len(lines) < 200


def test_the_backend_imports_only_public_modules() -> None:
    imported = {
        node.module
        for file in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0
    }
    of_goscope = {name for name in imported if name.partition(".")[0] == "goscope"}
    assert of_goscope
    assert not [name for name in of_goscope if "._" in name]


def test_the_installed_backend_is_found_and_usable(author: Environment, tmp_path: Path) -> None:
    done = author.run("-W", "error", "-c", USE, str(tmp_path / "store.json"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "7\n", "")


@pytest.mark.long
def test_the_backend_passes_the_kit_with_its_capabilities(
    author: Environment, project: Path
) -> None:
    """Its tests run against the installed wheel: the sources are not on the path."""
    done = author.run("-m", "pytest", "-q", "-p", "no:cacheprovider", str(project), timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    for part in ("adapter", "cache", "checkpoint", "circuit", "idempotency", "lock", "process"):
        assert f"{part} " in done.stdout
    assert "PERSISTENT: verified" in done.stdout
    assert "SHARED_LOCKS: verified" in done.stdout


@pytest.mark.long
def test_the_demo_runs_on_the_backend(author: Environment, tmp_path: Path) -> None:
    """The demo runs several processes and kills one of them."""
    command = f"{author.folder}/bin/goscope demo --backend json --records 100 --path {tmp_path}"
    done = subprocess.run(command.split(), capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
