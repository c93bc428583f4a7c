"""The report of a history: the table of counts, and the story of a violation."""

from __future__ import annotations

from .histories import (
    PAGE,
    STOCK,
    action,
    combine,
    grant,
    history,
    mark,
    release,
    renew,
    suspended,
    write,
)
from .report import story, table
from .rules import check


def test_a_story_has_only_the_lines_around_the_violation() -> None:
    bad = combine(grant(1, 0), renew(1, 60, renewed=False), grant(2, 80, process="b"))
    bad += write(1, 70, 71, key="count:stock:0", value=1)
    elsewhere = combine(grant(3, 82, process="c", key=PAGE), release(2, 150, "b"), grant(4, 500))
    recorded = history(combine(bad, elsewhere))
    (violation,) = check(recorded)
    lines = story(recorded, violation).splitlines()
    assert lines[0] == f"one holder: {STOCK}: token 2 was granted while a held 1"
    assert len(lines) == 1 + len(bad)


def test_the_table_counts_faults_takeovers_and_refused_writes() -> None:
    records = combine(
        action("operation", 0, 9, key="lock"),
        action("operation", 0, 9, key="lock", error="LockTimeout"),
        grant(1, 0),
        mark("kill", 50, "a"),
        grant(2, 60, process="b"),
        suspended(70, 2000, "b"),
        grant(3, 1500, process="c"),
        write(2, 2001, 2002, process="b", error="LeaseLost"),
    )
    lines = [line.split() for line in table(history(records), []).splitlines()]
    assert ["lock", "2", "1", "1", "LockTimeout"] in lines
    counts = {" ".join(words[:-1]): words[-1] for words in lines}
    assert counts["processes killed"] == "1"
    assert counts["for longer than a lease"] == "1"
    assert counts["leases taken over from dead processes"] == "1"
    assert counts["leases taken over after their expiry"] == "1"
    assert counts["refused"] == "1"
