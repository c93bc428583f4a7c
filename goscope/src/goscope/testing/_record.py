"""Records the events of a scope."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from .._scope import Scope
from ..events import Event


@contextmanager
def record_events(gs: Scope) -> Generator[list[Event]]:
    """Yield a list that receives every event of the scope inside the block.

    The scope may be opened and closed before, inside or after the block.
    """
    events: list[Event] = []
    gs._observers.add(events.append)
    try:
        yield events
    finally:
        gs._observers.remove(events.append)
