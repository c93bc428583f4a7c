"""What was measured of waiting for a shared lock, as records that are kept as JSON."""

from __future__ import annotations

import msgspec


class Turns(msgspec.Struct, frozen=True, kw_only=True):
    """Processes that want one lock all the time: grants of each, and their waits in ms."""

    grants: list[int]
    p50: float
    p99: float
    worst: float


class Idle(msgspec.Struct, frozen=True, kw_only=True):
    """A process that waits for a lock that another one keeps: its seconds of CPU, its polls."""

    seconds: float
    cpu_seconds: float
    polls: int


class Handover(msgspec.Struct, frozen=True, kw_only=True):
    """From the call of release() to the grant of the next process, which has waited; ms."""

    count: int
    p50: float
    p99: float
    worst: float


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """What waiting costs one backend."""

    contender: str
    turns: Turns
    idle: Idle
    handover: Handover
