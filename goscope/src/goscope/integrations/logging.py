"""Events as log records: ``Scope(..., observers=[log_events()])``. Needs no extra."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from ..events import (
    CacheComputeFailed,
    CacheCorrupt,
    CacheRefreshFailed,
    CacheStoreFailed,
    CacheStoreRecovered,
    CircuitCallFailed,
    CircuitClosed,
    CircuitHalfOpened,
    CircuitOpened,
    CircuitRejected,
    CircuitReset,
    CircuitStoreFailed,
    CircuitStoreRecovered,
    Event,
    IdempotentFailed,
    LockBodyFailed,
    LockLost,
    LockTimedOut,
    Observer,
    OperatorAction,
    TaskCompleted,
    TaskFailed,
    TaskResumed,
    TaskStarted,
)

_WARNINGS: Final[tuple[type[Event], ...]] = (
    CacheCorrupt,
    CacheRefreshFailed,
    CacheStoreFailed,
    CircuitOpened,
    CircuitStoreFailed,
    LockLost,
    OperatorAction,
    TaskFailed,
)
_INFORMATION: Final[tuple[type[Event], ...]] = (
    CacheComputeFailed,
    CacheStoreRecovered,
    CircuitCallFailed,
    CircuitClosed,
    CircuitHalfOpened,
    CircuitRejected,
    CircuitReset,
    CircuitStoreRecovered,
    IdempotentFailed,
    LockBodyFailed,
    LockTimedOut,
    TaskCompleted,
    TaskResumed,
    TaskStarted,
)

LEVELS: Final[Mapping[type[Event], int]] = MappingProxyType(
    {
        **dict.fromkeys(_WARNINGS, logging.WARNING),
        **dict.fromkeys(_INFORMATION, logging.INFO),
    }
)
"""The level of each event; of those that are not listed it is DEBUG.

What the program finds out by an exception is INFO: whoever handles that exception logs it.
"""

_KEYS: Final = frozenset({"key", "owner"})
_TEXTS: Final = frozenset({"error", "reason"})


def log_events(
    logger: logging.Logger | str = "goscope.events",
    *,
    levels: Mapping[type[Event], int] = LEVELS,
    keys: bool = False,
    texts: bool = False,
) -> Observer:
    """An observer that logs every event.

    A record has the message ``CacheHit 'user:{user_id}' in shop: 0.1 ms``, and each attribute of
    the event as ``goscope_...`` (``goscope_scope``, ``goscope_duration_ms``), which formatters for
    structured logs print. Keys and owners of locks may be personal: they are left out without
    ``keys``. Texts of errors, and reasons, may hold secrets: they are left out without ``texts``.
    ``levels`` overrides `LEVELS` for the events that it names.
    """
    log = logging.getLogger(logger) if isinstance(logger, str) else logger
    level_of = {**LEVELS, **levels}
    hidden = {*(() if keys else _KEYS), *(() if texts else _TEXTS)}

    def observe(event: Event) -> None:
        level = level_of.get(type(event), logging.DEBUG)
        if log.isEnabledFor(level):
            attributes = _attributes(event, hidden)
            log.log(level, "%s", _Message(attributes), extra=attributes)

    return observe


def _attributes(event: Event, hidden: Collection[str]) -> dict[str, Any]:
    attributes: dict[str, Any] = {"goscope_event": type(event).__name__}
    for name in event.__struct_fields__:
        value = getattr(event, name)
        if value is not None and name not in hidden:
            attributes[f"goscope_{name}"] = value
    return attributes


class _Message(msgspec.Struct):
    """The text of a record, which is made only if a handler wants it."""

    attributes: dict[str, Any]

    def __str__(self) -> str:
        of = self.attributes.get
        words = [str(of("goscope_event"))]
        name = of("goscope_key") or of("goscope_template")
        if name is not None:
            words.append(repr(name))
        words.append(f"in {of('goscope_scope')}: {of('goscope_duration_ms', 0.0):.1f} ms")
        words += [
            f"({value})"
            for attribute in ("error_type", "error", "reason")
            if (value := of(f"goscope_{attribute}"))
        ]
        return " ".join(words)
