"""The kit itself: each broken backend fails exactly the tests that detect its bug."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from .caught_by import CAUGHT_BY, COMPARED_WITH_MODEL, MODEL

FOLDER = Path(__file__).parent


RUN_SIZE = 8
"""How many broken backends one run of pytest tests, so that no run takes minutes."""


def batches(nodes: Iterable[str]) -> Iterator[tuple[str, ...]]:
    """The nodes in tuples of at most ``RUN_SIZE``."""
    remaining = iter(nodes)
    while batch := tuple(itertools.islice(remaining, RUN_SIZE)):
        yield batch


RUNS = [
    run
    for path in sorted(FOLDER.glob("broken_*.py"))
    for run in batches(
        f"{path.name}::{case}"
        for case in re.findall(r"^class (Test\w+)\(Broken\)", path.read_text(), re.MULTILINE)
    )
]


def case_of(node: str) -> str:
    """The test class of a node."""
    return node.partition("::")[2]


def failures(*arguments: str) -> dict[str, set[str]]:
    """The tests that failed in a run of pytest in this folder, by class."""
    options = ["-q", "-rfE", "--tb=no", "-p", "no:cacheprovider", "--hypothesis-profile=unshrunk"]
    command = [sys.executable, "-m", "pytest", *options, *arguments]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)
    assert re.search(r"\d (passed|failed)", done.stdout), done.stdout + done.stderr
    found: defaultdict[str, set[str]] = defaultdict(set)
    for case, name in re.findall(r"^(?:FAILED|ERROR) \S*::(\w+)::(\w+)", done.stdout, re.MULTILINE):
        found[case].add(name)
    return dict(found)


def detecting(case: str) -> set[str]:
    """The tests that detect the bug of a broken backend."""
    models = {f"test_{part}{MODEL}" for part, of in COMPARED_WITH_MODEL.items() if of == case}
    return CAUGHT_BY.get(case, set()) | models


@pytest.mark.long
@pytest.mark.parametrize("run", RUNS, ids=lambda run: f"{case_of(run[0])} and others")
def test_each_bug_is_detected_by_exactly_its_tests(run: tuple[str, ...]) -> None:
    """The backend without a bug is among them: no test fails for it."""
    cases = [case_of(node) for node in run]
    assert failures(*run) == {case: detecting(case) for case in cases if detecting(case)}


def test_every_broken_backend_is_in_the_table() -> None:
    assert {case_of(node) for run in RUNS for node in run} == {*CAUGHT_BY, "TestCorrect"}
    assert len(CAUGHT_BY) >= 35


@pytest.mark.long
def test_only_process_tests_detect_a_store_without_locking() -> None:
    """The adapters of one process do not interleave, so every other test of sharing passes."""
    increments = "test_process_concurrent_increments_all_count"
    failed = failures("unlocked.py", "-k", f"test_shared or test_lock or {increments}")
    assert failed == {"TestUnlocked": {increments}}
