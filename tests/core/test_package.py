"""What `import goscope` gives besides the names of its API."""

from __future__ import annotations

import tomllib
from pathlib import Path

import goscope


def test_the_version_is_that_of_the_distribution() -> None:
    project = Path(__file__).parents[2] / "goscope" / "pyproject.toml"
    assert goscope.__version__ == tomllib.loads(project.read_text())["project"]["version"]


def test_every_exported_name_exists() -> None:
    for name in goscope.__all__:
        assert hasattr(goscope, name)
