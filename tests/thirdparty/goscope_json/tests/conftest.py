from goscope.testing.conformance.report import pytest_terminal_summary

__all__ = ["pytest_terminal_summary"]
