"""What was measured, as records that are kept as JSON."""

from __future__ import annotations

import msgspec

from .wait_result import Waiting


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What one call cost one contender: seconds for one entry, a sample a round."""

    workload: str
    contender: str
    limit: str
    seconds: list[float]
    rows: int = 0


class Contest(msgspec.Struct, frozen=True, kw_only=True):
    """Processes that want one lock: seconds a turn, and how little the least served one got.

    A share of 1 is as many turns as all others had. Both have a sample a round.
    """

    contender: str
    seconds: list[float]
    least_shares: list[float]


class Lateness(msgspec.Struct, frozen=True, kw_only=True):
    """How late a ticker of 1 ms was in a situation, and what the calls took; milliseconds.

    Of several looks: the medians of their percentiles, the worst of all, and how many in all.
    """

    situation: str
    contender: str
    p50: float
    p99: float
    p999: float
    worst: float
    ticks: int
    calls: int
    call_p50: float
    call_p99: float


class BusyLoop(msgspec.Struct, frozen=True, kw_only=True):
    """How long one call took while the loop was busy in slices; milliseconds."""

    slice_ms: float
    verb: str
    contender: str
    p50: float
    p99: float
    calls: int


class Footprint(msgspec.Struct, frozen=True, kw_only=True):
    """What entries take: bytes of memory and of files."""

    contender: str
    entries: int
    memory: int
    files: int


class Steady(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of files and of memory in the course of a steady workload, a pair a half minute."""

    contender: str
    samples: list[tuple[int, int]]


class Missing(msgspec.Struct, frozen=True, kw_only=True):
    """What could not be measured, and why."""

    contender: str
    part: str
    reason: str


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where and when it was measured."""

    date: str
    system: str
    processor: str
    cores: int
    memory_gib: float
    load_before: float
    load_after: float = 0.0
    versions: dict[str, str]


class OtherRatio(msgspec.Struct, frozen=True, kw_only=True):
    """What another run found a contender to cost against a baseline: low, median and high."""

    workload: str
    contender: str
    baseline: str
    quartiles: tuple[float, float, float]


class OtherRun(msgspec.Struct, frozen=True, kw_only=True):
    """Another run, to compare this one with."""

    date: str
    ratios: list[OtherRatio]


class Report(msgspec.Struct, kw_only=True):
    """One run of the benchmarks."""

    size: str
    seconds: float
    machine: Machine
    configuration: dict[str, str]
    measured: list[Measured] = []
    contests: list[Contest] = []
    growth: list[Measured] = []
    lateness: list[Lateness] = []
    busy: list[BusyLoop] = []
    footprints: list[Footprint] = []
    steady: list[Steady] = []
    waiting: list[Waiting] = []
    missing: list[Missing] = []
    other_run: OtherRun | None = None
