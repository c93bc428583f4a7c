"""The guides of the building blocks have the same sections in the same order."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
SECTIONS = [
    "The problem",
    "The smallest example",
    "What is guaranteed",
    "Failure modes",
    "Recipes",
    "Anti-patterns",
]
COLUMNS = (
    "tasks of a process | processes of a machine | machines | "
    "when a process dies | when the power fails |"
)


@pytest.mark.parametrize("name", ["locks", "cache", "circuit-breakers", "tasks", "idempotency"])
def test_a_guide_has_the_sections_of_all_guides(name: str) -> None:
    page = (DOCS / f"{name}.md").read_text()
    sections = re.findall(r"^## (.*)$", page, re.MULTILINE)
    assert sections[: len(SECTIONS)] == SECTIONS
    assert COLUMNS in page.replace("the holder's process", "a process")
    assert sections[-1] == "Questions"
    questions = re.findall(r"^### (.*)$", page[page.index("## Questions") :], re.MULTILINE)
    assert questions
    assert all(question.endswith("?") for question in questions)
