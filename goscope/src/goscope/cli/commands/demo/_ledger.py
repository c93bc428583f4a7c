"""The ledger: checks of an import against the store and the log of the service."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from .... import Scope
from ._airports import Airport
from ._log import Call, Charge, Enrichment
from ._records import Record, Shard
from ._store import KILLED, REJECTED, RUNS, Kill, Resumption, charge_key

SCHEMA_BYTES: Final = 300_000
RECORD_BYTES: Final = 500
"""Upper bounds for the empty tables and for one record. A larger file keeps stale rows."""

MAX_NAMES: Final = 5


class Check(NamedTuple):
    """One line of the ledger. ``expected`` says why the check failed, "" if it passed."""

    name: str
    value: str
    expected: str = ""

    @property
    def passed(self) -> bool:
        return not self.expected


class Facts(NamedTuple):
    """The data that the checks read. None of it comes from the memory of a worker."""

    shards: Sequence[Shard]
    batch: int
    imported: frozenset[str]
    calls: Sequence[Call]
    runs: int
    rejected: int
    kill: Kill | None
    resumptions: Sequence[Resumption]
    kill_expected: bool
    file_size: int = 0
    receipts: Mapping[str, int] = {}
    rows: Sequence[Airport] | None = None

    @property
    def records(self) -> list[Record]:
        return [record for shard in self.shards for record in shard.records]

    @property
    def charges(self) -> list[Charge]:
        return [call for call in self.calls if isinstance(call, Charge)]

    @property
    def enrichments(self) -> list[Enrichment]:
        return [call for call in self.calls if isinstance(call, Enrichment)]

    def ended_early(self, worker: str) -> bool:
        """Whether a worker was killed or belonged to an interrupted run."""
        killed = self.kill is not None and self.kill.worker == worker
        return killed or _run_of(worker) < self.runs


async def gather(
    gs: Scope,
    shards: Sequence[Shard],
    batch: int,
    calls: Sequence[Call],
    *,
    kill_expected: bool,
    rows: Sequence[Airport] | None = None,
) -> Facts:
    """Read the facts from the store. Add the file size after the store is closed."""
    receipts: dict[str, int] = {}
    for shard in shards:
        for record in shard.records:
            result = await gs.idempotency.get(charge_key(record.icao))
            if result is not None:
                receipts[record.icao] = result.value["receipt"]
    resumptions = await gs.cache.get_many(await gs.cache.keys("resumed:*"), type=Resumption)
    return Facts(
        shards,
        batch,
        frozenset(receipts),
        calls,
        runs=await gs.cache.get(RUNS, 0, type=int),
        rejected=await gs.cache.get(REJECTED, 0, type=int),
        kill=await gs.cache.get(KILLED, type=Kill),
        resumptions=list(resumptions.values()),
        kill_expected=kill_expected,
        receipts=receipts,
        rows=rows,
    )


def check(facts: Facts) -> list[Check]:
    """Check a completed import."""
    checks: list[Callable[[Facts], Check | None]] = [
        _imported,
        _charged,
        _duplicates,
        _repeated,
        _outage,
        _hit_rate,
        _resumed,
        _rows,
        _rows_of_the_killed,
        _size,
    ]
    return [result for each in checks if (result := each(facts)) is not None]


def _imported(facts: Facts) -> Check:
    wanted = {record.icao for record in facts.records}
    missing = wanted - facts.imported
    return Check(
        "records imported",
        f"{len(facts.imported):,} of {len(wanted):,}",
        f"expected all; missing in the store: {_some(missing)}" if missing else "",
    )


def _charged(facts: Facts) -> Check:
    charged = {charge.icao for charge in facts.charges}
    odd = charged ^ facts.imported
    return Check(
        "records charged",
        f"{len(charged):,} in the log of the service",
        f"expected the imported records; only imported or only charged: {_some(odd)}"
        if odd
        else "",
    )


def _duplicates(facts: Facts) -> Check:
    times = Counter(charge.icao for charge in facts.charges if not charge.repeated)
    twice = [icao for icao, count in times.items() if count > 1]
    surplus = times.total() - len(times)
    return Check(
        "duplicate charges",
        f"{surplus:,}",
        f"expected 0; charged more than once: {_some(twice)}" if twice else "",
    )


def _repeated(facts: Facts) -> Check:
    """A caller that dies leaves the outcome of its call unknown, so the call is repeated."""
    callers: defaultdict[str, list[str]] = defaultdict(list)
    for charge in facts.charges:
        callers[charge.icao].append(charge.by)
    repeated = len(facts.charges) - len(callers)
    needless = _repeated_needlessly(facts, callers)
    return Check(
        "charge requests repeated",
        f"{repeated:,}, recognized by key and not charged again" if repeated else "0",
        f"expected only requests of workers that ended early; also repeated: {_some(needless)}"
        if needless
        else "",
    )


def _outage(facts: Facts) -> Check:
    failed = sum(call.failed for call in facts.enrichments)
    return Check(
        "calls during the outage",
        f"{facts.rejected:,} rejected by the open circuit, {failed:,} failed by the service",
        "" if facts.rejected and failed else "expected an outage and an open circuit",
    )


def _hit_rate(facts: Facts) -> Check:
    """Each imported record reads its place once: from the service or else from the cache."""
    callers: defaultdict[str, list[str]] = defaultdict(list)
    for call in facts.enrichments:
        if not call.failed:
            callers[call.place].append(call.by)
    answers = sum(map(len, callers.values()))
    needless = _repeated_needlessly(facts, callers)
    rate = 1 - answers / max(len(facts.imported), 1)
    return Check(
        "cache hit rate",
        f"{rate:.1%}: the service answered {answers:,} lookups for {len(facts.imported):,} records",
        f"expected one answer per place; answered again: {_some(needless)}" if needless else "",
    )


def _resumed(facts: Facts) -> Check | None:
    kill = facts.kill
    if kill is None:
        expected = "expected a worker killed in the middle of a shard"
        return Check("worker killed", "none", expected) if facts.kill_expected else None
    name, shard = "shard of the killed worker", facts.shards[kill.shard]
    resumption = _first_resumption(facts, kill)
    if resumption is None:
        return Check(name, f"{kill.shard}, not resumed", "expected another worker to resume it")
    begin = resumption.checkpoint * facts.batch
    before = {record.icao for record in shard.records[:begin]}
    again = {call.icao for call in facts.charges if call.by == resumption.worker} & before
    expected = ""
    if begin < kill.done:
        expected = f"expected record {kill.done:,}, its checkpoint, or a later one"
    elif again:
        expected = f"expected no request for an earlier record; requested again: {_some(again)}"
    return Check(
        name,
        f"{kill.shard}, resumed by worker {resumption.worker} "
        f"at record {begin:,} of {shard.size:,}",
        expected,
    )


def _rows(facts: Facts) -> Check | None:
    """Rows are committed with checkpoints, so a kill neither loses nor repeats any."""
    if facts.rows is None:
        return None
    times = Counter(row.icao for row in facts.rows)
    odd = {row.icao for row in facts.rows if facts.receipts.get(row.icao) != row.receipt}
    odd |= {icao for icao, count in times.items() if count > 1} | (facts.imported - times.keys())
    return Check(
        "rows in the airport table",
        f"{len(facts.rows):,}, each with the receipt of its result",
        f"expected one for each result; other, missing or repeated: {_some(odd)}" if odd else "",
    )


def _rows_of_the_killed(facts: Facts) -> Check | None:
    """The checkpoint says which rows of the shard were there before it was resumed."""
    kill = facts.kill
    resumption = None if kill is None else _first_resumption(facts, kill)
    if facts.rows is None or kill is None or resumption is None:
        return None
    shard = facts.shards[kill.shard]
    begin = resumption.checkpoint * facts.batch
    before = {record.icao for record in shard.records[:begin]}
    in_shard = {record.icao for record in shard.records}
    early = {row.icao for row in facts.rows if row.worker != resumption.worker} & in_shard
    odd = before ^ early if facts.runs == _run_of(resumption.worker) else set[str]()
    return Check(
        "rows of the killed worker's shard",
        f"{len(early):,} before the checkpoint, {len(in_shard - early):,} after it",
        f"expected {len(before):,} before it; on the other side: {_some(odd)}" if odd else "",
    )


def _size(facts: Facts) -> Check | None:
    if not facts.file_size:
        return None  # the store has no file in the folder
    limit = SCHEMA_BYTES + RECORD_BYTES * len(facts.records)
    return Check(
        "file size",
        f"{facts.file_size / 1_000_000:.1f} MB",
        f"expected at most {limit / 1_000_000:.1f} MB" if facts.file_size > limit else "",
    )


def _repeated_needlessly(facts: Facts, callers: dict[str, list[str]]) -> list[str]:
    """The subjects called again although every earlier caller could have got its answer."""
    return [
        subject
        for subject, workers in callers.items()
        if not all(map(facts.ended_early, workers[:-1]))
    ]


def _first_resumption(facts: Facts, kill: Kill) -> Resumption | None:
    """The resumption right after the kill. Later ones start at later checkpoints.

    Interrupted runs before the kill may have left resumptions of the same shard.
    """
    found = [
        resumption
        for resumption in facts.resumptions
        if resumption.shard == kill.shard
        and resumption.worker != kill.worker
        and _run_of(resumption.worker) >= _run_of(kill.worker)
    ]
    return min(found, key=lambda resumption: resumption.checkpoint, default=None)


def _run_of(worker: str) -> int:
    """The run of a worker: its name is ``RUN.NUMBER``."""
    return int(worker.partition(".")[0])


def _some(names: Iterable[str]) -> str:
    names = sorted(names)
    more = len(names) - MAX_NAMES
    return ", ".join(names[:MAX_NAMES]) + (f" and {more:,} more" if more > 0 else "")
