"""What the documentation takes from the code is what the code says."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from . import architecture_picture, generated
from .arrows import Arrows

REMEDY = "run: python -m tests.docs.generated"


@pytest.mark.parametrize("page", generated.pages(), ids=lambda page: page.name)
def test_generated_parts_are_up_to_date(page: Path) -> None:
    assert page.read_text() == generated.written(page.read_text()), REMEDY


@pytest.mark.parametrize("file", generated.FILES, ids=lambda file: file.name)
def test_generated_files_are_up_to_date(file: Path) -> None:
    assert file.read_text() == generated.FILES[file](), REMEDY


def test_every_generated_part_stands_on_a_page() -> None:
    text = "".join(page.read_text() for page in generated.pages())
    assert [name for name in generated.PARTS if f"<!-- generated: {name} -->" not in text] == []


@pytest.mark.parametrize("backend", ["sqlite", "postgres", "mysql", "redis"])
def test_the_guide_of_a_backend_explains_its_options(backend: str) -> None:
    options, guide = generated.OPTIONS[backend]
    page = (generated.DOCS / guide).read_text()
    named = {field.encode_name for field in msgspec.structs.fields(options)}
    assert {name for name in named if f"`{name}`" not in page} == set()


def test_the_picture_has_a_box_for_every_row_of_the_table_of_imports() -> None:
    table = Arrows.of((generated.DOCS / "architecture.md").read_text())
    drawn = [module for box in architecture_picture.BOXES.values() for module in box.modules]
    assert len(drawn) == len(set(drawn))
    assert set(drawn) == set(table.allowed)


def test_a_change_of_the_table_changes_the_picture() -> None:
    page = (generated.DOCS / "architecture.md").read_text()
    row = "| `goscope.backend` | `goscope._tools`,"
    assert row in page
    changed = page.replace(row, "| `goscope.backend` | `goscope.memory`, `goscope._tools`,")
    assert ("backend", "memory") in architecture_picture.arrows(changed)
    assert architecture_picture.picture(changed) != architecture_picture.picture(page)
