"""Histories that break the rules about tasks, results and processes."""

from __future__ import annotations

from typing import Final

from .histories import (
    CHARGE,
    ETL,
    PAGE,
    Case,
    action,
    after_a_stored_result,
    combine,
    grant,
    mark,
    release,
    reply,
    resumption,
    save,
    second_set,
)

RESULT_CASES: Final = [
    Case(
        "tasks resume",
        "before the last acknowledged save",
        combine(resumption(50, ["r", 1]), save(1, 10, 11), save(2, 20, 21)),
        combine(resumption(50, ["r", 1]), save(1, 10, 11), save(2, 20, None)),
    ),
    Case(
        "tasks resume",
        "from the beginning",
        combine(resumption(50, None), save(1, 10, 11)),
        combine(
            resumption(50, None),
            save(1, 10, 11),
            action("checkpoint.delete_all", 20, key="etl:0", token=1, fence=ETL),
        ),
    ),
    Case(
        "tasks resume",
        "a completed run",
        combine(
            resumption(50, ["r", 1]), save(1, 10, 11), action("run", 2, 30, key="etl:0", result="r")
        ),
        combine(
            resumption(50, None),
            save(1, 10, 11),
            action("run", 2, 30, key="etl:0", result="r"),
            action("checkpoint.delete_all", 20, 21, key="etl:0", token=1, fence=ETL),
        ),
    ),
    Case(
        "tasks resume",
        "no checkpoint at the end",
        combine(save(1, 10, 11), action("load_latest", 20, 21, key="etl:0")),
        combine(save(1, 10, 11), action("load_latest", 20, 21, key="etl:0", result=["r", 1])),
    ),
    Case(
        "one result",
        "two different results",
        combine(reply("v", 0), reply("w", 9)),
        combine(reply("v", 0), reply("v", 9)),
    ),
    Case(
        "one result",
        "lost",
        combine(reply("v", 0), action("result", 9, 10, key="charge:0")),
        combine(reply("v", 0), reply("v", 9, "result")),
    ),
    Case(
        "one completion",
        "by two successive owners",
        after_a_stored_result(second_set()),
        after_a_stored_result(release(2, 30, "b", CHARGE)),
    ),
    Case(
        "no repeated work",
        "a call with a stored result is executed",
        after_a_stored_result(action("execute", 22, process="b", key=CHARGE)),
        combine(
            grant(1, 0, key=CHARGE),
            action("execute", 2, 9, key=CHARGE),
            action("idempotency.set", 10, 12, key="charge:0", token=1, fence=CHARGE),
        ),
    ),
    Case(
        "no repeated work",
        "a stored value is computed again",
        combine(
            action("cache.set", 0, 1, key="page:0", token=0, fence=PAGE),
            grant(1, 10, key=PAGE),
            action("compute", 12, key=PAGE, value=700),
        ),
        combine(
            action("cache.set", 0, 1, key="page:0", token=0, fence=PAGE),
            grant(1, 710, key=PAGE),
            action("compute", 712, key=PAGE, value=700),
        ),
    ),
    Case(
        "values are computed",
        "a value that was not computed",
        action("get_or_set", 0, 9, key="page:0", result="a:0"),
        action("get_or_set", 0, 9, key="page:0", error="ConnectionError"),
    ),
    Case(
        "no process fails",
        "an exit with an error, which ends its leases",
        combine(grant(1, 0), grant(2, 10, process="b"), mark("exit", 50, "a", "1: Error")),
        combine(grant(1, 0), release(1, 5), grant(2, 10, process="b"), mark("exit", 50, "a", 0)),
    ),
    Case(
        "no process fails",
        "an exit with an error",
        mark("exit", 0, "a", "1: Error"),
        mark("exit", 0, "a", 0),
    ),
    Case(
        "no process fails",
        "a corrupt file",
        mark("integrity", 0, "f", "no"),
        mark("integrity", 0, "f", "ok"),
    ),
]
