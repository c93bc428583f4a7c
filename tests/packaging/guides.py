"""The projects that pages of the documentation build, file by file."""

from __future__ import annotations

import re
from pathlib import Path

from .distributions import ROOT

_FILE = re.compile(
    r"^<!-- not run: the file (\S+) -->\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL
)


def files(page: str) -> dict[str, str]:
    """The files that a page of docs/ shows, by their path in the project."""
    return dict(_FILE.findall((ROOT / "docs" / page).read_text()))


def follow(page: str, folder: Path) -> Path:
    """Write the project of the page to an empty folder."""
    for name, text in files(page).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def printed(page: str, command: str) -> str:
    """The output that the page shows below a command, in the block that starts with it."""
    text = (ROOT / "docs" / page).read_text()
    block = re.search(rf"^    \$ {re.escape(command)}\n((?:    .*\n)+)", text, re.MULTILINE)
    assert block, f"{page} does not show {command!r}"
    return re.sub("^    ", "", block[1], flags=re.MULTILINE)
