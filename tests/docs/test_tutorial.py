"""Every step of the tutorial works, with a real server."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

import pytest

from tests.missing import missing

from .tutorial import Reader

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"


@pytest.mark.long
def test_the_tutorial_works(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        missing("curl is not installed")
    with closing(Reader(tmp_path)) as reader:
        assert reader.follow(PAGE.read_text()) == 17
