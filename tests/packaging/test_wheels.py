"""What is in the wheels."""

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
def test_a_wheel_has_the_whole_package_and_nothing_else(wheels: Wheels, folder: str) -> None:
    """No tests, no second package, and no file of the package forgotten."""
    source = ROOT / folder / "src"
    in_tree = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    in_wheel = {name for name in files(wheels[folder]) if ".dist-info/" not in name}
    assert in_wheel == in_tree


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_wheel_tells_type_checkers_that_it_is_typed(wheels: Wheels, folder: str) -> None:
    assert f"{folder}/py.typed" in files(wheels[folder])


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_wheel_carries_licence_and_readme(wheels: Wheels, folder: str) -> None:
    facts = metadata(wheels[folder])
    assert facts["License-Expression"] == "MIT"
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in files(wheels[folder]))
    assert str(facts.get_payload()).startswith("# ")


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_wheel_works_from_python_3_11_on(wheels: Wheels, folder: str) -> None:
    assert metadata(wheels[folder])["Requires-Python"] == ">=3.11"
