"""Replaces the backend of a scope while a test runs."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from .._scope import Scope
from .._source import Source
from .._tools.clock import Clock
from ..errors import ConfigurationError


@contextmanager
def override(
    gs: Scope, *, backend: str = "memory", clock: Clock | None = None, **options: Any
) -> Generator[Scope]:
    """Make the scope open ``backend`` with ``options`` instead of its own backend.

    With ``clock`` the scope and the backend use that clock. Decorators of the scope use the new
    backend too, so a test of a module that declares ``gs`` can override and open it. The block
    restores the scope's own settings at its end. Raises `ConfigurationError` while the scope is
    open.
    """
    if gs.is_open:
        raise ConfigurationError("the scope is open: override it before it is opened")
    original = gs._source
    gs._source = Source(backend=backend, options=options, clock=clock)
    try:
        yield gs
    finally:
        gs._source = original
