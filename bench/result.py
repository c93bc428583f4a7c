"""The results of a run, as records that are stored as JSON."""

from __future__ import annotations

import msgspec

from .wait_result import ServerWaiting, Waiting


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds per entry that one subject took in one workload, one sample per round."""

    workload: str
    subject: str
    baseline: str
    seconds: list[float]
    rows: int = 0


class Contention(msgspec.Struct, frozen=True, kw_only=True):
    """Processes that compete for one lock, one sample per round.

    A minimum share of 1 means that every process got as many grants as the others; 0 means that
    one process got none.
    """

    subject: str
    seconds_per_grant: list[float]
    minimum_shares: list[float]


class LoopLag(msgspec.Struct, frozen=True, kw_only=True):
    """Lag of a 1 ms ticker in one situation, and the latency of the calls, in milliseconds.

    Over several rounds: medians of the percentiles, the overall maximum, and total counts.
    """

    situation: str
    subject: str
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    ticks: int
    calls: int
    call_p50_ms: float
    call_p99_ms: float


class BusyLoop(msgspec.Struct, frozen=True, kw_only=True):
    """Latency of one call while other work keeps the loop busy in slices."""

    slice_ms: float
    verb: str
    subject: str
    p50_ms: float
    p99_ms: float
    calls: int


class Footprint(msgspec.Struct, frozen=True, kw_only=True):
    """Memory and disk space that the entries of a cache take."""

    subject: str
    entries: int
    memory_bytes: int
    file_bytes: int


class SteadyState(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of files and of memory over a steady workload, one pair per 30 simulated seconds."""

    subject: str
    samples: list[tuple[int, int]]


class Missing(msgspec.Struct, frozen=True, kw_only=True):
    """A subject that could not be measured, and the reason."""

    subject: str
    benchmark: str
    reason: str


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """The machine, the date and the versions of a run."""

    date: str
    system: str
    processor: str
    cores: int
    memory_gib: float
    load_before: float
    load_after: float = 0.0
    versions: dict[str, str]


class OtherRatio(msgspec.Struct, frozen=True, kw_only=True):
    """A ratio of another run: its first quartile, median and third quartile."""

    workload: str
    subject: str
    baseline: str
    quartiles: tuple[float, float, float]


class OtherRun(msgspec.Struct, frozen=True, kw_only=True):
    """Another run to compare this one with."""

    date: str
    ratios: list[OtherRatio]


class Report(msgspec.Struct, kw_only=True):
    """One run of the benchmarks."""

    size: str
    seconds: float
    machine: Machine
    configuration: dict[str, str]
    measurements: list[Measurement] = []
    contention: list[Contention] = []
    growth: list[Measurement] = []
    loop_lag: list[LoopLag] = []
    busy_loop: list[BusyLoop] = []
    footprints: list[Footprint] = []
    steady_state: list[SteadyState] = []
    waiting: list[Waiting] = []
    server_waiting: list[ServerWaiting] = []
    missing: list[Missing] = []
    other_run: OtherRun | None = None
