"""Prints at the end of a test run what the conformance tests verified.

In the ``conftest.py`` of the tests:

    from goscope.testing.conformance.report import pytest_terminal_summary

For each test class it lists the parts of the contract that passed and those that failed, and
whether the tests verified each capability that the class declares.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from ...providers import Capability
from ._base import REPORT_PROPERTY

VERIFIED_BY: Final = {
    Capability.PERSISTENT.name: ("adapter", "shared", "process"),
    Capability.SHARED_LOCKS.name: ("lock", "shared", "process"),
    Capability.NOTIFICATIONS.name: ("wait", "process"),
}
"""The parts that verify a capability. One machine cannot verify `Capability.DISTRIBUTED`."""


@dataclass
class Outcome:
    """The outcome of the tests of one class, by part of the contract."""

    declared: tuple[str, ...] = ()
    passed: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    failed: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))

    def parts(self) -> list[str]:
        """One entry a part: how many of its tests passed, and how many failed."""
        return [
            f"{part} {self.passed[part]}"
            + (f" ({self.failed[part]} FAILED)" if self.failed[part] else "")
            for part in sorted({*self.passed, *self.failed})
        ]

    def capability(self, name: str) -> str:
        """The capability and whether it was verified."""
        needed = VERIFIED_BY.get(name)
        if needed is None:
            return f"{name}: declared, cannot be verified on one machine"
        if failed := [part for part in needed if self.failed[part]]:
            return f"{name}: NOT VERIFIED, failed in {', '.join(failed)}"
        if missing := [part for part in needed if not self.passed[part]]:
            return f"{name}: NOT VERIFIED, no tests of {', '.join(missing)} ran"
        return f"{name}: verified"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the outcome of each test class; nothing if no conformance test ran."""
    outcomes = _collect(terminalreporter.stats)
    if not outcomes:
        return
    terminalreporter.section("goscope provider contract")
    for name, outcome in outcomes.items():
        terminalreporter.line(f"{name}: {', '.join(outcome.parts())}")
        for capability in outcome.declared:
            terminalreporter.line(f"    {outcome.capability(capability)}")
        if not outcome.declared:
            terminalreporter.line("    no capability declared")


def _collect(stats: dict[str, list[Any]]) -> dict[str, Outcome]:
    outcomes: defaultdict[str, Outcome] = defaultdict(Outcome)
    for result in ("passed", "failed", "error"):
        for report in stats.get(result, []):
            for name, part, capabilities in _labels(report):
                outcome = outcomes[name]
                outcome.declared = tuple(filter(None, capabilities.split(",")))
                counts = outcome.passed if result == "passed" else outcome.failed
                counts[part] += 1
    return outcomes


def _labels(report: Any) -> list[tuple[str, str, str]]:
    """Test class, part and capabilities of the report of a conformance test, else nothing."""
    properties = getattr(report, "user_properties", [])
    return [tuple(value.split(" ")) for name, value in properties if name == REPORT_PROPERTY]
