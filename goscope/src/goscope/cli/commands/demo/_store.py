"""The store that all processes share, and its keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from .... import Capability, CheckpointProvider, CircuitBreaker, Scope
from ....events import Observer

SUPERVISOR_TASK: Final = "demo"
RUNS: Final = "runs"
REJECTED: Final = "rejected"
KILLED: Final = "killed"
TTL: Final = "24h"
"""Longer than an import with its interruptions takes. A shared store is clean again after it."""


class Store(msgspec.Struct, frozen=True):
    """How to open the store: by a URL, or by a backend and the path of a file."""

    prefix: str
    url: str | None = None
    backend: str | None = None
    path: str | None = None

    def scope(self, observers: Sequence[Observer] = ()) -> Scope:
        """Return an unopened scope. Opening it fails if the store does not outlive its process."""
        options: dict[str, Any] = {} if self.path is None else {"path": self.path}
        return Scope(
            self.url,
            backend=self.backend,
            key_prefix=self.prefix,
            requires={Capability.PERSISTENT},
            observers=observers,
            **options,
        )


class Position(msgspec.Struct, frozen=True):
    """The checkpoint of a shard: the number of imported records, and the worker that saved it."""

    done: int
    worker: str


class Kill(msgspec.Struct, frozen=True):
    """The killed worker, its shard, and the number of imported records of that shard."""

    worker: str
    shard: int
    done: int


class Resumption(msgspec.Struct, frozen=True):
    """A worker resumed a shard at the checkpoint with this number."""

    shard: int
    worker: str
    checkpoint: int


def task_id(shard: int) -> str:
    """The id of the task that imports a shard."""
    return f"import:{shard}"


def shard_key(shard: int) -> str:
    """The idempotency key of a shard. Its result is the number of records."""
    return f"shard:{shard}"


def charge_key(icao: str) -> str:
    """The idempotency key of a charge, both in the store and for the service."""
    return f"charge:{icao}"


def country_key(place: str) -> str:
    """The cache key of the answer about a place."""
    return f"country:{place}"


def resumption_key(shard: int, worker: str) -> str:
    """The cache key of a `Resumption`."""
    return f"resumed:{shard}:{worker}"


def circuit(gs: Scope) -> CircuitBreaker:
    """The circuit breaker of the place lookups."""
    return gs.circuit_breaker("enrichment", reset_timeout="300ms")


def checkpoints(gs: Scope) -> CheckpointProvider:
    """The checkpoints of an open scope."""
    provider = gs.persistence.checkpoint
    assert provider is not None  # the supervisor runs as a task, which needs this provider
    return provider
