"""Fixtures of the tests of faults, and the table of what they counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from .amounts import SEED, SHARE
from .shim import build_shim

Count: TypeAlias = Callable[[str, int], None]


@pytest.fixture
def count(record_property: Callable[[str, object], None]) -> Count:
    """Report a count, under the name of the test and a name of its own."""

    def report(what: str, number: int) -> None:
        record_property(f"counted {what}", number)

    return report


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that makes system calls fail, and records them."""
    return build_shim(tmp_path_factory.mktemp("shim"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List the counts after a long run."""
    if not SHARE:
        return
    terminalreporter.section(f"counts of the tests of faults, GOSCOPE_FAULT_SEED={SEED}")
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            for name, number in report.user_properties:
                if name.startswith("counted "):
                    test = report.nodeid.rpartition("/")[2]
                    what = name.removeprefix("counted ")
                    terminalreporter.write_line(f"{number:>9,}  {what}  ({test})")
