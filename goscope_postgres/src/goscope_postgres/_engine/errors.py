"""Translating the exceptions of asyncpg into goscope's."""

from __future__ import annotations

import asyncio
from typing import Final, TypeAlias

import asyncpg

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

_Kind: TypeAlias = tuple[type[GoscopeError], str]

DRIVER_ERRORS: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,  # also TimeoutError and refused connections
    asyncio.IncompleteReadError,
)

_LOGIN: Final[_Kind] = (
    ConfigurationError,
    "the server refused the login. Check user, password and the server's pg_hba.conf",
)
_DATABASE: Final[_Kind] = (
    ConfigurationError,
    "the database does not exist. Create it, or name another one in the URL",
)
_PRIVILEGE: Final[_Kind] = (
    ConfigurationError,
    "this user lacks a privilege. Grant it, or let an administrator create the tables",
)
_SCHEMA: Final[_Kind] = (
    SchemaMismatch,
    "a table of the store is missing or has other columns. Connect the adapter again to create "
    "missing tables, or choose another table_prefix",
)
_DEADLINE: Final[_Kind] = (
    BackendBusy,
    "the statement took longer than command_timeout or the server's statement_timeout; nothing was "
    "applied. Find what blocks it in pg_stat_activity, or raise command_timeout",
)
_CONFLICT: Final[_Kind] = (
    BackendBusy,
    "other transactions conflicted with the statement several times; nothing was applied. "
    "Try again",
)
_CROWDED: Final[_Kind] = (
    BackendBusy,
    "the server has no free connection. Lower pool_size, raise max_connections, or use a pooler",
)
_READ_ONLY: Final[_Kind] = (
    BackendUnavailable,
    "the server accepts no writes: it is a standby, or default_transaction_read_only is on; "
    "nothing was applied. Connect to the primary",
)
_STARTING: Final[_Kind] = (
    BackendUnavailable,
    "the server is starting, recovering or shutting down; nothing was applied. Try again soon",
)
_FULL: Final[_Kind] = (
    BackendFull,
    "the server ran out of disk or memory; nothing was applied. Free some",
)
_CORRUPT: Final[_Kind] = (
    BackendCorrupt,
    "the server found damaged data. Check its log, and restore from a backup",
)
_OTHER: Final[_Kind] = (
    BackendError,
    "PostgreSQL refused the statement. This is likely a bug in goscope-postgres; please report it",
)

_KINDS: Final[dict[str, _Kind]] = {
    "28": _LOGIN,
    "3D000": _DATABASE,
    "42501": _PRIVILEGE,
    "3F000": _SCHEMA,
    "42P01": _SCHEMA,
    "42703": _SCHEMA,
    "57014": _DEADLINE,
    "55P03": _DEADLINE,
    "40": _CONFLICT,
    "53300": _CROWDED,
    "25006": _READ_ONLY,
    "57P": _STARTING,
    "53": _FULL,
    "XX": _CORRUPT,
}
"""By SQLSTATE, or the beginning of several."""


def is_conflict(exc: BaseException) -> bool:
    """Whether the server rolled the statement back in favor of another: it can be tried again."""
    return isinstance(exc, asyncpg.PostgresError) and str(exc.sqlstate).startswith("40")


def is_unusable(exc: BaseException) -> bool:
    """Whether asyncpg refused to use a connection that the server had closed: nothing was sent."""
    return isinstance(exc, (asyncpg.InterfaceError, asyncpg.InternalClientError)) and (
        "connection is closed" in str(exc) or "cannot switch to state" in str(exc)
    )


def translate(exc: BaseException, server: str, *, sent: bool) -> GoscopeError:
    """Return goscope's error for an error of the driver, with that as its cause.

    ``sent`` is whether the statement had been sent: without an answer its outcome is unknown.
    """
    error = _translated(exc, server, sent=sent)
    error.__cause__ = exc
    return error


def _translated(exc: BaseException, server: str, *, sent: bool) -> GoscopeError:
    if isinstance(exc, asyncpg.PostgresError) and not _lost_connection(exc):
        state = str(exc.sqlstate)
        kind, sentence = next(
            (_KINDS[state[:length]] for length in (5, 3, 2) if state[:length] in _KINDS), _OTHER
        )
        return kind(f"{server}: {sentence} (PostgreSQL says: {exc}, SQLSTATE {state})")
    if isinstance(exc, asyncpg.DataError):
        return BackendError(
            f"{server}: a value does not fit its column; nothing was applied ({exc})"
        )
    if isinstance(exc, asyncpg.exceptions.ClientConfigurationError):
        return ConfigurationError(f"{server}: {exc}")
    why = "no answer in time" if isinstance(exc, TimeoutError) else str(exc) or type(exc).__name__
    if sent:
        return BackendUnavailable(
            f"{server}: the connection failed while a statement ran, which may have been applied "
            f"or not ({why}). Read the record before you repeat a write",
            outcome_unknown=True,
        )
    return BackendUnavailable(
        f"{server}: the server cannot be reached ({why}); nothing was applied. "
        f"Check that it runs, and the host and port in the URL"
    )


def _lost_connection(exc: asyncpg.PostgresError) -> bool:
    """Whether asyncpg made up the error, since the connection ended without an answer."""
    return str(exc.sqlstate).startswith("08")
