"""Synthetic histories, with times in milliseconds, and the cases made of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from .event_log import NS_PER_MS, Record
from .history import History

STOCK: Final = "lock:stock:0"
PAGE: Final = "lease:cache:page:0"
CHARGE: Final = "lease:idempotency:charge:0"
ETL: Final = "lease:task:etl:0"

Records = list[Record]
_ids = itertools.count(1)


def action(
    kind: str,
    begin: float,
    end: float | None = None,
    *,
    process: str = "a",
    key: str = "",
    token: int | None = None,
    fence: str = "",
    value: Any = None,
    result: Any = None,
    error: str | None = None,
    steps: Sequence[float] = (),
) -> Records:
    """An action from ``begin`` to ``end``. Without an end its outcome is unknown."""
    facts = (next(_ids), key, token, fence)
    records = [Record(ns(begin), process, kind, "begin", *facts, value)]
    records += [Record(ns(step), process, kind, "step", *facts) for step in steps]
    if error is not None:
        records.append(Record(ns(end or begin), process, kind, "error", *facts, error))
    elif end is not None:
        records.append(Record(ns(end), process, kind, "end", *facts, result))
    return records


def grant(
    token: int, begin: float, end: float | None = None, process: str = "a", key: str = STOCK
) -> Records:
    """The grant of a lease for 100 ms, acknowledged at ``end``, by default after 1 ms."""
    until = begin + 1 if end is None else end
    return action("grant", begin, until, process=process, key=key, value=100, result=token)


def renew(token: int, begin: float, *, renewed: bool = True, key: str = STOCK) -> Records:
    return action("renew", begin, begin + 1, key=key, token=token, value=100, result=renewed)


def extend(token: int, begin: float, *, key: str = STOCK) -> Records:
    return action("extend", begin, begin + 1, key=key, token=token, value=100, result=True)


def release(token: int, begin: float, process: str = "a", key: str = STOCK) -> Records:
    return action("release", begin, begin + 1, process=process, key=key, token=token)


def mark(kind: str, t: float, key: str, value: Any = None) -> Records:
    return [Record(ns(t), "supervisor", kind, "mark", key=key, value=value)]


def suspended(begin: float, end: float, process: str = "a") -> Records:
    return combine(mark("suspend", begin, process, end - begin), mark("resume", end, process))


def write(token: int, begin: float, end: float | None, **facts: Any) -> Records:
    """A write with the fence of the lock."""
    return action("cache.set", begin, end, token=token, fence=STOCK, **facts)


def save(number: int, begin: float, end: float | None, run: str = "r") -> Records:
    facts: dict[str, Any] = {"token": 1, "fence": ETL, "value": [run, number]}
    return action("checkpoint.save", begin, end, key="etl:0", **facts)


def resumption(begin: float, data: list[Any] | None) -> Records:
    """The second owner of the task resumes with this state."""
    return combine(
        grant(1, 0, key=ETL),
        mark("kill", 40, "a"),
        grant(2, begin - 2, process="b", key=ETL),
        action("task_body", begin, process="b", key=ETL, value=data),
    )


def after_a_stored_result(second: Records) -> Records:
    """The first owner stores a result, the second one gets the lease, then ``second`` happens."""
    facts: dict[str, Any] = {"key": "charge:0", "token": 1, "fence": CHARGE, "value": "v"}
    return combine(
        grant(1, 0, key=CHARGE),
        action("idempotency.set", 10, 12, **facts),
        grant(2, 20, process="b", key=CHARGE),
        second,
    )


def second_set() -> Records:
    facts: dict[str, Any] = {"key": "charge:0", "token": 2, "fence": CHARGE, "value": "v"}
    return action("idempotency.set", 30, 32, process="b", **facts)


def combine(*parts: Records) -> Records:
    """The records of all parts. `history` sorts them by time."""
    return list(itertools.chain.from_iterable(parts))


def ns(ms: float) -> int:
    return round(ms * NS_PER_MS)


def entry(tag: str | None = None, ttl_ms: int | None = None) -> Records:
    return action("store", 0, 1, key="e", value={"tag": tag, "ttl_ms": ttl_ms})


def has(begin: float, *, present: bool) -> Records:
    return action("has", begin, begin + 1, process="b", key="e", result=present)


def reply(value: str, begin: float, kind: str = "idempotency.run_detailed") -> Records:
    return action(kind, begin, begin + 1, key="charge:0", result=value)


def counter(kind: str, begin: float, end: float | None = None, **facts: Any) -> Records:
    return action(kind, begin, end, key="visits:0", **facts)


def history(records: Records) -> History:
    return History(sorted(records, key=lambda record: record.t))


class Case(NamedTuple):
    """A history that breaks one rule, and a similar one that breaks none."""

    rule: str
    name: str
    bad: Records
    good: Records
