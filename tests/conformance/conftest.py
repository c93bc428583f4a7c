"""What a run verified of each backend, and how much the runs without the long tests do."""

from __future__ import annotations

import pytest

from goscope.testing.conformance import Conformance
from goscope.testing.conformance.report import pytest_terminal_summary

__all__ = ["pytest_configure", "pytest_terminal_summary"]

FEW_HISTORIES = 6


def pytest_configure(config: pytest.Config) -> None:
    """Compare fewer histories with the models in a run without the long tests."""
    if config.option.markexpr == "not long":
        Conformance.histories = FEW_HISTORIES
