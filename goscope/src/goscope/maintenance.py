"""What an operator's tool may ask of a backend, and the records it gets.

Each Protocol is an optional ability: of an adapter, or for `SupportsRevoke` of a lock provider. A
backend that lacks one is told apart by ``isinstance``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import msgspec

__all__ = [
    "Finding",
    "Level",
    "OnProgress",
    "StorageInfo",
    "SupportsAttach",
    "SupportsBackup",
    "SupportsRevoke",
    "SupportsStorage",
    "SupportsSweep",
    "SupportsVacuum",
]

Level: TypeAlias = Literal["ok", "note", "warning", "error"]
"""``note``: nothing to do. ``warning``: it works, and something should be changed. ``error``: it
does not work, or data is at risk."""

OnProgress: TypeAlias = Callable[[int, int], None]
"""Called with how much is done and how much there is. ``restore`` calls it from a thread."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one check of a store: what it found, and what to do (empty if nothing)."""

    check: str
    level: Level
    found: str
    advice: str = ""


class StorageInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The space that a store takes, in bytes.

    ``wal_bytes`` is its write-ahead log, on top of ``size_bytes``. ``free_bytes`` is the part of
    ``size_bytes`` that is unused. None where the store does not know.
    """

    path: str
    size_bytes: int
    wal_bytes: int | None = None
    free_bytes: int | None = None


@runtime_checkable
class SupportsAttach(Protocol):
    """An adapter that opens a store without changing it."""

    async def attach(self) -> None:
        """Open the store as ``connect`` does, but create, migrate and sweep nothing.

        The process is not listed among those that have the store open. Close it with
        ``disconnect``. Raises `BackendError` if ``connect`` would have to create or migrate it.
        """
        ...


@runtime_checkable
class SupportsRevoke(Protocol):
    """A lock provider that ends one grant of another holder."""

    async def revoke(self, key: str, fencing_token: int) -> bool | None:
        """End the grant with this token and no other; whether it was current, None if unknown."""
        ...


@runtime_checkable
class SupportsSweep(Protocol):
    """An adapter that removes what has expired when it is asked to."""

    async def sweep(self) -> None:
        """Remove everything that has expired, in several writes, so that others can write."""
        ...


@runtime_checkable
class SupportsVacuum(Protocol):
    """An adapter that returns unused space to the file system."""

    async def vacuum(self) -> None:
        """Return all unused space. May block other writers for as long as a copy takes."""
        ...


@runtime_checkable
class SupportsStorage(Protocol):
    """An adapter that knows how much space its store takes."""

    async def storage(self) -> StorageInfo:
        """The space that the store takes now."""
        ...


@runtime_checkable
class SupportsBackup(Protocol):
    """An adapter that copies its store while it is used."""

    async def backup(self, path: str, *, progress: OnProgress | None = None) -> None:
        """Copy the store, as it was at one moment during the call, to a new file.

        The file appears once the copy is complete and verified. Other processes can write in the
        meantime. Raises `ConfigurationError` if there is such a file, `BackendError` if the copy
        fails; then there is no new file.
        """
        ...
