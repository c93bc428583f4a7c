"""The record that a plugin registers: how a backend is named, configured and opened."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from ..providers import PersistenceAdapter

if TYPE_CHECKING:
    from urllib.parse import SplitResult

    from ..maintenance import Finding, OnProgress


class Backend(msgspec.Struct, frozen=True, kw_only=True):
    """One backend of a plugin.

    ``options`` is a frozen ``msgspec.Struct`` or dataclass; goscope builds it from keywords, a
    URL, the environment or a file, and its errors name the option that is wrong and its source.
    ``open`` gets an instance and returns an adapter that is not connected yet. ``url_options``
    turns a URL into options; goscope itself reads the query. ``exists`` tells whether the store
    that the options name exists, and creates nothing; without it a command that only reads opens,
    and thereby creates, a store whose name was mistyped.

    ``diagnose`` checks the store for ``goscope doctor``, and changes nothing. ``restore`` replaces
    the store with a backup, see `goscope.maintenance.SupportsBackup`, and raises
    `ConfigurationError` where it must not. Both work without an open adapter.

    URLs whose scheme is the name of the backend open it. Other schemes are entry points of the
    group ``goscope.schemes`` that name the same plugin object.
    """

    name: str
    summary: str
    options: type[Any]
    open: Callable[[Any], PersistenceAdapter]
    url_options: Callable[[SplitResult], Mapping[str, Any]] | None = None
    exists: Callable[[Any], Awaitable[bool]] | None = None
    diagnose: Callable[[Any], Awaitable[Sequence[Finding]]] | None = None
    restore: Callable[[Any, str, OnProgress], Awaitable[None]] | None = None
