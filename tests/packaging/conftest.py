"""The wheels of every distribution, and an environment with two of them."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from .distributions import FOLDERS, ROOT, Environment, build_wheel


@pytest.fixture(scope="session")
def pyprojects() -> dict[str, dict[str, Any]]:
    """The parsed pyproject.toml of each member by its folder, of the root by an empty name."""
    return {
        folder: tomllib.loads((ROOT / folder / "pyproject.toml").read_text())
        for folder in ("", *FOLDERS)
    }


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel of each member, by its folder."""
    target = tmp_path_factory.mktemp("wheels")
    return {folder: build_wheel(ROOT / folder, target) for folder in FOLDERS}


@pytest.fixture(scope="session")
def installed(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """goscope and goscope-sqlite as a user installs them."""
    folder = tmp_path_factory.mktemp("installed")
    return Environment.create(folder, wheels["goscope"], wheels["goscope_sqlite"])
