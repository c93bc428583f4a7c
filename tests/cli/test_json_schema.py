"""The table of ``--json`` in ``docs/command-line.md`` is what the commands print."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from goscope import inspection, maintenance
from goscope.cli import _records

PAGE = Path(__file__).parents[2] / "docs" / "command-line.md"
ROW = re.compile(r"^\| (`.*`) \| `(\w+)` \| (.*) \|$", re.MULTILINE)


def test_the_page_lists_the_fields_of_each_record() -> None:
    rows = ROW.findall(PAGE.read_text())
    assert len(rows) == 14
    for _, record, fields in rows:
        modules: tuple[Any, ...] = (inspection, maintenance, _records)
        (found,) = {getattr(module, record) for module in modules if hasattr(module, record)}
        assert tuple(re.findall(r"`(\w+)`", fields)) == found.__struct_fields__


def test_the_page_lists_every_record() -> None:
    listed = {record for _, record, _ in ROW.findall(PAGE.read_text())}
    own = {
        name
        for name, value in vars(_records).items()
        if isinstance(value, type) and value.__module__ == _records.__name__
    }
    assert own <= listed
