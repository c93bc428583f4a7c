"""How much a run measures: "smoke" checks that everything runs, "full" is worth quoting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """The effort of one run.

    ``keys`` is the number of entries of a store. ``growth`` lists the numbers of rows at which
    times are compared; the last is also the size of the large store of other benchmarks.
    ``sample_seconds`` is for one subject in one round, ``loop_seconds`` for one situation of the
    event loop, ``held_seconds`` for one hold of the write lock by another process, and
    ``contention_seconds`` for one round of contention.
    """

    name: str
    rounds: int
    sample_seconds: float
    keys: int
    held_locks: int
    growth: tuple[int, ...]
    loop_rounds: int
    loop_seconds: float
    held_seconds: float
    contention_seconds: float
    import_rounds: int
    steady_minutes: int
    writes_per_second: int

    @property
    def many_rows(self) -> int:
        return self.growth[-1]


SMOKE: Final = Size(
    name="smoke",
    rounds=2,
    sample_seconds=0.001,
    keys=100,
    held_locks=100,
    growth=(100, 1_000),
    loop_rounds=2,
    loop_seconds=0.02,
    held_seconds=0.05,
    contention_seconds=0.02,
    import_rounds=1,
    steady_minutes=1,
    writes_per_second=10,
)
SMALL: Final = Size(
    name="small",
    rounds=5,
    sample_seconds=0.03,
    keys=10_000,
    held_locks=10_000,
    growth=(10_000, 100_000),
    loop_rounds=3,
    loop_seconds=0.5,
    held_seconds=0.3,
    contention_seconds=0.3,
    import_rounds=3,
    steady_minutes=10,
    writes_per_second=20,
)
FULL: Final = Size(
    name="full",
    rounds=9,
    sample_seconds=0.12,
    keys=10_000,
    held_locks=10_000,
    growth=(10_000, 100_000, 1_000_000),
    loop_rounds=3,
    loop_seconds=1.0,
    held_seconds=3.0,
    contention_seconds=1.0,
    import_rounds=9,
    steady_minutes=10,
    writes_per_second=100,
)

SIZES: Final = {size.name: size for size in (SMOKE, SMALL, FULL)}
