"""The workloads: operations, how many concurrent callers they have, and their budgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from . import subjects
from .subject import BATCH_KEYS, Subject
from .subjects.baseline import ReaderBaseline
from .subjects.components import ProvidersOnly

SQLITE: Final = "goscope sqlite"
BUN: Final = "goscope sqlite-bun"
MEMORY: Final = "goscope memory"
BASELINE: Final = "sqlite3"
READER_BASELINE: Final = "sqlite3 16 MiB"
ASYNCIO: Final = "asyncio.Lock"

_READS_WITH_WRITER_CACHE: Final = frozenset({ProvidersOnly.name})
"""Subjects that read with a page cache of SQLite's default size, as the plain baseline does."""


@dataclass(frozen=True, slots=True)
class Budget:
    """``subject`` may take at most ``factor`` times as long as ``baseline``."""

    subject: str
    factor: float
    baseline: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One operation, and the subject that it is compared with.

    ``per_call`` is the number of entries per call; times are per entry. ``before`` is an unmeasured
    operation before each sample, which then consists of a single call.
    """

    name: str
    verb: str
    callers: int = 1
    per_call: int = 1
    baseline: str = BASELINE
    budgets: Sequence[Budget] = ()
    before: str | None = None

    def baseline_of(self, subject: str) -> str:
        """Return the baseline with the same page cache as the subject."""
        if self.baseline == READER_BASELINE and subject in _READS_WITH_WRITER_CACHE:
            return BASELINE
        return self.baseline


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadGroup:
    """Workloads that share the same open stores.

    ``prepare`` runs once for each key, on each subject that has it. ``max_rounds`` limits the
    rounds of calls that take seconds.
    """

    name: str
    subjects: Sequence[type[Subject]]
    workloads: Sequence[Workload]
    prepare: str | None = None
    max_rounds: int | None = None


def _budgets(factor: float, baseline: str = BASELINE) -> Sequence[Budget]:
    """The same for both backends, which have one engine."""
    return (Budget(SQLITE, factor, baseline), Budget(BUN, factor, baseline))


CACHE: Final = WorkloadGroup(
    name="cache",
    subjects=[*subjects.CACHES, *subjects.COMPONENTS],
    prepare="set",
    workloads=[
        Workload(
            name="get, 1 caller",
            verb="get",
            baseline=READER_BASELINE,
            budgets=_budgets(1.2, READER_BASELINE),
        ),
        Workload(
            name="get, 64 callers",
            verb="get",
            callers=64,
            baseline=READER_BASELINE,
            budgets=_budgets(1.2, READER_BASELINE),
        ),
        Workload(name="set, 1 caller", verb="set", budgets=_budgets(2.0)),
        Workload(
            name="set, 64 callers",
            verb="set",
            callers=64,
            budgets=_budgets(0.85),
        ),
        Workload(
            name="90 % get 10 % set, 1 caller",
            verb="mix",
            baseline=READER_BASELINE,
            budgets=_budgets(1.6, READER_BASELINE),
        ),
        Workload(
            name="90 % get 10 % set, 64 callers",
            verb="mix",
            callers=64,
            baseline=READER_BASELINE,
            budgets=_budgets(1.1, READER_BASELINE),
        ),
        Workload(
            name="get_many of 100",
            verb="get_many",
            per_call=BATCH_KEYS,
            baseline=READER_BASELINE,
        ),
        Workload(name="set_many of 100", verb="set_many", per_call=BATCH_KEYS),
        Workload(
            name="get_or_set, hit",
            verb="get_or_set",
            baseline=READER_BASELINE,
            budgets=_budgets(1.15, READER_BASELINE),
        ),
    ],
)
BREAKER: Final = WorkloadGroup(
    name="circuit breaker",
    subjects=[*subjects.BREAKERS, *subjects.COMPONENTS],
    workloads=[
        Workload(
            name="record_failure, 64 callers",
            verb="count_failure",
            callers=64,
            budgets=_budgets(0.6),
        ),
        Workload(name="record_failure and get_state, 64 callers", verb="failure", callers=64),
        Workload(name="call on a healthy circuit", verb="healthy"),
    ],
)
CHECKPOINT: Final = WorkloadGroup(
    name="checkpoint",
    subjects=[*subjects.CHECKPOINTERS, *subjects.COMPONENTS],
    workloads=[
        Workload(
            name="checkpoint: save 10 KB, load_latest",
            verb="checkpoint",
            budgets=_budgets(1.5),
        )
    ],
)
IDEMPOTENCY: Final = WorkloadGroup(
    name="idempotency",
    subjects=subjects.REPLAYERS,
    prepare="remember",
    workloads=[
        Workload(
            name="idempotent replay",
            verb="replay",
            baseline=READER_BASELINE,
            budgets=_budgets(1.3, READER_BASELINE),
        )
    ],
)
_LOCK_BUDGETS: Final = tuple(Budget(name, 4.0, ASYNCIO) for name in (SQLITE, BUN, MEMORY))
LOCK: Final = WorkloadGroup(
    name="lock in memory",
    subjects=subjects.LOCKS,
    workloads=[
        Workload(name="lock in memory", verb="lock", baseline=ASYNCIO, budgets=_LOCK_BUDGETS)
    ],
)
HELD_LOCKS: Final = WorkloadGroup(
    name="lock in memory, others held",
    subjects=subjects.LOCKS,
    prepare="hold",
    workloads=[
        Workload(
            name="lock in memory, others held", verb="lock", baseline=ASYNCIO, budgets=_LOCK_BUDGETS
        )
    ],
)
SHARED_LOCK: Final = WorkloadGroup(
    name="shared lock",
    subjects=[*subjects.SHARED_LOCKS, *subjects.COMPONENTS],
    workloads=[
        Workload(name="shared lock, 1 process", verb="shared_lock", budgets=_budgets(1.9)),
        Workload(name="shared lock, async with", verb="scoped_lock", budgets=_budgets(2.6)),
        Workload(
            name="shared lock, 64 callers",
            verb="shared_lock",
            callers=64,
            budgets=_budgets(0.75),
        ),
    ],
)


WORKLOAD_GROUPS: Final = [
    CACHE,
    BREAKER,
    CHECKPOINT,
    IDEMPOTENCY,
    LOCK,
    HELD_LOCKS,
    SHARED_LOCK,
]


_SERVER_WORK: Final = {
    "get": "get",
    "set": "set",
    "record_failure": "count_failure",
    "checkpoint: save 10 KB, load_latest": "checkpoint",
    "lock": "shared_lock",
}
"""What is done on a server, and by which verb."""


def _on_server(
    name: str,
    kinds: Sequence[type[Subject]],
    *,
    goscope: str,
    alone: str,
    together: str,
    budgets: Mapping[str, tuple[float | None, ...]],
) -> WorkloadGroup:
    """Workloads against the bare driver: ``alone`` for a lone caller, ``together`` for 64.

    ``budgets`` are by what is done: the ratio for 1 caller, then, if that is measured, for 64.
    """
    return WorkloadGroup(
        name=name,
        subjects=kinds,
        prepare="set" if "get" in budgets else None,
        workloads=[
            Workload(
                name=f"{name}: {title}, {callers} caller{'s' if callers > 1 else ''}",
                verb=_SERVER_WORK[title],
                callers=callers,
                baseline=baseline,
                budgets=() if factor is None else (Budget(goscope, factor, baseline),),
            )
            for title, factors in budgets.items()
            for factor, callers, baseline in zip(factors, (1, 64), (alone, together), strict=False)
        ],
    )


SERVER_GROUPS: Final = [
    _on_server(
        "mysql",
        subjects.MYSQL,
        goscope="goscope mysql",
        alone="asyncmy",
        together="asyncmy",
        budgets={
            "get": (1.3, 1.2),
            "set": (1.3, 1.2),
            "record_failure": (1.3, None),
            "checkpoint: save 10 KB, load_latest": (None,),
            "lock": (1.3, None),
        },
    ),
    _on_server(
        "postgres",
        subjects.POSTGRES,
        goscope="goscope postgres",
        alone="asyncpg connection",
        together="asyncpg",
        budgets={
            "get": (1.3, 0.6),
            "set": (1.3, 0.6),
            "record_failure": (1.3, None),
            "checkpoint: save 10 KB, load_latest": (None,),
            "lock": (1.3, None),
        },
    ),
    _on_server(
        "redis",
        subjects.REDIS,
        goscope="goscope redis",
        alone="redis-py",
        together="redis-py",
        budgets={
            "get": (1.4, 0.6),
            "set": (1.4, 0.6),
            "record_failure": (1.4, None),
            "checkpoint: save 10 KB, load_latest": (None,),
        },
    ),
    _on_server(
        "redis lock",
        subjects.REDIS_LOCKS,
        goscope="goscope redis",
        alone="redis-py",
        together="redis-py",
        budgets={"lock": (1.4, None)},
    ),
]
"""Groups on servers that run already; without its server a group is reported as missing."""

BULK: Final = WorkloadGroup(
    name="many rows",
    subjects=[kind for kind in subjects.FILES if kind is not ReaderBaseline],
    max_rounds=3,
    workloads=[
        Workload(name="open and close", verb="reopen"),
        Workload(name="keys() of all rows", verb="keys"),
        Workload(name="prune of a tenth of all rows", verb="prune", before="expire"),
    ],
)
WORKLOADS: Final = [each for group in [*WORKLOAD_GROUPS, BULK] for each in group.workloads]
"""The workloads whose results are ratios."""

SERVER_WORKLOADS: Final = [each for group in SERVER_GROUPS for each in group.workloads]

GROWTH: Final = WorkloadGroup(
    name="growth",
    subjects=subjects.FILES,
    workloads=[
        Workload(name="get", verb="get", baseline=READER_BASELINE),
        Workload(name="set", verb="set"),
        Workload(
            name="get_many of 100",
            verb="get_many",
            baseline=READER_BASELINE,
        ),
        Workload(name="set_many of 100", verb="set_many"),
        Workload(
            name="get_or_set, hit",
            verb="get_or_set",
            baseline=READER_BASELINE,
        ),
        Workload(name="record_failure and get_state", verb="failure"),
        Workload(name="call on a healthy circuit", verb="healthy"),
        Workload(name="checkpoint: save 10 KB, load_latest", verb="checkpoint"),
        Workload(
            name="idempotent replay",
            verb="replay",
            baseline=READER_BASELINE,
        ),
        Workload(name="shared lock", verb="shared_lock"),
        Workload(name="first 1000 keys of scan()", verb="some_keys"),
        Workload(name="open and close", verb="reopen"),
    ],
)
