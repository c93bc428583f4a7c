"""Translating the exceptions of the driver into goscope's."""

from __future__ import annotations

from typing import Final, TypeAlias

from asyncmy import errors as driver

from goscope.errors import (
    BackendBusy,
    BackendCorrupt,
    BackendError,
    BackendFull,
    BackendUnavailable,
    ConfigurationError,
    GoscopeError,
    SchemaMismatch,
)

ServerError = driver.Error

DUPLICATE_KEY: Final = 1062
NO_SUCH_TABLE: Final = 1146
TOO_MANY_STATEMENTS: Final = 1461
"""No more statements can be prepared: max_prepared_stmt_count counts those of all sessions."""

LOCK_WAIT_TIMEOUT: Final = 1205
_DEADLOCKED: Final = frozenset({LOCK_WAIT_TIMEOUT, 1213})

_LOST: Final = frozenset(
    # shutdown, aborted, killed or idle for too long; network errors; malformed or out of order
    {1053, 1077, 1079, 1080, 1152, 1158, 1159, 1160, 1161, 1184, 1927, 2055, 4031}
    # of the driver: found closed, or lost while it waited for an answer
    | {2006, 2013, 2014}
)

_Kind: TypeAlias = tuple[type[GoscopeError], str]

_LOGIN: Final[_Kind] = (
    ConfigurationError,
    "the server refused the login. Check user, password and the host it may connect from",
)
_NO_DATABASE: Final[_Kind] = (
    ConfigurationError,
    "there is no such database. Create it, or correct the name",
)
_PRIVILEGE: Final[_Kind] = (
    ConfigurationError,
    "the user lacks a privilege. Grant SELECT, INSERT, UPDATE and DELETE on the database, and "
    "CREATE and INDEX for the first connect",
)
_CONNECTIONS: Final[_Kind] = (
    BackendBusy,
    "the server has no connection left. Lower max_connections of the adapters, or raise that of "
    "the server",
)
_BUSY: Final[_Kind] = (
    BackendBusy,
    "other transactions kept rows locked, also when the operation was retried. Nothing was "
    "written. Find the transaction that stays open",
)
_INTERRUPTED: Final[_Kind] = (
    BackendBusy,
    "the server ended the statement: its time was over, or an administrator stopped it. Nothing "
    "was written",
)
_READ_ONLY: Final[_Kind] = (
    BackendUnavailable,
    "the server is read-only, as a replica is. Nothing was written. Connect to the primary; "
    "goscope opens new connections for the next calls",
)
_FULL: Final[_Kind] = (
    BackendFull,
    "the server has no space left. Nothing was written. Free some space; stored data is undamaged",
)
_CORRUPT: Final[_Kind] = (
    BackendCorrupt,
    "a table is damaged. Check the server's log, and repair or restore the table",
)
_SCHEMA: Final[_Kind] = (
    SchemaMismatch,
    "a table or column is missing. Connect the adapter again to create the tables, or choose "
    "another table_prefix",
)
_LOST_CONNECTION: Final[_Kind] = (
    BackendUnavailable,
    "the connection was lost before the server answered. Whether the operation was applied is "
    "unknown. goscope connects again for the next call",
)
_OTHER: Final[_Kind] = (
    BackendError,
    "the server refused the operation. This is likely a bug in goscope-mysql; please report it",
)

_CODES: Final[tuple[tuple[frozenset[int], _Kind], ...]] = (
    (frozenset({1045, 1130, 1251, 1524, 1698, 1820, 1862, 2059, 3118, 3955}), _LOGIN),
    (frozenset({1049}), _NO_DATABASE),
    (frozenset({1044, 1142, 1143, 1227, 1370}), _PRIVILEGE),
    (frozenset({1040, 1129, 1203, 1226}), _CONNECTIONS),
    (_DEADLOCKED, _BUSY),
    (frozenset({1317, 1907, 1969, 3024}), _INTERRUPTED),
    (frozenset({1290, 1792, 1836, 3707}), _READ_ONLY),
    (frozenset({1021, 1041, 1114, 1659, 3719}), _FULL),
    (frozenset({1034, 1035, 1194, 1195, 1712, 1877}), _CORRUPT),
    (frozenset({1054, NO_SUCH_TABLE}), _SCHEMA),
    (_LOST, _LOST_CONNECTION),
)
_KINDS: Final = {code: kind for codes, kind in _CODES for code in codes}


def code_of(exc: BaseException) -> int:
    """The number of an error of the server or the driver; 0 for anything else."""
    if isinstance(exc, driver.Error) and exc.args and isinstance(exc.args[0], int):
        return exc.args[0]
    return 0


def is_deadlock(exc: BaseException) -> bool:
    """Whether the transaction was rolled back for another one, and can be retried."""
    return code_of(exc) in _DEADLOCKED


def is_read_only(exc: BaseException) -> bool:
    """Whether the server accepts no writes: it was demoted, or it never was the primary."""
    return _KINDS.get(code_of(exc)) is _READ_ONLY


def is_lost(exc: BaseException) -> bool:
    """Whether the connection is unusable: lost, or its answers cannot be told apart any more."""
    return isinstance(exc, OSError | driver.InterfaceError | driver.InternalError) or (
        code_of(exc) in _LOST
    )


def translate(exc: BaseException, address: str) -> BaseException:
    """Return goscope's error for one of the driver, with that as its cause; others unchanged."""
    if isinstance(exc, driver.Error):
        kind, sentence = _KINDS.get(code_of(exc), _LOST_CONNECTION if is_lost(exc) else _OTHER)
        error = kind(f"{address}: {sentence} (the server says: {_text(exc)})")
    elif isinstance(exc, OSError):
        kind, sentence = _LOST_CONNECTION
        error = kind(f"{address}: {sentence} (the system says: {exc})")
    else:
        return exc
    if isinstance(error, BackendUnavailable):
        error.outcome_unknown = sentence is _LOST_CONNECTION[1]
    error.__cause__ = exc
    return error


class NoAnswer(BackendUnavailable):
    """The server gave no answer in time, so asking again would take as long once more."""


def no_answer(address: str, timeout_ms: int) -> NoAnswer:
    """The error for a call whose connection gave no answer in time."""
    return NoAnswer(
        f"{address}: the server gave no answer within {timeout_ms / 1000:g} s, and goscope dropped "
        f"the connection. Whether the operation was applied is unknown. Check the network and the "
        f"load of the server, or raise timeout",
        outcome_unknown=True,
    )


def too_large(size: int, limit: int) -> BackendError:
    """The error for a statement that the server would not read, but close the connection."""
    return BackendError(
        f"the value takes {size} bytes, and the server accepts {limit} at once. Nothing was "
        f"written. Raise max_allowed_packet of the server, or store less"
    )


def _text(exc: driver.Error) -> str:
    """What the server said, without the tuple around it."""
    return str(exc.args[1]) if len(exc.args) > 1 else str(exc)
