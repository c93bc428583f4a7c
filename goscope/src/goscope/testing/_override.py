"""Opening another backend than the program's own while a test runs."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from .._scope import Scope
from ..backend import Clock
from ..errors import ConfigurationError


@contextmanager
def override(
    gs: Scope, *, backend: str = "memory", clock: Clock | None = None, **options: Any
) -> Generator[Scope]:
    """Let the scope open ``backend`` with ``options`` instead of what it was made for.

    With ``clock`` the scope and the backend live by it. Decorators bound to the scope follow, so
    a test of a module that declares ``gs`` overrides it and opens it. The scope's own settings
    are back after the block. Raises `ConfigurationError` while the scope is open.
    """
    if gs.is_open:
        raise ConfigurationError("the scope is open: override it before it is opened")
    own = gs._url, gs._backend, gs._options, gs._persistence, gs._clock
    gs._url, gs._backend, gs._options, gs._persistence = None, backend, options, None
    gs._clock = clock
    try:
        yield gs
    finally:
        gs._url, gs._backend, gs._options, gs._persistence, gs._clock = own
