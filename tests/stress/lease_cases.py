"""Histories that break the rules about leases, fences and bodies."""

from __future__ import annotations

from typing import Final

from .event_log import Record
from .histories import (
    PAGE,
    STOCK,
    Case,
    action,
    combine,
    extend,
    grant,
    mark,
    ns,
    release,
    renew,
    suspended,
    write,
)

LEASE_CASES: Final = [
    Case(
        "one holder",
        "granted before the expiry",
        combine(grant(1, 0), renew(1, 60, renewed=False), grant(2, 80, process="b")),
        combine(grant(1, 0), renew(1, 60, renewed=False), grant(2, 101, process="b")),
    ),
    Case(
        "one holder",
        "granted before the expiry of a renewed lease",
        combine(grant(1, 0), renew(1, 60), renew(1, 90, renewed=False), grant(2, 150, process="b")),
        combine(grant(1, 0), renew(1, 60), renew(1, 90, renewed=False), grant(2, 161, process="b")),
    ),
    Case(
        "one holder",
        "granted before the release",
        combine(grant(1, 0), suspended(5, 6), grant(2, 10, process="b"), release(1, 20)),
        combine(grant(1, 0), suspended(5, 6), grant(2, 18, 21, process="b"), release(1, 20)),
    ),
    Case(
        "one holder",
        "granted before the death of the holder",
        combine(grant(1, 0), suspended(5, 6), grant(2, 10, process="b"), mark("kill", 20, "a")),
        combine(grant(1, 0), suspended(5, 6), grant(2, 20, process="b"), mark("kill", 20, "a")),
    ),
    Case(
        "one holder",
        "two overlapping grants before a third one",
        combine(
            grant(1, 0),
            grant(2, 0, 130, process="b"),
            suspended(1, 130, "b"),
            renew(1, 60),
            renew(1, 90, renewed=False),
            grant(3, 150, process="c"),
        ),
        combine(
            grant(1, 0),
            grant(2, 101, 230, process="b"),
            suspended(1, 230),
            suspended(102, 230, "b"),
            grant(3, 240, process="c"),
        ),
    ),
    Case(
        "tokens increase",
        "smaller than the token of another key",
        combine(grant(7, 0, key=PAGE), grant(6, 10)),
        combine(grant(7, 0, 20, key=PAGE), grant(6, 10)),
    ),
    Case(
        "tokens increase",
        "equal tokens of concurrent grants",
        combine(grant(7, 0, 20, key=PAGE), grant(7, 10)),
        combine(grant(7, 0, 20, key=PAGE), grant(8, 10)),
    ),
    Case(
        "no takeover of a live lease",
        "not renewed by a running process",
        combine(grant(1, 0), grant(2, 101, process="b")),
        combine(grant(1, 0), suspended(20, 200), grant(2, 101, process="b")),
    ),
    Case(
        "no takeover of a live lease",
        "suspended after the takeover",
        combine(grant(1, 0), suspended(120, 200), grant(2, 101, process="b")),
        combine(grant(1, 0), renew(1, 70, renewed=False), grant(2, 101, process="b")),
    ),
    Case(
        "no takeover of a live lease",
        "another process stalled",
        combine(
            grant(1, 0),
            grant(2, 101, process="b"),
            [Record(ns(90), "c", "stall", "mark", value=ns(80))],
        ),
        combine(
            grant(1, 0),
            grant(2, 101, process="b"),
            [Record(ns(90), "a", "stall", "mark", value=ns(80))],
        ),
    ),
    Case(
        "no stale write",
        "applied after a takeover",
        combine(grant(1, 0), suspended(1, 150), grant(2, 101, process="b"), write(1, 151, 152)),
        combine(grant(1, 0), suspended(1, 150), grant(2, 153, process="b"), write(1, 151, 152)),
    ),
    Case(
        "no stale write",
        "applied after a takeover and its release",
        combine(
            grant(1, 0),
            suspended(1, 150),
            grant(2, 101, process="b"),
            release(2, 120, "b"),
            write(1, 151, 152),
        ),
        combine(
            grant(1, 0),
            suspended(1, 150),
            grant(2, 101, process="b"),
            release(2, 120, "b"),
            write(1, 151, 152, error="LeaseLost"),
        ),
    ),
    Case(
        "no refusal without cause",
        "refused after an expiry without a takeover",
        combine(grant(1, 0), write(1, 151, 152, error="LeaseLost")),
        combine(grant(1, 0), write(1, 151, 152)),
    ),
    Case(
        "no refusal without cause",
        "refused before the takeover",
        combine(
            grant(1, 0),
            suspended(1, 150),
            write(1, 151, 152, error="LeaseLost"),
            grant(2, 160, process="b"),
        ),
        combine(
            grant(1, 0),
            suspended(1, 150),
            write(1, 151, 152, error="LeaseLost"),
            action("grant", 140, process="b", key=STOCK, value=100),
        ),
    ),
    Case(
        "no body without a lease",
        "no grant",
        combine(grant(1, 0, process="b"), action("hold", 10, key=STOCK)),
        combine(grant(1, 0), action("hold", 10, key=STOCK)),
    ),
    Case(
        "no body without a lease",
        "begun after the release",
        combine(grant(1, 0), release(1, 5), action("hold", 10, key=STOCK)),
        combine(grant(1, 0), release(1, 15), action("hold", 10, key=STOCK)),
    ),
    Case(
        "one late step at most",
        "two steps after the next body began",
        combine(
            grant(1, 0),
            suspended(3, 150),
            grant(2, 101, process="b"),
            action("hold", 2, key=STOCK, steps=[2, 151, 160]),
            action("hold", 103, process="b", key=STOCK, steps=[103]),
        ),
        combine(
            grant(1, 0),
            suspended(3, 150),
            grant(2, 101, process="b"),
            action("hold", 2, key=STOCK, steps=[2, 151]),
            action("hold", 103, process="b", key=STOCK, steps=[103, 110, 160]),
        ),
    ),
    Case(
        "one late step at most",
        "begun after the next body, with two steps",
        combine(
            grant(1, 0, 150),
            suspended(1, 150),
            grant(2, 101, process="b"),
            action("execute", 151, key=STOCK, steps=[151, 160]),
            action("execute", 103, process="b", key=STOCK),
        ),
        combine(
            grant(1, 0, 150),
            suspended(1, 150),
            grant(2, 101, process="b"),
            action("execute", 151, key=STOCK, steps=[151]),
            action("execute", 103, process="b", key=STOCK),
        ),
    ),
    Case(
        "no extension after expiry",
        "extended after the expiry",
        combine(grant(1, 0), extend(1, 102)),
        combine(grant(1, 0), extend(1, 99), renew(1, 210), extend(1, 250)),
    ),
    Case(
        "one holder",
        "renewed after another process was granted the lease",
        combine(grant(1, 0), suspended(20, 140), grant(2, 101, process="b"), renew(1, 150)),
        combine(grant(1, 0), suspended(20, 140), renew(1, 150), grant(2, 251, process="b")),
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
        action("circuit_breaker.record_failure", 10, 12, key="recovers", result=1),
    ),
]
