"""The table of docs/architecture.md says who may import whom, and the code keeps to it."""

from __future__ import annotations

from ..docs.arrows import Arrows
from .distributions import ROOT
from .imports import IMPORTS, MODULES


def test_every_import_is_in_the_table_of_the_architecture_page() -> None:
    arrows = Arrows.of((ROOT / "docs" / "architecture.md").read_text())
    ours = [(it.importer, it.imported) for it in IMPORTS if it.imported in MODULES]
    assert ours
    assert arrows.violations(ours) == []
