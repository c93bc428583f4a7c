"""Reads what the documentation tests check in a Markdown page.

Each fenced Python block runs separately, in an empty folder. A comment on the line above its fence
changes that:

    <!-- continues -->          run it after the block before it, in one program
    <!-- needs: a module -->    run it where this module of another project is installed
    <!-- not run: a reason -->  do not run it
    <!-- output -->             this is no program: it is what the block before it prints
    <!-- file: NAME -->         it is a file of a tutorial, see `tutorial`
    <!-- add to: NAME -->       it is a part of one
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

_FENCED = re.compile(r"^```(?P<language>[^\n`]*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
_MARKER = re.compile(
    r"<!-- (?P<word>continues|needs:|output|not run:|file:|add to:)(?P<reason>.*?)-->\n\Z"
)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
_INLINE_CODE = re.compile(r"`([^`\n]+)`")
_MAKE = re.compile(r"(?:^    (?:\$ )?|`)make (\w+)", re.MULTILINE)
_INDENTED = re.compile(r"^    (.*)$", re.MULTILINE)
_PATH = re.compile(r"\.?[\w-]+(?:[/.][\w.-]+)*/?")
_FILE_TYPES = (".md", ".py", ".toml", ".yaml")


@dataclass(frozen=True, slots=True)
class Example:
    """A Python block after those it continues, the line of its fence, and what it prints."""

    code: str
    line: int
    output: str | None = None
    needs: str | None = None


def examples(page: str) -> list[Example]:
    """The Python blocks that run."""
    found: list[Example] = []
    for block in _FENCED.finditer(page):
        line = page.count("\n", 0, block.start()) + 1
        marker = _MARKER.search(page, 0, block.start())
        word = marker["word"] if marker else ""
        if word == "output":
            found[-1] = replace(found[-1], output=block["code"])
        if block["language"] != "python" or word in ("file:", "add to:"):
            continue
        if marker and word == "not run:":
            if not marker["reason"].strip():
                raise ValueError(f"the block at line {line} is not run: give a reason")
            continue
        before = found[-1].code if word == "continues" else ""
        needs = marker["reason"].strip() if marker and word == "needs:" else None
        found.append(Example(before + block["code"], line, needs=needs))
    return found


def links(page: str) -> list[str]:
    """The targets of all links outside code."""
    return _LINK.findall(_INLINE_CODE.sub("", _FENCED.sub("", page)))


def anchors(page: str) -> set[str]:
    """The anchors of all headings, as Markdown renderers derive them."""
    headings = _HEADING.findall(_FENCED.sub("", page))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def inline_code(page: str) -> list[str]:
    """The text of all code spans, those in tables included."""
    return _INLINE_CODE.findall(_FENCED.sub("", page))


def make_commands(page: str) -> set[str]:
    """The targets of ``make`` in code spans and indented blocks."""
    return set(_MAKE.findall(page))


def paths(page: str) -> set[str]:
    """The files and folders that code spans and trees in indented blocks name."""
    spans = [span for span in inline_code(page) if _PATH.fullmatch(span)]
    folders = [
        word
        for line in _INDENTED.findall(_FENCED.sub("", page))
        for word in line.split()
        if word.endswith("/")
    ]
    return {it for it in [*spans, *folders] if "/" in it or it.endswith(_FILE_TYPES)}
