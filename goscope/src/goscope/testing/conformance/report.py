"""What the backends of a run have shown, printed at its end.

In the ``conftest.py`` of the tests:

    from goscope.testing.conformance.report import pytest_terminal_summary

For each test class it names the parts of the contract that were tested and passed, those that
failed, and the capabilities the class declares, with what stands behind each of them.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from ...providers import Capability
from ._base import CLAIM

SHOWN_BY: Final = {
    Capability.PERSISTENT.name: ("adapter", "shared", "process"),
    Capability.SHARED_LOCKS.name: ("lock", "shared", "process"),
    Capability.NOTIFICATIONS.name: ("wait", "process"),
}
"""The parts that show a capability. `Capability.DISTRIBUTED` is beyond one machine's tests."""


@dataclass
class Shown:
    """How the tests of one class ended, by the part of the contract they are of."""

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
        """The capability and whether it was shown, as far as it can be."""
        needed = SHOWN_BY.get(name)
        if needed is None:
            return f"{name}: declared, not testable on one machine"
        if failed := [part for part in needed if self.failed[part]]:
            return f"{name}: NOT SHOWN, failed in {', '.join(failed)}"
        if missing := [part for part in needed if not self.passed[part]]:
            return f"{name}: NOT SHOWN, no tests of {', '.join(missing)} ran"
        return f"{name}: shown"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what each test class has shown; nothing if no test of the contract ran."""
    shown = _collect(terminalreporter.stats)
    if not shown:
        return
    terminalreporter.section("the provider contract of goscope")
    for name, found in shown.items():
        terminalreporter.line(f"{name}: {', '.join(found.parts())}")
        for capability in found.declared:
            terminalreporter.line(f"    {found.capability(capability)}")
        if not found.declared:
            terminalreporter.line("    no capability declared")


def _collect(stats: dict[str, list[Any]]) -> dict[str, Shown]:
    shown: defaultdict[str, Shown] = defaultdict(Shown)
    for outcome in ("passed", "failed", "error"):
        for report in stats.get(outcome, []):
            for name, part, capabilities in _claims(report):
                shown[name].declared = tuple(filter(None, capabilities.split(",")))
                counts = shown[name].passed if outcome == "passed" else shown[name].failed
                counts[part] += 1
    return shown


def _claims(report: Any) -> list[tuple[str, str, str]]:
    """Test class, part and capabilities of a report, if it is of a test of the contract."""
    properties = getattr(report, "user_properties", [])
    return [tuple(value.split(" ")) for name, value in properties if name == CLAIM]
