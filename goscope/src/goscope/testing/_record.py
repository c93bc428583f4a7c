"""Seeing what a scope does."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from .._scope import Scope
from ..events import Event


@contextmanager
def record_events(gs: Scope) -> Generator[list[Event]]:
    """Give a list that every event of the scope is appended to inside the block.

    The scope may be opened and closed before, inside or after it.
    """
    events: list[Event] = []
    gs._observers.add(events.append)
    try:
        yield events
    finally:
        gs._observers.remove(events.append)
