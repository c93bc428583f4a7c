"""Translating the errors of redis-py and of the server into goscope's."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    TryAgainError,
)

from goscope.errors import (
    BackendBusy,
    BackendCorrupt,
    BackendError,
    BackendFull,
    BackendUnavailable,
    ConfigurationError,
    GoscopeError,
)

from .address import Node

_Kind: TypeAlias = tuple[type[GoscopeError], str]

_LOGIN: Final[_Kind] = (
    ConfigurationError,
    "the login was refused. Check username and password",
)
_PERMISSION: Final[_Kind] = (
    ConfigurationError,
    "this user may not do what goscope needs. Grant it the commands, keys and channels that the "
    "guide to the backend lists",
)
_LOADING: Final[_Kind] = (
    BackendUnavailable,
    "the server is loading its data. Try again in a moment",
)
_FULL: Final[_Kind] = (
    BackendFull,
    "the memory of the server is full, and nothing was written. Raise maxmemory, or delete data",
)
_READ_ONLY: Final[_Kind] = (
    BackendUnavailable,
    "the server is a read-only replica, and nothing was written. Connect to the primary",
)
_BUSY: Final[_Kind] = (
    BackendBusy,
    "a script of another client runs for too long. Find it, and end it with SCRIPT KILL",
)
_CLIENTS: Final[_Kind] = (
    BackendBusy,
    "the server has too many clients. Raise maxclients, or close some of them",
)
_DATABASE: Final[_Kind] = (
    ConfigurationError,
    "the server has no database of this number. Choose another db",
)
_UNSAVED: Final[_Kind] = (
    BackendUnavailable,
    "the server cannot save its data and refuses writes. Check its disk and its log",
)
_NO_REPLICAS: Final[_Kind] = (
    BackendUnavailable,
    "the server has too few replicas and refuses writes (min-replicas-to-write)",
)
_CLUSTER: Final[_Kind] = (
    BackendUnavailable,
    "the cluster does not serve the hash slot at the moment. Try again, or check its nodes",
)
_TYPE: Final[_Kind] = (
    BackendCorrupt,
    "another program keeps a value of another type under a key of goscope. Delete that key, or "
    "choose a different key_prefix",
)
_OTHER: Final[_Kind] = (
    BackendError,
    "the server refused the command. This is likely a bug in goscope-redis; please report it",
)

_CODES: Final[tuple[tuple[type[RedisError], str], ...]] = (
    (AskError, "ASK"),  # after its subclass MovedError, see `code_of`
    (AuthenticationError, "NOAUTH"),
    (AuthorizationError, "NOAUTH"),
    (BusyLoadingError, "LOADING"),
    (ClusterDownError, "CLUSTERDOWN"),
    (NoPermissionError, "NOPERM"),
    (NoScriptError, "NOSCRIPT"),
    (OutOfMemoryError, "OOM"),
    (ReadOnlyError, "READONLY"),
    (TryAgainError, "TRYAGAIN"),
)
"""The codes that redis-py removes from the text of an error. Its versions differ in which."""

_KINDS: Final[dict[str, _Kind]] = {
    "BUSY": _BUSY,
    "CLUSTERDOWN": _CLUSTER,
    "LOADING": _LOADING,
    "MASTERDOWN": _CLUSTER,
    "MISCONF": _UNSAVED,
    "NOAUTH": _LOGIN,
    "NOPERM": _PERMISSION,
    "NOREPLICAS": _NO_REPLICAS,
    "OOM": _FULL,
    "READONLY": _READ_ONLY,
    "TRYAGAIN": _CLUSTER,
    "WRONGPASS": _LOGIN,
    "WRONGTYPE": _TYPE,
}
_TEXTS: Final[tuple[tuple[str, _Kind], ...]] = (
    ("DB index is out of range", _DATABASE),
    ("SELECT is not allowed in cluster mode", _DATABASE),
    ("invalid DB index", _DATABASE),
    ("max number of clients", _CLIENTS),
)
"""What errors without a code begin with."""


class NotReplicated(BackendUnavailable):
    """The call was executed, but too few replicas have what it wrote; ``answer`` is its answer."""

    def __init__(self, message: str, answer: Any) -> None:
        super().__init__(message)
        self.answer = answer


def translate(exc: RedisError, server: str) -> GoscopeError:
    """Return goscope's error for one that the server answered, with that as its cause."""
    kind, sentence = _kind_of(exc)
    error = kind(f"{server}: {sentence} (the server says: {exc})")
    error.__cause__ = exc
    return error


def unavailable(
    server: str, reason: str, *, sent: bool, cause: BaseException
) -> BackendUnavailable:
    """Return the error for a call whose connection ended before the answer."""
    if sent:
        outcome = (
            "The outcome of the call is unknown: it was applied fully or not at all. "
            "Read what it should have written before you repeat it"
        )
    else:
        outcome = "Nothing was written. Check the server and the network, then try again"
    text = f"{server}: the connection was lost ({reason}). {outcome}"
    error = BackendUnavailable(text, outcome_unknown=sent)
    error.__cause__ = cause
    return error


def code_of(exc: RedisError) -> str:
    """The code of an error that the server answered, such as "MOVED"; "" if it has none."""
    if isinstance(exc, MovedError):
        return "MOVED"
    for cls, code in _CODES:
        if isinstance(exc, cls):
            return code
    first, _, _ = str(exc).partition(" ")
    return first if first.isupper() and first != "ERR" else ""


def redirection(exc: RedisError, asked: Node) -> Node:
    """The node that MOVED or ASK names; without a host it is on that of the node we asked."""
    host, _, port = str(exc).rpartition(" ")[2].rpartition(":")
    return Node(host or asked.host, int(port))


def _kind_of(exc: RedisError) -> _Kind:
    if kind := _KINDS.get(code_of(exc)):
        return kind
    text = str(exc).removeprefix("ERR ")
    return next((kind for start, kind in _TEXTS if text.startswith(start)), _OTHER)
