"""The results of waiting for a shared lock, as records that are stored as JSON."""

from __future__ import annotations

import msgspec


class Competition(msgspec.Struct, frozen=True, kw_only=True):
    """Processes that compete for one lock without pause: grants per process, and waiting times."""

    grants: list[int]
    p50_ms: float
    p99_ms: float
    max_ms: float


class BlockedWait(msgspec.Struct, frozen=True, kw_only=True):
    """A process that waits for a lock that another process holds: its CPU time and its polls."""

    seconds: float
    cpu_seconds: float
    polls: int


class Handoff(msgspec.Struct, frozen=True, kw_only=True):
    """Time from the call of release() to the grant of the next waiting process."""

    count: int
    p50_ms: float
    p99_ms: float
    max_ms: float


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """The cost of waiting with one backend."""

    subject: str
    competition: Competition
    blocked: BlockedWait
    handoff: Handoff


class ServerWaiting(msgspec.Struct, frozen=True, kw_only=True):
    """Processes that compete for one lock on a server without pause, and its handoffs."""

    subject: str
    competition: Competition
    handoff: Handoff
