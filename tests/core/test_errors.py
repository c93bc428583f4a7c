"""The errors: their base classes, their messages, and pickling."""

from __future__ import annotations

import copy
import inspect
import os
import pickle
import socket
from collections.abc import Iterator

import pytest

from goscope import errors
from goscope.errors import GoscopeError
from goscope.providers import LockHolder

HOLDER = LockHolder(owner="nightly", host="web-1", pid=42, since=1, expires_in_ms=5)

BUILTINS: dict[str, type[Exception]] = {
    "ConfigurationError": ValueError,
    "ScopeNotOpen": RuntimeError,
    "SerializationError": ValueError,
    "CorruptValue": ValueError,
    "LockTimeout": TimeoutError,
    "LeaseLost": RuntimeError,
    "CircuitOpen": RuntimeError,
    "CheckpointConflict": RuntimeError,
    "TaskAlreadyRunning": RuntimeError,
    "OperationInProgress": RuntimeError,
    "FingerprintMismatch": ValueError,
    "ResultNotStored": RuntimeError,
    "BackendError": RuntimeError,
}

PARENTS = {
    errors.ConfigurationError: {
        "UnknownBackend",
        "BackendLoadError",
        "InvalidOption",
        "CapabilityMissing",
    },
    errors.BackendError: {
        "BackendUnavailable",
        "BackendBusy",
        "BackendFull",
        "BackendCorrupt",
        "SchemaMismatch",
    },
}

EXAMPLES: list[tuple[GoscopeError, list[str]]] = [
    (
        errors.UnknownBackend("redis", ("memory", "sqlite")),
        ["'redis'", "memory, sqlite", 'section "Backends" of goscope\'s README'],
    ),
    (errors.UnknownBackend("redis", ()), ["installed: none"]),
    (errors.UnknownBackend("sqlit", ("memory", "sqlite")), ["Did you mean 'sqlite'?"]),
    (
        errors.BackendLoadError("x", "goscope-x 1.0", "no driver"),
        ["'x'", "goscope-x 1.0", "no driver", "upgrade"],
    ),
    (
        errors.InvalidOption("ttl", "goscope.toml", "is unknown"),
        ["'ttl'", "goscope.toml", "is unknown"],
    ),
    (
        errors.CapabilityMissing("memory", "cache", "choose another"),
        ["'memory'", "cache", "choose another"],
    ),
    (errors.CorruptValue("user:1", "truncated"), ["'user:1'", "truncated", "delete the key"]),
    (
        errors.LockTimeout("stock", 1_500, HOLDER, 2_000),
        ["'stock'", "1.5 s", "nightly", "web-1", "42", "2.0 s", "Wait longer"],
    ),
    (errors.LockTimeout("stock", 1_500, HOLDER, None), ["pid 42)"]),
    (errors.LockTimeout("stock", 0, None, None), ["released just now"]),
    (errors.LeaseLost("stock", "it expired"), ["'stock'", "it expired", "acquire it again"]),
    (errors.CircuitOpen("mail", 1.25), ["'mail'", "retry after 1.25 s"]),
    (errors.CircuitOpen("mail", None), ["'mail'", "forced open", "force_close", "reset"]),
    (
        errors.CheckpointConflict("etl", 4, 5),
        ["'etl'", "checkpoint 4", "highest 5", "Load the latest"],
    ),
    (errors.CheckpointConflict("etl", 4, None), ["belongs to another checkpoint"]),
    (errors.TaskAlreadyRunning("etl", HOLDER), ["'etl'", "nightly", "web-1", "42", "wait"]),
    (errors.TaskAlreadyRunning("etl", None), ["another owner"]),
    (errors.OperationInProgress("charge:1"), ["'charge:1'", "wait"]),
    (errors.FingerprintMismatch("charge:1"), ["'charge:1'", "fingerprint", "new key"]),
    (
        errors.ResultNotStored("charge:1", "no JSON form"),
        ["'charge:1'", "succeeded", "no JSON form", "not run again", "delete the key"],
    ),
    (errors.BackendBusy("app.db is locked"), ["app.db is locked"]),
    (GoscopeError("plain"), ["plain"]),
]


def all_errors() -> Iterator[type[GoscopeError]]:
    for _, member in inspect.getmembers(errors, inspect.isclass):
        if issubclass(member, GoscopeError):
            yield member


def test_each_error_has_its_designed_bases() -> None:
    for error in all_errors():
        if error is GoscopeError:
            continue
        parent = next((it for it, names in PARENTS.items() if error.__name__ in names), None)
        expected = (parent,) if parent else (GoscopeError, BUILTINS[error.__name__])
        assert error.__bases__ == expected


def test_the_docstring_lists_every_error() -> None:
    assert errors.__doc__ is not None
    for error in all_errors():
        assert error.__name__ in errors.__doc__, f"{error.__name__} is missing in the docstring"


@pytest.mark.parametrize(("error", "words"), EXAMPLES)
def test_the_message_says_what_happened_to_what_and_what_to_do(
    error: GoscopeError, words: list[str]
) -> None:
    for word in words:
        assert word in str(error)


@pytest.mark.parametrize("name", ["redis", "sqlit", "goscope-redis"])
def test_an_unknown_backend_proposes_no_distribution(name: str) -> None:
    """Anybody may own the name of one that does not exist yet."""
    message = str(errors.UnknownBackend(name, ("memory", "sqlite")))
    assert "pip" not in message
    assert message.count("goscope-") == name.count("goscope-")


@pytest.mark.parametrize("error", [error for error, _ in EXAMPLES])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_errors_survive_pickling(error: GoscopeError, protocol: int) -> None:
    """With their class, message and attributes: process pools pickle them."""
    found = pickle.loads(pickle.dumps(error, protocol))
    assert type(found) is type(error)
    assert (str(found), found.args, vars(found)) == (str(error), error.args, vars(error))


def test_errors_survive_copying_and_keep_their_notes() -> None:
    error = errors.LeaseLost("stock", "it expired")
    error.add_note("while the body ran")
    found = copy.copy(error)
    assert (found.key, found.__notes__) == ("stock", ["while the body ran"])


class ErrorOfABackend(errors.BackendError):
    """An error whose ``__init__`` does not take its ``args``, as an author may write one."""

    def __init__(self, *, code: int) -> None:
        self.code = code
        super().__init__(f"code {code}")


def test_subclasses_of_other_distributions_survive_pickling_too() -> None:
    found = pickle.loads(pickle.dumps(ErrorOfABackend(code=5)))
    assert (found.code, str(found)) == (5, "code 5")


def test_an_owner_cannot_forge_a_line_of_a_log() -> None:
    owner = "me\nERROR all is lost\x1b[31m"
    for host, pid in ((HOLDER.host, HOLDER.pid), (socket.gethostname(), os.getpid())):
        holder = LockHolder(owner=owner, host=host, pid=pid, since=1, expires_in_ms=5)
        for error in (
            errors.LockTimeout("stock", 1_500, holder, 2_000),
            errors.TaskAlreadyRunning("etl", holder),
        ):
            assert str(error).isprintable()
            assert "me\\nERROR" in str(error)
