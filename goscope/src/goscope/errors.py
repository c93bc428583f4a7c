"""Every error goscope raises.

    GoscopeError
      ConfigurationError (ValueError)
        UnknownBackend          no installed plugin provides the backend
        BackendLoadError        its plugin is installed and broken
        InvalidOption           an option is unknown or has the wrong type
        CapabilityMissing       the backend cannot do what the program requires
      ScopeNotOpen (RuntimeError)
      SerializationError (ValueError)   a value JSON cannot carry
      CorruptValue (ValueError)         stored text that does not decode
      LockTimeout (TimeoutError)        the lock was not free within ``wait``
      LeaseLost (RuntimeError)          a lease ended while it was needed
      CircuitOpen (RuntimeError)        the circuit refuses calls for now
      CheckpointConflict (RuntimeError) another writer advanced the task
      TaskAlreadyRunning (RuntimeError) another owner is running the task
      OperationInProgress (RuntimeError) the idempotent call is in flight
      FingerprintMismatch (ValueError)  one key, two different payloads
      ResultNotStored (RuntimeError)    the idempotent call is done, its result cannot be stored
      BackendError (RuntimeError)       the store failed; see ``__cause__``
        BackendUnavailable      it cannot be opened, or was lost
        BackendBusy             others kept it locked for too long
        BackendFull             no space left on the device
        BackendCorrupt          the file is damaged or is not a database
        SchemaMismatch          it was written by a newer version

    MemoryLockWarning (RuntimeWarning)  a lock in memory does not exclude other processes

A driver's own exceptions never escape; they are the ``__cause__``. All errors can be pickled.
"""

from __future__ import annotations

import math
import os
import socket
from typing import TYPE_CHECKING, Any

from ._records import MISSING

if TYPE_CHECKING:
    from ._records import LockHolder


def _rebuild(cls: type[GoscopeError], args: tuple[Any, ...], state: dict[str, Any]) -> GoscopeError:
    """Unpickle an error without calling its ``__init__``, whose arguments are not ``args``."""
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


def _name(holder: LockHolder, details: str = "") -> str:
    """Name the holder of a lock, and this process as such: its pid would blame another one."""
    owner, host = _one_line(holder.owner), _one_line(holder.host)
    if holder.pid == os.getpid() and holder.host == socket.gethostname():
        return f"this process itself (owner {owner}{details})"
    return f"{owner} (host {host}, pid {holder.pid}{details})"


def _one_line(text: str) -> str:
    """The text, or its ``repr`` where line breaks or control characters could forge a log."""
    return text if text.isprintable() else repr(text)


class GoscopeError(Exception):
    """The root of every error goscope raises."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__.copy())


class ConfigurationError(GoscopeError, ValueError):
    """The program asks for something that cannot work and has to be changed."""


class UnknownBackend(ConfigurationError):
    """No installed plugin provides the backend ``name``; ``installed`` are the names of the others.

    The message names no distribution to install: a name that is not ours could be anybody's.
    """

    def __init__(self, name: str, installed: tuple[str, ...]) -> None:
        self.name = name
        self.installed = installed
        import difflib  # rarely needed, and it would add to the start of every program

        known = ", ".join(installed) or "none"
        nearest = difflib.get_close_matches(name, installed, n=1)
        hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
        super().__init__(
            f"no backend named {name!r} is installed (installed: {known}).{hint} "
            f'The section "Backends" of goscope\'s README lists those of goscope.'
        )


class BackendLoadError(ConfigurationError):
    """The plugin of backend ``name``, from ``distribution``, is installed but cannot be used."""

    def __init__(self, name: str, distribution: str, reason: str) -> None:
        self.name = name
        self.distribution = distribution
        super().__init__(
            f"backend {name!r} from {distribution} cannot be loaded: {reason}. "
            f"Reinstall or upgrade {distribution}, or choose another backend."
        )


class InvalidOption(ConfigurationError):
    """The option ``option``, given in ``source``, is unknown or has an invalid value."""

    def __init__(self, option: str, source: str, reason: str) -> None:
        self.option = option
        self.source = source
        super().__init__(f"option {option!r} in {source}: {reason}")


class CapabilityMissing(ConfigurationError):
    """The backend ``backend`` lacks ``missing``, which the program requires."""

    def __init__(self, backend: str, missing: str, advice: str) -> None:
        self.backend = backend
        self.missing = missing
        super().__init__(f"backend {backend!r} has no {missing}: {advice}")


class ScopeNotOpen(GoscopeError, RuntimeError):
    """A scope or adapter was used before it was opened, after it was closed, or in another loop."""


class SerializationError(GoscopeError, ValueError):
    """The program tried to store a value that JSON cannot carry; nothing was written."""


class CorruptValue(GoscopeError, ValueError):
    """The text stored for ``key`` does not decode; it was left unchanged."""

    def __init__(self, key: str, reason: str) -> None:
        self.key = key
        super().__init__(
            f"the value stored for {key!r} does not decode: {reason}. "
            f"It was left unchanged; read it as the type it was written as, or delete the key."
        )


class LockTimeout(GoscopeError, TimeoutError):
    """The lock ``key`` was not free within ``waited_ms``; ``holder`` holds it, if known.

    ``waited_ms`` is 0 for a call that was not to wait.
    """

    def __init__(
        self, key: str, waited_ms: int, holder: LockHolder | None, age_ms: int | None
    ) -> None:
        self.key = key
        self.waited_ms = waited_ms
        self.holder = holder
        self.age_ms = age_ms
        age = "" if age_ms is None else f", held for {age_ms / 1000:.1f} s"
        who = (
            "it was released just now, or other waiters were ahead"
            if holder is None
            else f"held by {_name(holder, age)}"
        )
        super().__init__(
            f"lock {key!r} was not free within {waited_ms / 1000:g} s: {who}. "
            f"Wait longer, or find out why the holder does not release it."
            if waited_ms
            else f"lock {key!r} is not free: {who}. Call again later, or pass a longer `wait`."
        )


class LeaseLost(GoscopeError, RuntimeError):
    """The lease on ``key`` ended while it was still needed; a guarded write was not applied."""

    def __init__(self, key: str, reason: str) -> None:
        self.key = key
        super().__init__(
            f"the lease on {key!r} was lost: {reason}. "
            f"Another owner may hold it now; acquire it again before you continue."
        )


class CircuitOpen(GoscopeError, RuntimeError):
    """The circuit ``key`` rejects calls; a retry makes sense after ``retry_after`` seconds.

    None when the circuit is forced open: it stays open until it is closed or reset.
    """

    def __init__(self, key: str, retry_after: float | None) -> None:
        self.key = key
        self.retry_after = retry_after
        super().__init__(
            f"circuit {key!r} is forced open: it rejects every call until force_close() or "
            f"reset() is called on it"
            if retry_after is None
            else f"circuit {key!r} is open: retry after {_seconds(retry_after)} s"
        )


def _seconds(seconds: float) -> str:
    """Whole seconds from 10 on, rounded up: a retry at that time is not too early."""
    return f"{math.ceil(seconds)}" if seconds >= 10 else f"{seconds:.3g}"


class CheckpointConflict(GoscopeError, RuntimeError):
    """A checkpoint of ``task_id`` was refused: ``sequence`` is not above the highest one saved."""

    def __init__(self, task_id: str, sequence: int, highest: int | None) -> None:
        self.task_id = task_id
        self.sequence = sequence
        self.highest = highest
        found = "its id belongs to another checkpoint" if highest is None else f"highest {highest}"
        super().__init__(
            f"checkpoint {sequence} of task {task_id!r} was refused ({found}): "
            f"another writer has advanced the task. Load the latest checkpoint and resume from it."
        )


class TaskAlreadyRunning(GoscopeError, RuntimeError):
    """Another owner, ``holder``, is running the task ``task_id``.

    ``finished`` is whether it has finished the task while this call waited.
    """

    def __init__(self, task_id: str, holder: LockHolder | None, *, finished: bool = False) -> None:
        self.task_id = task_id
        self.holder = holder
        self.finished = finished
        if finished:
            super().__init__(
                f"task {task_id!r} was already running, and its owner has finished it while this "
                f"call waited. Pass after_wait='run' to run it again, or go on without it."
            )
            return
        who = "another owner" if holder is None else _name(holder)
        super().__init__(
            f"task {task_id!r} is already running: {who} holds its lease. "
            f"Pass a longer `wait`, or stop the other run."
        )


class OperationInProgress(GoscopeError, RuntimeError):
    """The idempotent operation ``key`` is in flight and did not finish within the wait."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(
            f"operation {key!r} is still in progress: another call with this key is running. "
            f"Wait longer (`wait=`), or call again later: a finished call is replayed."
        )


class FingerprintMismatch(GoscopeError, ValueError):
    """The idempotency key ``key`` was used before with another payload."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(
            f"idempotency key {key!r} was used with a different fingerprint: "
            f"one key stands for one request. Use a new key for another request."
        )


class ResultNotStored(GoscopeError, RuntimeError):
    """The idempotent operation ``key`` succeeded, and its result could not be stored.

    It is not run again: this error answers every call with the key until it expires or is deleted.
    ``reason`` says why. ``result`` is what the operation returned, for the callers of the process
    that ran it which waited for it; `MISSING` for all others, and after pickling.
    """

    def __init__(self, key: str, reason: str, result: Any = MISSING) -> None:
        self.key = key
        self.reason = reason
        self.result = result
        super().__init__(
            f"operation {key!r} succeeded, but its result cannot be stored: {reason}. "
            f"It is not run again. Return a value that can be stored, such as a dataclass; "
            f"delete the key to run the operation once more."
        )

    def __reduce__(self) -> tuple[Any, ...]:
        rebuild, (cls, args, state) = super().__reduce__()
        return rebuild, (cls, args, {**state, "result": MISSING})


class BackendError(GoscopeError, RuntimeError):
    """The store failed. Nothing of the failed operation was written unless the message says so."""


class BackendUnavailable(BackendError):
    """The store cannot be opened, was closed, or cannot be used from here.

    ``outcome_unknown`` is True when the connection to a server was lost before it had answered: the
    operation may have been applied or not.
    """

    def __init__(self, message: str = "", *, outcome_unknown: bool = False) -> None:
        self.outcome_unknown = outcome_unknown
        super().__init__(message)


class BackendBusy(BackendError):
    """Another connection kept the store locked for longer than its busy timeout."""


class BackendFull(BackendError):
    """The device that holds the store is full."""


class BackendCorrupt(BackendError):
    """The store is damaged, or is not a database at all."""


class SchemaMismatch(BackendError):
    """A newer version wrote the store, or its tables are not goscope's."""


class MemoryLockWarning(RuntimeWarning):
    """A lock was taken in memory while other processes have the store open: it excludes none."""
