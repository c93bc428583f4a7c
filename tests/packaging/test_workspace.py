"""The root declares the union of what its members declare."""

from __future__ import annotations

import re
from collections import ChainMap
from typing import Any

import pytest

import goscope

from .distributions import FOLDERS, ROOT

Projects = dict[str, dict[str, Any]]


def is_member(requirement: str) -> bool:
    return re.match(r"goscope(-|\b)", requirement) is not None


def test_the_root_has_the_dependencies_of_the_members(pyprojects: Projects) -> None:
    members = {
        requirement
        for folder in FOLDERS
        for requirement in pyprojects[folder]["project"]["dependencies"]
        if not is_member(requirement)
    }
    assert sorted(members) == pyprojects[""]["project"]["dependencies"]


def test_the_root_has_the_extras_of_the_members(pyprojects: Projects) -> None:
    members = dict(
        ChainMap(
            *(pyprojects[folder]["project"].get("optional-dependencies", {}) for folder in FOLDERS)
        )
    )
    assert pyprojects[""]["project"]["optional-dependencies"] == members


@pytest.mark.parametrize("table", ["entry-points", "scripts"])
def test_the_root_has_the_entry_points_of_the_members(pyprojects: Projects, table: str) -> None:
    members: set[tuple[str, str]] = set()
    for folder in FOLDERS:
        members |= flat(pyprojects[folder]["project"].get(table, {}))
    assert flat(pyprojects[""]["project"][table]) == members


def flat(table: dict[str, Any], group: str = "") -> set[tuple[str, str]]:
    """Nested tables as pairs of a dotted name and a value."""
    pairs: set[tuple[str, str]] = set()
    for name, value in table.items():
        if isinstance(value, str):
            pairs.add((f"{group}.{name}", value))
        else:
            pairs |= flat(value, f"{group}.{name}")
    return pairs


def test_the_root_packages_the_members(pyprojects: Projects) -> None:
    packages = pyprojects[""]["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert packages == [f"{folder}/src/{folder}" for folder in FOLDERS]


def test_root_and_members_have_one_version(pyprojects: Projects) -> None:
    """Members are released together and require one another at exactly that version."""
    version = pyprojects[""]["project"]["version"]
    assert goscope.__version__ == version
    for folder in FOLDERS:
        project = pyprojects[folder]["project"]
        assert project["version"] == version
        for requirement in filter(is_member, project["dependencies"]):
            assert requirement.endswith(f"=={version}")


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_distribution_has_the_licence(folder: str) -> None:
    assert (ROOT / folder / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


def test_goscope_is_imported_from_the_tree() -> None:
    """The folder goscope/ must not hide the package as a namespace package."""
    assert goscope.__file__ == str(ROOT / "goscope/src/goscope/__init__.py")
