"""The contents of the wheels."""

from __future__ import annotations

import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

from .distributions import FOLDERS, ROOT

Wheels = dict[str, Path]


def files(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_wheel_contains_exactly_its_package(wheels: Wheels, folder: str) -> None:
    """No tests, no second package, and every file of the package."""
    source = ROOT / folder / "src"
    in_tree = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    in_wheel = {name for name in files(wheels[folder]) if ".dist-info/" not in name}
    assert in_wheel == in_tree


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_wheel_is_marked_as_typed(wheels: Wheels, folder: str) -> None:
    assert f"{folder}/py.typed" in files(wheels[folder])


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_wheel_contains_licence_and_readme(wheels: Wheels, folder: str) -> None:
    facts = metadata(wheels[folder])
    assert facts["License-Expression"] == "MIT"
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in files(wheels[folder]))
    assert str(facts.get_payload()).startswith("# ")


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_wheel_requires_python_3_11(wheels: Wheels, folder: str) -> None:
    assert metadata(wheels[folder])["Requires-Python"] == ">=3.11"
