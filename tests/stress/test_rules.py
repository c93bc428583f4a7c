"""Each rule finds the history that breaks it, and lets the like one pass that does not."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import pytest

from .history import History
from .record import NS_PER_MS, Record
from .report import story, table
from .rules import RULES, check

STOCK: Final = "lock:stock:0"
PAGE: Final = "lease:cache:page:0"
CHARGE: Final = "lease:idempotency:charge:0"
ETL: Final = "lease:task:etl:0"

Records = list[Record]
_ids = itertools.count(1)


def action(
    what: str,
    begin: float,
    end: float | None = None,
    *,
    who: str = "a",
    key: str = "",
    token: int | None = None,
    fence: str = "",
    value: Any = None,
    result: Any = None,
    error: str | None = None,
    steps: Sequence[float] = (),
) -> Records:
    """An action from ``begin`` to ``end`` in milliseconds; without an end nobody knows."""
    facts = (next(_ids), key, token, fence)
    records = [Record(ns(begin), who, what, "begin", *facts, value)]
    records += [Record(ns(step), who, what, "step", *facts) for step in steps]
    if error is not None:
        records.append(Record(ns(end or begin), who, what, "error", *facts, error))
    elif end is not None:
        records.append(Record(ns(end), who, what, "end", *facts, result))
    return records


def grant(
    token: int, begin: float, end: float | None = None, who: str = "a", key: str = STOCK
) -> Records:
    """A lease for 100 ms, answered at once unless said otherwise."""
    until = begin + 1 if end is None else end
    return action("grant", begin, until, who=who, key=key, value=100, result=token)


def renew(token: int, begin: float, *, renewed: bool = True, key: str = STOCK) -> Records:
    return action("renew", begin, begin + 1, key=key, token=token, value=100, result=renewed)


def release(token: int, begin: float, who: str = "a", key: str = STOCK) -> Records:
    return action("release", begin, begin + 1, who=who, key=key, token=token)


def mark(what: str, t: float, key: str, value: Any = None) -> Records:
    return [Record(ns(t), "conductor", what, "at", key=key, value=value)]


def stopped(begin: float, end: float, who: str = "a") -> Records:
    return tale(mark("stop", begin, who, end - begin), mark("continue", end, who))


def write(token: int, begin: float, end: float | None, **facts: Any) -> Records:
    """A write under the lock's fence."""
    return action("cache.set", begin, end, token=token, fence=STOCK, **facts)


def save(number: int, begin: float, end: float | None, run: str = "r") -> Records:
    facts: dict[str, Any] = {"token": 1, "fence": ETL, "value": [run, number]}
    return action("checkpoint.save", begin, end, key="etl:0", **facts)


def own(begin: float, data: list[Any] | None) -> Records:
    """The second owner of the task begins with this state."""
    return tale(
        grant(1, 0, key=ETL),
        mark("kill", 40, "a"),
        grant(2, begin - 2, who="b", key=ETL),
        action("own", begin, who="b", key=ETL, value=data),
    )


def stored_twice(second: Records) -> Records:
    """The first owner's result is stored; the second owner takes the lease, and then this."""
    facts: dict[str, Any] = {"key": "charge:0", "token": 1, "fence": CHARGE, "value": "v"}
    return tale(
        grant(1, 0, key=CHARGE),
        action("idempotency.set", 10, 12, **facts),
        grant(2, 20, who="b", key=CHARGE),
        second,
    )


def set_by_second() -> Records:
    facts: dict[str, Any] = {"key": "charge:0", "token": 2, "fence": CHARGE, "value": "v"}
    return action("idempotency.set", 30, 32, who="b", **facts)


def tale(*parts: Records) -> Records:
    """What happened, part by part; the order is that of the times."""
    return list(itertools.chain.from_iterable(parts))


def ns(ms: float) -> int:
    return round(ms * NS_PER_MS)


def entry(tag: str | None = None, ttl_ms: int | None = None) -> Records:
    return action("store", 0, 1, key="e", value={"tag": tag, "ttl_ms": ttl_ms})


def look(begin: float, *, present: bool) -> Records:
    return action("look", begin, begin + 1, who="b", key="e", result=present)


def answer(value: str, begin: float, what: str = "idempotency.run_detailed") -> Records:
    return action(what, begin, begin + 1, key="charge:0", result=value)


def count(what: str, begin: float, end: float | None = None, **facts: Any) -> Records:
    return action(what, begin, end, key="visits:0", **facts)


class Case(NamedTuple):
    """A history that breaks the rule, and one like it that keeps all rules."""

    rule: str
    name: str
    bad: Records
    good: Records


CASES: Final = [
    Case(
        "one holder",
        "granted while it runs",
        tale(grant(1, 0), renew(1, 60, renewed=False), grant(2, 80, who="b")),
        tale(grant(1, 0), renew(1, 60, renewed=False), grant(2, 101, who="b")),
    ),
    Case(
        "one holder",
        "granted while a renewal keeps it",
        tale(grant(1, 0), renew(1, 60), renew(1, 90, renewed=False), grant(2, 150, who="b")),
        tale(grant(1, 0), renew(1, 60), renew(1, 90, renewed=False), grant(2, 161, who="b")),
    ),
    Case(
        "one holder",
        "granted before its release",
        tale(grant(1, 0), stopped(5, 6), grant(2, 10, who="b"), release(1, 20)),
        tale(grant(1, 0), stopped(5, 6), grant(2, 18, 21, who="b"), release(1, 20)),
    ),
    Case(
        "one holder",
        "granted before its holder's death",
        tale(grant(1, 0), stopped(5, 6), grant(2, 10, who="b"), mark("kill", 20, "a")),
        tale(grant(1, 0), stopped(5, 6), grant(2, 20, who="b"), mark("kill", 20, "a")),
    ),
    Case(
        "one holder",
        "granted by the second beside the first and the third",
        tale(
            grant(1, 0),
            grant(2, 0, 130, who="b"),
            stopped(1, 130, "b"),
            renew(1, 60),
            renew(1, 90, renewed=False),
            grant(3, 150, who="c"),
        ),
        tale(
            grant(1, 0),
            grant(2, 101, 230, who="b"),
            stopped(1, 230),
            stopped(102, 230, "b"),
            grant(3, 240, who="c"),
        ),
    ),
    Case(
        "tokens grow",
        "smaller than that of another key",
        tale(grant(7, 0, key=PAGE), grant(6, 10)),
        tale(grant(7, 0, 20, key=PAGE), grant(6, 10)),
    ),
    Case(
        "tokens grow",
        "the same at the same time",
        tale(grant(7, 0, 20, key=PAGE), grant(7, 10)),
        tale(grant(7, 0, 20, key=PAGE), grant(8, 10)),
    ),
    Case(
        "no takeover of the living",
        "never renewed",
        tale(grant(1, 0), grant(2, 101, who="b")),
        tale(grant(1, 0), stopped(20, 200), grant(2, 101, who="b")),
    ),
    Case(
        "no takeover of the living",
        "stopped only later",
        tale(grant(1, 0), stopped(120, 200), grant(2, 101, who="b")),
        tale(grant(1, 0), renew(1, 70, renewed=False), grant(2, 101, who="b")),
    ),
    Case(
        "no takeover of the living",
        "held up somebody else",
        tale(
            grant(1, 0), grant(2, 101, who="b"), [Record(ns(90), "c", "stall", "at", value=ns(80))]
        ),
        tale(
            grant(1, 0), grant(2, 101, who="b"), [Record(ns(90), "a", "stall", "at", value=ns(80))]
        ),
    ),
    Case(
        "no stale write",
        "applied after the lease was taken",
        tale(grant(1, 0), stopped(1, 150), grant(2, 101, who="b"), write(1, 151, 152)),
        tale(grant(1, 0), stopped(1, 150), grant(2, 153, who="b"), write(1, 151, 152)),
    ),
    Case(
        "no stale write",
        "applied after it was taken and released",
        tale(
            grant(1, 0),
            stopped(1, 150),
            grant(2, 101, who="b"),
            release(2, 120, "b"),
            write(1, 151, 152),
        ),
        tale(
            grant(1, 0),
            stopped(1, 150),
            grant(2, 101, who="b"),
            release(2, 120, "b"),
            write(1, 151, 152, error="LeaseLost"),
        ),
    ),
    Case(
        "no refusal without cause",
        "refused though it only expired",
        tale(grant(1, 0), write(1, 151, 152, error="LeaseLost")),
        tale(grant(1, 0), write(1, 151, 152)),
    ),
    Case(
        "no refusal without cause",
        "taken only later",
        tale(
            grant(1, 0),
            stopped(1, 150),
            write(1, 151, 152, error="LeaseLost"),
            grant(2, 160, who="b"),
        ),
        tale(
            grant(1, 0),
            stopped(1, 150),
            write(1, 151, 152, error="LeaseLost"),
            action("grant", 140, who="b", key=STOCK, value=100),
        ),
    ),
    Case(
        "no body without a lease",
        "never granted",
        tale(grant(1, 0, who="b"), action("hold", 10, key=STOCK)),
        tale(grant(1, 0), action("hold", 10, key=STOCK)),
    ),
    Case(
        "no body without a lease",
        "released before",
        tale(grant(1, 0), release(1, 5), action("hold", 10, key=STOCK)),
        tale(grant(1, 0), release(1, 15), action("hold", 10, key=STOCK)),
    ),
    Case(
        "one step at most",
        "goes on after the next one began",
        tale(
            grant(1, 0),
            stopped(3, 150),
            grant(2, 101, who="b"),
            action("hold", 2, key=STOCK, steps=[2, 151, 160]),
            action("hold", 103, who="b", key=STOCK, steps=[103]),
        ),
        tale(
            grant(1, 0),
            stopped(3, 150),
            grant(2, 101, who="b"),
            action("hold", 2, key=STOCK, steps=[2, 151]),
            action("hold", 103, who="b", key=STOCK, steps=[103, 110, 160]),
        ),
    ),
    Case(
        "one step at most",
        "begins after the next one, and goes on",
        tale(
            grant(1, 0, 150),
            stopped(1, 150),
            grant(2, 101, who="b"),
            action("execute", 151, key=STOCK, steps=[151, 160]),
            action("execute", 103, who="b", key=STOCK),
        ),
        tale(
            grant(1, 0, 150),
            stopped(1, 150),
            grant(2, 101, who="b"),
            action("execute", 151, key=STOCK, steps=[151]),
            action("execute", 103, who="b", key=STOCK),
        ),
    ),
    Case(
        "no lost count",
        "fewer than acknowledged",
        tale(count("cache.increment", 0, 1, result=1), count("total", 5, 6, result=0)),
        tale(count("cache.increment", 0, None), count("total", 5, 6, result=0)),
    ),
    Case(
        "no lost count",
        "more than begun",
        tale(count("cache.increment", 0, 1, result=1), count("total", 5, 6, result=2)),
        tale(
            count("cache.increment", 0, 1, result=1),
            count("cache.increment", 2),
            count("total", 5, 6, result=2),
        ),
    ),
    Case(
        "no lost count",
        "counts what failed",
        tale(count("cache.increment", 0, 1, error="BackendBusy"), count("total", 5, 6, result=1)),
        tale(count("cache.increment", 0, 1, error="BackendBusy"), count("total", 5, 6, result=0)),
    ),
    Case(
        "no lost count",
        "two get the same number",
        tale(count("cache.increment", 0, 9, result=1), count("cache.increment", 1, 8, result=1)),
        tale(count("cache.increment", 0, 9, result=1), count("cache.increment", 1, 8, result=2)),
    ),
    Case(
        "no lost count",
        "a failure is forgotten",
        tale(
            action("circuit_breaker.record_failure", 0, 1, key="counts", result=1),
            action("total", 5, 6, key="counts", result=0),
        ),
        tale(
            action("circuit_breaker.record_failure", 0, 1, key="counts", result=1),
            action("total", 5, 6, key="counts", result=1),
        ),
    ),
    Case(
        "no lost update",
        "the same number from two holders",
        tale(
            grant(1, 0),
            write(1, 2, 3, key="counted:stock:0", value=1),
            release(1, 4),
            grant(2, 6, who="b"),
            write(2, 8, 9, who="b", key="counted:stock:0", value=1),
        ),
        tale(
            grant(1, 0),
            write(1, 2, 3, key="counted:stock:0", value=1),
            release(1, 4),
            grant(2, 6, who="b"),
            write(2, 8, 9, who="b", key="counted:stock:0", value=3),
        ),
    ),
    Case(
        "writes stay",
        "an acknowledged one is gone",
        tale(action("write", 0, 1, key="n", value=4), action("read", 2, 3, key="n")),
        tale(action("write", 0, None, key="n", value=4), action("read", 2, 3, key="n")),
    ),
    Case(
        "writes stay",
        "a number that nobody wrote",
        tale(action("write", 0, 1, key="n", value=4), action("read", 2, 3, key="n", result=5)),
        tale(action("write", 0, None, key="n", value=4), action("read", 2, 3, key="n", result=4)),
    ),
    Case(
        "entries stay",
        "gone without a cause",
        tale(entry(), look(900, present=False)),
        tale(entry(), look(900, present=True)),
    ),
    Case(
        "entries stay",
        "gone before its time",
        tale(entry(ttl_ms=500), look(400, present=False)),
        tale(entry(ttl_ms=500), look(500, present=False)),
    ),
    Case(
        "entries stay",
        "there after its time",
        tale(entry(ttl_ms=500), look(600, present=True)),
        tale(entry(ttl_ms=500), look(510, present=True)),
    ),
    Case(
        "entries stay",
        "there after its tag was deleted",
        tale(entry("red"), action("delete_by_tag", 5, 6, key="red"), look(9, present=True)),
        tale(entry("red"), action("delete_by_tag", 5, 6, key="green"), look(9, present=True)),
    ),
    Case(
        "entries stay",
        "gone with another tag",
        tale(entry("red"), action("delete_by_tag", 5, 6, key="green"), look(9, present=False)),
        tale(entry("red"), action("delete_by_tag", 5, None, key="red"), look(9, present=False)),
    ),
    Case(
        "tasks resume",
        "before the last acknowledged save",
        tale(own(50, ["r", 1]), save(1, 10, 11), save(2, 20, 21)),
        tale(own(50, ["r", 1]), save(1, 10, 11), save(2, 20, None)),
    ),
    Case(
        "tasks resume",
        "from the beginning",
        tale(own(50, None), save(1, 10, 11)),
        tale(
            own(50, None),
            save(1, 10, 11),
            action("checkpoint.delete_all", 20, key="etl:0", token=1, fence=ETL),
        ),
    ),
    Case(
        "tasks resume",
        "a run that was over",
        tale(own(50, ["r", 1]), save(1, 10, 11), action("run", 2, 30, key="etl:0", result="r")),
        tale(
            own(50, None),
            save(1, 10, 11),
            action("run", 2, 30, key="etl:0", result="r"),
            action("checkpoint.delete_all", 20, 21, key="etl:0", token=1, fence=ETL),
        ),
    ),
    Case(
        "tasks resume",
        "nothing is left at the end",
        tale(save(1, 10, 11), action("latest", 20, 21, key="etl:0")),
        tale(save(1, 10, 11), action("latest", 20, 21, key="etl:0", result=["r", 1])),
    ),
    Case(
        "one result",
        "another one later",
        tale(answer("v", 0), answer("w", 9)),
        tale(answer("v", 0), answer("v", 9)),
    ),
    Case(
        "one result",
        "forgotten",
        tale(answer("v", 0), action("recall", 9, 10, key="charge:0")),
        tale(answer("v", 0), answer("v", 9, "recall")),
    ),
    Case(
        "completed once",
        "by two owners, one after the other",
        stored_twice(set_by_second()),
        stored_twice(release(2, 30, "b", CHARGE)),
    ),
    Case(
        "nothing is done again",
        "a stored call is executed",
        stored_twice(action("execute", 22, who="b", key=CHARGE)),
        tale(
            grant(1, 0, key=CHARGE),
            action("execute", 2, 9, key=CHARGE),
            action("idempotency.set", 10, 12, key="charge:0", token=1, fence=CHARGE),
        ),
    ),
    Case(
        "nothing is done again",
        "a stored value is computed",
        tale(
            action("cache.set", 0, 1, key="page:0", token=0, fence=PAGE),
            grant(1, 10, key=PAGE),
            action("compute", 12, key=PAGE, value=700),
        ),
        tale(
            action("cache.set", 0, 1, key="page:0", token=0, fence=PAGE),
            grant(1, 710, key=PAGE),
            action("compute", 712, key=PAGE, value=700),
        ),
    ),
    Case(
        "values were computed",
        "nobody computed it",
        action("get_or_set", 0, 9, key="page:0", result="a:0"),
        action("get_or_set", 0, 9, key="page:0", error="ConnectionError"),
    ),
    Case(
        "no revival",
        "renewed after its end",
        tale(grant(1, 0), renew(1, 102)),
        tale(grant(1, 0), renew(1, 99), renew(1, 199)),
    ),
    Case(
        "no unguarded write",
        "a result without a fence",
        action("idempotency.set", 10, 12, key="charge:0"),
        action("cache.set", 10, 12, key="page:0", error="BackendBusy"),
    ),
    Case(
        "no unguarded write",
        "the outcome of a probe without a fence",
        action("circuit_breaker.record_failure", 10, 12, key="down", result=1),
        action("circuit_breaker.record_failure", 10, 12, key="heals", result=1),
    ),
    Case(
        "nobody fails",
        "an exit, whose leases are free",
        tale(grant(1, 0), grant(2, 10, who="b"), mark("exit", 50, "a", "1: Error")),
        tale(grant(1, 0), release(1, 5), grant(2, 10, who="b"), mark("exit", 50, "a", 0)),
    ),
    Case("nobody fails", "an exit", mark("exit", 0, "a", "1: Error"), mark("exit", 0, "a", 0)),
    Case(
        "nobody fails", "the file", mark("integrity", 0, "f", "no"), mark("integrity", 0, "f", "ok")
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rule}: {case.name}")
def test_a_broken_rule_is_found_and_no_other(case: Case) -> None:
    assert {violation.rule for violation in check(history(case.bad))} == {case.rule}
    assert check(history(case.good)) == []


def test_every_rule_is_broken_by_a_case() -> None:
    """Each rule that is left out of the checker leaves a history without its violation."""
    for rule in RULES:
        assert any(list(rule(history(case.bad))) for case in CASES), rule.__name__


def test_a_value_returned_by_a_computation_is_no_violation() -> None:
    facts = action("compute", 2, 5, key=PAGE, value=700)
    name = f"{facts[0].who}:{facts[0].id}"
    got = action("get_or_set", 0, 9, key="page:0", result=name)
    assert check(history(tale(grant(1, 0, key=PAGE), facts, got))) == []


def test_a_story_has_the_lines_around_the_violation_and_no_others() -> None:
    bad = tale(grant(1, 0), renew(1, 60, renewed=False), grant(2, 80, who="b"))
    bad += write(1, 70, 71, key="counted:stock:0", value=1)
    elsewhere = tale(grant(3, 82, who="c", key=PAGE), release(2, 150, "b"), grant(4, 500))
    told = history(tale(bad, elsewhere))
    (violation,) = check(told)
    lines = story(told, violation).splitlines()
    assert lines[0] == f"one holder: {STOCK}: token 2 was granted while a held 1"
    assert len(lines) == 1 + len(bad)


def test_the_table_counts_what_happened() -> None:
    records = tale(
        action("operation", 0, 9, key="lock"),
        action("operation", 0, 9, key="lock", error="LockTimeout"),
        grant(1, 0),
        mark("kill", 50, "a"),
        grant(2, 60, who="b"),
        stopped(70, 2000, "b"),
        grant(3, 1500, who="c"),
        write(2, 2001, 2002, who="b", error="LeaseLost"),
    )
    lines = [line.split() for line in table(history(records), []).splitlines()]
    assert ["lock", "2", "1", "1", "LockTimeout"] in lines
    counts = {" ".join(words[:-1]): words[-1] for words in lines}
    assert counts["processes killed"] == "1"
    assert counts["for longer than a lease"] == "1"
    assert counts["leases taken over from the dead"] == "1"
    assert counts["leases taken over after their expiry"] == "1"
    assert counts["refused"] == "1"


def history(records: Records) -> History:
    return History(sorted(records, key=lambda record: record.t))
