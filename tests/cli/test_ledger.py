"""Each check of the ledger fails when its fact of a real import is changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import pytest_asyncio

import goscope
from goscope.cli.commands.demo import _airports, _ledger, _log, _records
from goscope.cli.commands.demo._ledger import Facts
from goscope.cli.commands.demo._log import Call, Charge, Enrichment
from goscope.cli.commands.demo._plan import Folder
from goscope.cli.commands.demo._store import Kill

from .demo_runs import Run


@pytest_asyncio.fixture
async def facts(original: tuple[Path, Run]) -> Facts:
    folder = Folder(str(original[0]))
    plan = folder.load_or_create_plan(None, None)
    shards = _records.split(_records.load(plan.records))
    scope = goscope.Scope(backend="sqlite", path=folder.database, key_prefix=f"demo-{plan.id}:")
    async with scope as gs:
        calls = _log.read(folder.service_log)
        rows = await _airports.read(gs)
        found = await _ledger.gather(gs, shards, plan.batch, calls, kill_expected=True, rows=rows)
    return found._replace(file_size=folder.file_size())


def failures(facts: Facts) -> dict[str, str]:
    """The failed checks: what each one expected, by name."""
    return {check.name: check.expected for check in _ledger.check(facts) if not check.passed}


def first_charge(facts: Facts) -> Charge:
    return next(charge for charge in facts.charges if not facts.ended_early(charge.by))


def charged_twice(facts: Facts) -> Facts:
    return facts._replace(calls=[*facts.calls, first_charge(facts)])


def never_charged(facts: Facts) -> Facts:
    icao = first_charge(facts).icao
    kept = [call for call in facts.calls if not (isinstance(call, Charge) and call.icao == icao)]
    return facts._replace(calls=kept)


def repeated_by_a_live_worker(facts: Facts) -> Facts:
    charge = first_charge(facts)
    return facts._replace(calls=[*facts.calls, Charge(charge.icao, charge.by, repeated=True)])


def answered_twice(facts: Facts) -> Facts:
    answered = next(c for c in facts.enrichments if not c.failed and not facts.ended_early(c.by))
    return facts._replace(calls=[*facts.calls, answered])


def never_failed(facts: Facts) -> Facts:
    calls = [call for call in facts.calls if not (isinstance(call, Enrichment) and call.failed)]
    return facts._replace(calls=calls)


def resumed_too_early(facts: Facts) -> Facts:
    assert facts.kill is not None
    later = facts.kill.done + facts.batch
    return facts._replace(kill=Kill(facts.kill.worker, facts.kill.shard, later * 100))


def row_written_twice(facts: Facts) -> Facts:
    assert facts.rows
    return facts._replace(rows=[*facts.rows, facts.rows[0]])


def row_with_another_receipt(facts: Facts) -> Facts:
    assert facts.rows
    first, *others = facts.rows
    return facts._replace(rows=[first._replace(receipt=-1), *others])


def row_on_the_other_side_of_the_checkpoint(facts: Facts) -> Facts:
    assert facts.rows
    assert facts.kill is not None
    resumption = _ledger._first_resumption(facts, facts.kill)
    assert resumption is not None
    first = facts.shards[facts.kill.shard].records[0].icao
    return facts._replace(
        rows=[
            row._replace(worker=resumption.worker) if row.icao == first else row
            for row in facts.rows
        ]
    )


CHANGES: list[tuple[Callable[[Facts], Facts], str, str]] = [
    (charged_twice, "duplicate charges", "expected 0; charged more than once: "),
    (never_charged, "records charged", "only imported or only charged: "),
    (
        repeated_by_a_live_worker,
        "charge requests repeated",
        "expected only requests of workers that ended early",
    ),
    (answered_twice, "cache hit rate", "expected one answer per place"),
    (never_failed, "calls during the outage", "expected an outage"),
    (lambda facts: facts._replace(rejected=0), "calls during the outage", "expected an outage"),
    (
        lambda facts: facts._replace(imported=frozenset(sorted(facts.imported)[1:])),
        "records imported",
        "expected all; missing in the store: ",
    ),
    (lambda facts: facts._replace(kill=None), "worker killed", "expected a worker killed"),
    (resumed_too_early, "shard of the killed worker", "its checkpoint, or a later one"),
    (
        lambda facts: facts._replace(resumptions=[]),
        "shard of the killed worker",
        "expected another worker to resume it",
    ),
    (row_written_twice, "rows in the airport table", "missing or repeated: "),
    (row_with_another_receipt, "rows in the airport table", "missing or repeated: "),
    (
        row_on_the_other_side_of_the_checkpoint,
        "rows of the killed worker's shard",
        "on the other side: ",
    ),
    (lambda facts: facts._replace(rows=[]), "rows in the airport table", "expected one for each"),
    (lambda facts: facts._replace(file_size=10**7), "file size", "expected at most 0.5 MB"),
]


@pytest.mark.asyncio
async def test_every_check_passes_for_an_unchanged_import(facts: Facts) -> None:
    assert failures(facts) == {}


@pytest.mark.asyncio
@pytest.mark.parametrize(("change", "name", "expected"), CHANGES)
async def test_a_changed_fact_fails_its_check(
    facts: Facts, change: Callable[[Facts], Facts], name: str, expected: str
) -> None:
    assert expected in failures(change(facts))[name]


@pytest.mark.asyncio
async def test_a_repeated_call_before_the_checkpoint_fails_its_check(
    facts: Facts,
) -> None:
    assert facts.kill is not None
    taker = facts.resumptions[0].worker
    done = facts.shards[facts.kill.shard].records[0]
    calls = [*facts.calls, Charge(done.icao, taker, repeated=True)]
    expected = failures(facts._replace(calls=calls))["shard of the killed worker"]
    assert expected == (f"expected no request for an earlier record; requested again: {done.icao}")


@pytest.mark.asyncio
async def test_calls_of_an_interrupted_run_may_be_repeated(facts: Facts) -> None:
    """The next run repeats, with the same key, a charge that Ctrl-C interrupted."""
    charge = first_charge(facts)
    calls = [*facts.calls, Charge(charge.icao, "2.1", repeated=True)]
    assert failures(facts._replace(calls=calls, runs=2)) == {}


def test_the_log_returns_every_call_in_order(tmp_path: Path) -> None:
    calls: list[Call] = [
        Enrichment("DE/Hesse", "1.1", failed=True),
        Charge("EDDF", "1.2", repeated=False),
    ]
    with _log.Writer(tmp_path / "log") as log:
        for call in calls:
            log.write(call)
    assert _log.read(tmp_path / "log") == calls
    lines = (tmp_path / "log").read_text().splitlines()
    assert json.loads(lines[1]) == {
        "type": "charge",
        "icao": "EDDF",
        "by": "1.2",
        "repeated": False,
    }
