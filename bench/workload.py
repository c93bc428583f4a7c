"""What is measured: operations, how many callers they have, and what they may cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from . import contenders
from .contender import MANY, Contender
from .contenders.limit import LimitOfReaders
from .contenders.parts import ProvidersAlone

SQLITE: Final = "goscope sqlite"
BUN: Final = "goscope sqlite-bun"
MEMORY: Final = "goscope memory"
LIMIT: Final = "sqlite3"
READERS: Final = "sqlite3 16 MiB"
HOP: Final = "aiosqlite"
ASYNCIO: Final = "asyncio.Lock"


@dataclass(frozen=True, slots=True)
class Budget:
    """``contender`` may cost ``factor`` times what ``baseline`` does."""

    contender: str
    factor: float
    baseline: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One row of the report.

    ``limit`` is the contender whose cost is 1 for all but those in ``limits``, which have the
    page cache of another. ``per_call`` is how many entries one call works on, and costs are given
    for one entry. ``before`` is run, unmeasured, before each sample, which is one call then.
    """

    name: str
    verb: str
    callers: int = 1
    per_call: int = 1
    limit: str = LIMIT
    limits: Sequence[tuple[str, str]] = ()
    budgets: Sequence[Budget] = ()
    before: str | None = None

    def limit_of(self, contender: str) -> str:
        return dict(self.limits).get(contender, self.limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Workloads on the same open stores; ``prepare`` is run once for each of the keys.

    ``most_rounds`` is for calls that take seconds.
    """

    name: str
    contenders: Sequence[type[Contender]]
    workloads: Sequence[Workload]
    prepare: str | None = None
    most_rounds: int | None = None


def _read_limits(factor: float, bun_factor: float) -> Sequence[Budget]:
    return (Budget(SQLITE, factor, READERS), Budget(BUN, bun_factor, LIMIT))


_OTHER_LIMITS: Final = ((BUN, LIMIT), (ProvidersAlone.name, LIMIT))
"""Who reads with the page cache of writers."""

CACHE: Final = Family(
    name="cache",
    contenders=[*contenders.CACHES, *contenders.PARTS],
    prepare="set",
    workloads=[
        Workload(
            name="get, 1 caller",
            verb="get",
            limit=READERS,
            limits=_OTHER_LIMITS,
            budgets=_read_limits(1.25, 1.15),
        ),
        Workload(
            name="get, 64 callers",
            verb="get",
            callers=64,
            limit=READERS,
            limits=_OTHER_LIMITS,
            budgets=_read_limits(1.25, 1.15),
        ),
        Workload(
            name="set, 1 caller",
            verb="set",
            budgets=(Budget(SQLITE, 1.25, HOP), Budget(BUN, 1.15, LIMIT)),
        ),
        Workload(
            name="set, 64 callers",
            verb="set",
            callers=64,
            budgets=(Budget(SQLITE, 0.90, LIMIT), Budget(BUN, 0.85, LIMIT)),
        ),
        Workload(
            name="90 % get 10 % set, 64 callers",
            verb="mix",
            callers=64,
            limit=READERS,
            limits=_OTHER_LIMITS,
            budgets=_read_limits(1.25, 1.15),
        ),
        Workload(
            name="get_many of 100",
            verb="get_many",
            per_call=MANY,
            limit=READERS,
            limits=_OTHER_LIMITS,
        ),
        Workload(name="set_many of 100", verb="set_many", per_call=MANY),
        Workload(name="get_or_set, hit", verb="get_or_set", limit=READERS, limits=_OTHER_LIMITS),
    ],
)
BREAKER: Final = Family(
    name="circuit breaker",
    contenders=[*contenders.BREAKERS, *contenders.PARTS],
    workloads=[
        Workload(
            name="record_failure, 64 callers",
            verb="count_failure",
            callers=64,
            budgets=(Budget(SQLITE, 0.5, LIMIT), Budget(BUN, 0.8, LIMIT)),
        ),
        Workload(name="record_failure and get_state, 64 callers", verb="failure", callers=64),
        Workload(name="call on a healthy circuit", verb="healthy"),
    ],
)
CHECKPOINT: Final = Family(
    name="checkpoint",
    contenders=[*contenders.CHECKPOINTERS, *contenders.PARTS],
    workloads=[
        Workload(
            name="checkpoint: save 10 KB, load_latest",
            verb="checkpoint",
            budgets=(Budget(SQLITE, 2.0, LIMIT), Budget(BUN, 1.15, LIMIT)),
        )
    ],
)
IDEMPOTENCY: Final = Family(
    name="idempotency",
    contenders=contenders.REPLAYERS,
    prepare="remember",
    workloads=[
        Workload(name="idempotent replay", verb="replay", limit=READERS, limits=_OTHER_LIMITS)
    ],
)
_LOCK_BUDGETS: Final = tuple(Budget(name, 4.0, ASYNCIO) for name in (SQLITE, BUN, MEMORY))
LOCK: Final = Family(
    name="lock in memory",
    contenders=contenders.LOCKS,
    workloads=[Workload(name="lock in memory", verb="lock", limit=ASYNCIO, budgets=_LOCK_BUDGETS)],
)
HELD_LOCKS: Final = Family(
    name="lock in memory among others",
    contenders=contenders.LOCKS,
    prepare="hold",
    workloads=[
        Workload(
            name="lock in memory, others held", verb="lock", limit=ASYNCIO, budgets=_LOCK_BUDGETS
        )
    ],
)
SHARED_LOCK: Final = Family(
    name="shared lock",
    contenders=[*contenders.SHARED_LOCKS, *contenders.PARTS],
    workloads=[
        Workload(
            name="shared lock, 1 process",
            verb="shared_lock",
            budgets=(Budget(SQLITE, 1.25, HOP), Budget(BUN, 1.25, LIMIT)),
        )
    ],
)
FAMILIES: Final = [CACHE, BREAKER, CHECKPOINT, IDEMPOTENCY, LOCK, HELD_LOCKS, SHARED_LOCK]

BULK: Final = Family(
    name="many rows",
    contenders=[kind for kind in contenders.FILES if kind is not LimitOfReaders],
    most_rounds=3,
    workloads=[
        Workload(name="open and close", verb="reopen"),
        Workload(name="keys() of all rows", verb="keys"),
        Workload(name="prune of a tenth of all rows", verb="prune", before="expire"),
    ],
)
WORKLOADS: Final = [each for family in [*FAMILIES, BULK] for each in family.workloads]
"""All whose results are ratios."""

GROWTH: Final = Family(
    name="growth",
    contenders=contenders.FILES,
    workloads=[
        Workload(name="get", verb="get", limit=READERS, limits=_OTHER_LIMITS),
        Workload(name="set", verb="set"),
        Workload(name="get_many of 100", verb="get_many", limit=READERS, limits=_OTHER_LIMITS),
        Workload(name="set_many of 100", verb="set_many"),
        Workload(name="get_or_set, hit", verb="get_or_set", limit=READERS, limits=_OTHER_LIMITS),
        Workload(name="record_failure and get_state", verb="failure"),
        Workload(name="call on a healthy circuit", verb="healthy"),
        Workload(name="checkpoint: save 10 KB, load_latest", verb="checkpoint"),
        Workload(name="idempotent replay", verb="replay", limit=READERS, limits=_OTHER_LIMITS),
        Workload(name="shared lock", verb="shared_lock"),
        Workload(name="the first 1000 of scan()", verb="some_keys"),
        Workload(name="open and close", verb="reopen"),
    ],
)
