"""What the tests of the documentation read in a Markdown page.

Every fenced block of Python is run, on its own and from an empty folder, unless the line above
its fence says otherwise:

    <!-- continues -->          it goes on where the block before it ended
    <!-- not run: a reason -->  it is only shown
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_FENCED = re.compile(r"^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
_MARKER = re.compile(r"<!-- (?P<word>continues|not run:)(?P<reason>.*?)-->\n\Z")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Example:
    """A block of Python, those it continues in front of it, and the line its fence is on."""

    code: str
    line: int


def examples(page: str) -> list[Example]:
    """The blocks of Python that are to be run."""
    found: list[Example] = []
    for block in _FENCED.finditer(page):
        if block["language"] != "python":
            continue
        line = page.count("\n", 0, block.start()) + 1
        marker = _MARKER.search(page, 0, block.start())
        word = marker["word"] if marker else ""
        if marker and word == "not run:":
            if not marker["reason"].strip():
                raise ValueError(f"the block at line {line} is not run for no reason: give one")
            continue
        before = found[-1].code if word == "continues" else ""
        found.append(Example(before + block["code"], line))
    return found


def links(page: str) -> list[str]:
    """The targets of all links outside code."""
    return _LINK.findall(_without_code(page))


def anchors(page: str) -> set[str]:
    """The anchors of all headings, as renderers of Markdown derive them."""
    headings = _HEADING.findall(_FENCED.sub("", page))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _without_code(page: str) -> str:
    return re.sub(r"`[^`\n]*`", "", _FENCED.sub("", page))
