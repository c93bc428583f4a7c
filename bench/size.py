"""How much is measured: from a check that everything runs to numbers worth quoting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What one run spends.

    ``keys`` is how many entries a store has, ``growth`` the numbers of rows at which cost is
    compared; the last of them is also the large store of the other measurements. Seconds are of
    one sample (one contender in one round), of one of the looks at the loop, of a foreign process's
    hold on the write lock, and of one contest.
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
    contest_seconds: float
    import_rounds: int
    steady_minutes: int
    writes_a_second: int

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
    contest_seconds=0.02,
    import_rounds=1,
    steady_minutes=1,
    writes_a_second=10,
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
    contest_seconds=0.3,
    import_rounds=3,
    steady_minutes=10,
    writes_a_second=20,
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
    contest_seconds=1.0,
    import_rounds=9,
    steady_minutes=10,
    writes_a_second=100,
)

SIZES: Final = {size.name: size for size in (SMOKE, SMALL, FULL)}
