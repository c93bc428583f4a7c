"""What a result says about how it is stored: for how long, and whether at all."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeAlias

from ._tools.duration import Duration, ttl_milliseconds
from .errors import ConfigurationError

ResultTtl: TypeAlias = "Duration | Callable[[Any], Duration | None] | None"
"""A ttl, None for never, or a function of the result that returns one."""

When: TypeAlias = Callable[[Any], object]
"""A function of the result: false for one that is not stored."""

TtlMs: TypeAlias = "int | Callable[[Any], int | None] | None"


def result_ttl(ttl: ResultTtl) -> TtlMs:
    """Check a ttl, or make a function of the result that does so."""
    if not callable(ttl):
        return ttl_milliseconds(ttl)
    if inspect.iscoroutinefunction(ttl):
        raise ConfigurationError("ttl= must be a duration or a plain function of the result")
    return lambda result: ttl_milliseconds(ttl(result))


def ttl_for(ttl: TtlMs, result: Any) -> int | None:
    """The ttl of a result. Raises ``TypeError`` and ``ValueError`` for what is not a ttl."""
    return ttl(result) if callable(ttl) else ttl


def check_when(when: When | None) -> When | None:
    """Raise `ConfigurationError` for a coroutine function, whose coroutine is always true."""
    if when is not None and inspect.iscoroutinefunction(when):
        raise ConfigurationError("when= must be a plain function of the result")
    return when
