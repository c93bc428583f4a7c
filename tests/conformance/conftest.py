"""Prints at the end of a run what the conformance tests verified of each backend."""

from goscope.testing.conformance.report import pytest_terminal_summary

__all__ = ["pytest_terminal_summary"]
