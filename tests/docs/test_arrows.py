"""The import table of the architecture page is consistent and is read correctly."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from .arrows import Arrows

PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"

ARROWS = Arrows.of(
    """\
| from | may import |
| --- | --- |
| `goscope.errors` | |
| `goscope.*` | `goscope.backend`, `goscope.errors` |
| `goscope.backend` | `goscope.errors` |
| `goscope._scope` | `goscope.*` |
| `goscope` | `goscope._scope` |
| `goscope_sqlite` | `goscope`, `goscope_sqlite.providers` |
| `goscope_sqlite.providers` | `goscope.backend.records` |

"""
)


def test_every_module_in_the_table_exists() -> None:
    arrows = Arrows.of(PAGE.read_text())
    assert "goscope_sqlite.providers" in arrows.names
    assert {name for name in arrows.names if find_spec(name) is None} == set()


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("goscope._lock", "goscope.backend._lock"),
        ("goscope._lock", "goscope._lease"),
        ("goscope._scope", "goscope._lock"),
        ("goscope", "goscope._scope"),
        ("goscope.backend._lock", "goscope.backend"),
        ("goscope_sqlite.adapter", "goscope_sqlite.providers.lock"),
        ("goscope_sqlite.adapter", "goscope"),
        ("goscope_sqlite.providers.lock", "goscope.backend.records"),
    ],
)
def test_the_table_allows_an_import(importer: str, imported: str) -> None:
    assert ARROWS.allows(importer, imported)


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("goscope._lock", "goscope._scope"),
        ("goscope._lock", "goscope"),
        ("goscope.backend._lock", "goscope._lock"),
        ("goscope", "goscope.errors"),
        ("goscope._scope", "goscope.backend"),
        ("goscope_sqlite.adapter", "goscope.errors"),
        ("goscope_sqlite.providers.lock", "goscope_sqlite.adapter"),
        ("goscope_sqlite.providers.lock", "goscope.backend"),
    ],
)
def test_the_table_forbids_an_import(importer: str, imported: str) -> None:
    assert ARROWS.violations([(importer, imported)]) == [(importer, imported)]
