"""The store all processes share, and the names under which things are in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from .... import Capability, CheckpointProvider, CircuitBreaker, Scope
from ....events import Observer

CONDUCTOR: Final = "demo"
RUNS: Final = "runs"
SPARED: Final = "spared"
KILLED: Final = "killed"
TTL: Final = "24h"
"""Longer than an import takes with all its interruptions; a store of others is clean after it."""


class Store(msgspec.Struct, frozen=True):
    """How to open it: a URL, or a backend with the path of a file."""

    prefix: str
    url: str | None = None
    backend: str | None = None
    path: str | None = None

    def scope(self, observers: Sequence[Observer] = ()) -> Scope:
        """Return the scope on it, not opened yet; refused at open unless it outlives a process."""
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
    """The checkpoint of a shard: how many of its records are done, and who did the last ones."""

    done: int
    worker: str


class Kill(msgspec.Struct, frozen=True):
    """The worker that was killed, and the shard it was at."""

    worker: str
    shard: int
    done: int


class Resumption(msgspec.Struct, frozen=True):
    """A shard that a worker took over, at the checkpoint with this number."""

    shard: int
    worker: str
    checkpoint: int


def task_id(shard: int) -> str:
    """The task that imports a shard."""
    return f"import:{shard}"


def shard_key(shard: int) -> str:
    """The idempotency key of a shard: its result is how many records it has."""
    return f"shard:{shard}"


def charge_key(icao: str) -> str:
    """The idempotency key of a record's charge, in the store and at the service."""
    return f"charge:{icao}"


def country_key(place: str) -> str:
    """The cache key of what the service knows of a place."""
    return f"country:{place}"


def resumption_key(shard: int, worker: str) -> str:
    """The cache key of a `Resumption`."""
    return f"resumed:{shard}:{worker}"


def circuit(gs: Scope) -> CircuitBreaker:
    """The circuit before the service's answers about places."""
    return gs.circuit_breaker("enrichment", reset_timeout="300ms")


def checkpoints(gs: Scope) -> CheckpointProvider:
    """The checkpoints of an open scope."""
    provider = gs.persistence.checkpoint
    assert provider is not None  # the conductor is a task and would have been refused
    return provider
