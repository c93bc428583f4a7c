"""Translating the exceptions of sqlite3 into goscope's."""

from __future__ import annotations

import sqlite3
from typing import Final, TypeAlias, TypeGuard

from goscope.errors import (
    BackendBusy,
    BackendCorrupt,
    BackendError,
    BackendFull,
    BackendUnavailable,
    SchemaMismatch,
)

from .file import is_disk_full

_Kind: TypeAlias = tuple[type[BackendError], str]

_BUSY: Final[_Kind] = (
    BackendBusy,
    "another connection, of this process or another one, kept the database locked for longer than "
    "busy_timeout. Find the transaction that stays open (end your own before you call goscope), or "
    "raise busy_timeout",
)
_INTERRUPTED: Final[_Kind] = (
    BackendBusy,
    "another process was suspended while committing, and blocked reads and writes for 10 s. "
    "Find the suspended process, and resume or end it",
)
_FULL: Final[_Kind] = (
    BackendFull,
    "the disk is full. Free some space; stored data is undamaged",
)
_CORRUPT: Final[_Kind] = (
    BackendCorrupt,
    "the file is damaged or not an SQLite database; it was left unchanged. "
    "Check the path, or restore the file from a backup",
)
_READ_ONLY: Final[_Kind] = (
    BackendUnavailable,
    "the database is read-only. Give this user write access to the file and its directory",
)
_CANNOT_OPEN: Final[_Kind] = (
    BackendUnavailable,
    "the database cannot be opened. Check that this user can read and write the file and its "
    "directory",
)
_DISK_FAILED: Final[_Kind] = (
    BackendUnavailable,
    "reading or writing the disk failed. Check the device and the system's log",
)
_CLOSED: Final[_Kind] = (
    BackendUnavailable,
    "the connection to the database was closed. Connect the adapter again",
)
_DROPPED: Final[_Kind] = (
    SchemaMismatch,
    "another program dropped or changed a table of goscope. Open the file again, which creates "
    "missing tables, or restore it from a backup",
)
_UNDECODABLE: Final[_Kind] = (
    BackendCorrupt,
    "another program wrote a text that is not UTF-8, so the row cannot be changed as asked; it was "
    "left unchanged. Delete it",
)
_OTHER: Final[_Kind] = (
    BackendError,
    "SQLite refused the operation. This is likely a bug in goscope-sqlite; please report it",
)

_KINDS: Final[dict[int, _Kind]] = {
    sqlite3.SQLITE_BUSY: _BUSY,
    sqlite3.SQLITE_LOCKED: _BUSY,
    sqlite3.SQLITE_PROTOCOL: _INTERRUPTED,
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_CORRUPT: _CORRUPT,
    sqlite3.SQLITE_NOTADB: _CORRUPT,
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_PERM: _READ_ONLY,
    sqlite3.SQLITE_AUTH: _READ_ONLY,
    sqlite3.SQLITE_CANTOPEN: _CANNOT_OPEN,
    sqlite3.SQLITE_IOERR: _DISK_FAILED,
}


def is_busy(exc: BaseException | None) -> TypeGuard[sqlite3.Error]:
    """Whether it says that another connection held a lock: the operation can be tried again."""
    return _primary_code(exc) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_undecodable(exc: sqlite3.Error) -> bool:
    """Whether a text in the database is not UTF-8: sqlite3 reports it without a result code."""
    return isinstance(exc, sqlite3.OperationalError) and not _primary_code(exc)


def translate(exc: BaseException, path: str) -> BaseException:
    """Return goscope's error for an error of sqlite3, with that as its cause; others unchanged."""
    if not isinstance(exc, sqlite3.Error):
        return exc
    if str(exc).startswith(("no such table: go_goscope_", "no such column: ")):
        kind, sentence = _DROPPED
    elif isinstance(exc, sqlite3.ProgrammingError):
        kind, sentence = _CLOSED
    elif is_undecodable(exc):
        kind, sentence = _UNDECODABLE
    else:
        kind, sentence = _KINDS.get(_primary_code(exc), _OTHER)
        if kind is BackendUnavailable and is_disk_full(path):
            # SQLite cannot create the WAL or its index, and only says that.
            kind, sentence = _FULL
    error = kind(f"{path}: {sentence} (SQLite says: {exc})")
    error.__cause__ = exc
    return error


def _primary_code(exc: BaseException | None) -> int:
    """SQLite's primary result code; 0 for an error that is not SQLite's."""
    code: int = getattr(exc, "sqlite_errorcode", 0)
    return code & 0xFF
