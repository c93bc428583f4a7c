"""Histories that break the rules about counters and cache entries."""

from __future__ import annotations

from typing import Final

from .histories import Case, action, combine, counter, entry, grant, has, release, write

DATA_CASES: Final = [
    Case(
        "no lost count",
        "less than acknowledged",
        combine(counter("cache.increment", 0, 1, result=1), counter("total", 5, 6, result=0)),
        combine(counter("cache.increment", 0, None), counter("total", 5, 6, result=0)),
    ),
    Case(
        "no lost count",
        "more than begun",
        combine(counter("cache.increment", 0, 1, result=1), counter("total", 5, 6, result=2)),
        combine(
            counter("cache.increment", 0, 1, result=1),
            counter("cache.increment", 2),
            counter("total", 5, 6, result=2),
        ),
    ),
    Case(
        "no lost count",
        "includes a failed increment",
        combine(
            counter("cache.increment", 0, 1, error="BackendBusy"), counter("total", 5, 6, result=1)
        ),
        combine(
            counter("cache.increment", 0, 1, error="BackendBusy"), counter("total", 5, 6, result=0)
        ),
    ),
    Case(
        "no lost count",
        "the same number twice",
        combine(
            counter("cache.increment", 0, 9, result=1), counter("cache.increment", 1, 8, result=1)
        ),
        combine(
            counter("cache.increment", 0, 9, result=1), counter("cache.increment", 1, 8, result=2)
        ),
    ),
    Case(
        "no lost count",
        "a lost failure",
        combine(
            action("circuit_breaker.record_failure", 0, 1, key="counts", result=1),
            action("total", 5, 6, key="counts", result=0),
        ),
        combine(
            action("circuit_breaker.record_failure", 0, 1, key="counts", result=1),
            action("total", 5, 6, key="counts", result=1),
        ),
    ),
    Case(
        "no lost update",
        "the same number from two holders",
        combine(
            grant(1, 0),
            write(1, 2, 3, key="count:stock:0", value=1),
            release(1, 4),
            grant(2, 6, process="b"),
            write(2, 8, 9, process="b", key="count:stock:0", value=1),
        ),
        combine(
            grant(1, 0),
            write(1, 2, 3, key="count:stock:0", value=1),
            release(1, 4),
            grant(2, 6, process="b"),
            write(2, 8, 9, process="b", key="count:stock:0", value=3),
        ),
    ),
    Case(
        "no lost write",
        "an acknowledged write is lost",
        combine(action("write", 0, 1, key="n", value=4), action("read", 2, 3, key="n")),
        combine(action("write", 0, None, key="n", value=4), action("read", 2, 3, key="n")),
    ),
    Case(
        "no lost write",
        "a number that was not written",
        combine(action("write", 0, 1, key="n", value=4), action("read", 2, 3, key="n", result=5)),
        combine(
            action("write", 0, None, key="n", value=4), action("read", 2, 3, key="n", result=4)
        ),
    ),
    Case(
        "entry lifetime",
        "lost",
        combine(entry(), has(900, present=False)),
        combine(entry(), has(900, present=True)),
    ),
    Case(
        "entry lifetime",
        "expired too early",
        combine(entry(ttl_ms=500), has(400, present=False)),
        combine(entry(ttl_ms=500), has(500, present=False)),
    ),
    Case(
        "entry lifetime",
        "present after its ttl",
        combine(entry(ttl_ms=500), has(600, present=True)),
        combine(entry(ttl_ms=500), has(510, present=True)),
    ),
    Case(
        "entry lifetime",
        "present after the deletion of its tag",
        combine(entry("red"), action("delete_by_tag", 5, 6, key="red"), has(9, present=True)),
        combine(entry("red"), action("delete_by_tag", 5, 6, key="green"), has(9, present=True)),
    ),
    Case(
        "entry lifetime",
        "deleted with another tag",
        combine(entry("red"), action("delete_by_tag", 5, 6, key="green"), has(9, present=False)),
        combine(entry("red"), action("delete_by_tag", 5, None, key="red"), has(9, present=False)),
    ),
]
