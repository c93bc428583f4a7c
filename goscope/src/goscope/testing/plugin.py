"""Fixtures for pytest. A project switches them on by name, in its ``conftest.py``.

    pytest_plugins = ["goscope.testing.plugin"]

They are plain fixtures, for pytest-asyncio as for anyio. Enter a scope in the test: ``async with
goscope_scope as gs``. Needs pytest.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .._scope import Scope
from ..events import Event
from ..memory import MemoryAdapter
from ._clock import FakeClock
from ._record import record_events


@pytest.fixture
def goscope_clock() -> FakeClock:
    """A clock that only the test advances: ``await goscope_clock.advance("1h")``."""
    return FakeClock()


@pytest.fixture
def goscope_scope(goscope_clock: FakeClock) -> Scope:
    """A closed scope in memory, on ``goscope_clock``."""
    return Scope(persistence=MemoryAdapter(locks="shared", clock=goscope_clock), name="test")


@pytest.fixture
def goscope_file_scope(tmp_path: Path) -> Scope:
    """A closed scope on a fresh SQLite file that processes can share. Needs goscope-sqlite."""
    return Scope(backend="sqlite", path=tmp_path / "goscope.db", locks="shared", name="test")


@pytest.fixture
def goscope_events(goscope_scope: Scope) -> Iterator[list[Event]]:
    """The events of ``goscope_scope``, in order."""
    with record_events(goscope_scope) as events:
        yield events
