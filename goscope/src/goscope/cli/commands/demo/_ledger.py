"""The ledger: what the store and the service's own log say of an import, line by line."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from .... import Scope
from ._log import Call, Charge, Enrichment
from ._records import Record, Shard
from ._store import KILLED, RUNS, SPARED, Kill, Resumption, charge_key

EMPTY_BYTES: Final = 300_000
BYTES_PER_RECORD: Final = 500
"""More than tables without rows, and a record, take: a larger file keeps what it should not."""


class Line(NamedTuple):
    """One fact; ``wrong`` is what was expected instead, "" when all is as it must be."""

    name: str
    value: str
    wrong: str = ""


class Facts(NamedTuple):
    """What the ledger is computed from: nothing that a worker remembers."""

    shards: Sequence[Shard]
    batch: int
    imported: frozenset[str]
    calls: Sequence[Call]
    runs: int
    spared: int
    kill: Kill | None
    resumptions: Sequence[Resumption]
    kill_expected: bool
    file_size: int = 0

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
        """Whether a worker was killed, or belonged to a run that was interrupted."""
        killed = self.kill is not None and self.kill.worker == worker
        return killed or _run_of(worker) < self.runs


async def gather(
    gs: Scope,
    shards: Sequence[Shard],
    batch: int,
    calls: Sequence[Call],
    *,
    kill_expected: bool,
) -> Facts:
    """Read the facts from the store. The size of its file is known after it was closed."""
    imported = [
        record.icao
        for shard in shards
        for record in shard.records
        if await gs.idempotency.get(charge_key(record.icao)) is not None
    ]
    resumptions = await gs.cache.get_many(await gs.cache.keys("resumed:*"), type=Resumption)
    return Facts(
        shards,
        batch,
        frozenset(imported),
        calls,
        runs=await gs.cache.get(RUNS, 0, type=int),
        spared=await gs.cache.get(SPARED, 0, type=int),
        kill=await gs.cache.get(KILLED, type=Kill),
        resumptions=list(resumptions.values()),
        kill_expected=kill_expected,
    )


def lines(facts: Facts) -> list[Line]:
    """The ledger of an import that is over."""
    entries: list[Callable[[Facts], Line | None]] = [
        _imported,
        _charged,
        _duplicates,
        _repeated,
        _spared,
        _hit_rate,
        _resumed,
        _size,
    ]
    return [line for entry in entries if (line := entry(facts)) is not None]


def _imported(facts: Facts) -> Line:
    wanted = {record.icao for record in facts.records}
    missing = wanted - facts.imported
    return Line(
        "records imported",
        f"{len(facts.imported):,} of {len(wanted):,}",
        f"expected all; not in the store: {_some(missing)}" if missing else "",
    )


def _charged(facts: Facts) -> Line:
    charged = {charge.icao for charge in facts.charges}
    odd = charged ^ facts.imported
    return Line(
        "records charged",
        f"{len(charged):,}, by the service's log",
        f"expected the imported ones; in one of the two only: {_some(odd)}" if odd else "",
    )


def _duplicates(facts: Facts) -> Line:
    times = Counter(charge.icao for charge in facts.charges if not charge.repeated)
    twice = [icao for icao, count in times.items() if count > 1]
    surplus = times.total() - len(times)
    return Line(
        "duplicate charges",
        f"{surplus:,}",
        f"expected 0; charged more than once: {_some(twice)}" if twice else "",
    )


def _repeated(facts: Facts) -> Line:
    """Nobody can know how far the call of a dead process came, so it is made once more."""
    callers: defaultdict[str, list[str]] = defaultdict(list)
    for charge in facts.charges:
        callers[charge.icao].append(charge.by)
    without_reason = _repeated_by_the_living(facts, callers)
    return Line(
        "charge calls repeated",
        f"{len(facts.charges) - len(callers):,}, recognized by their key and not charged again",
        f"expected only those whose caller died; repeated beyond that: {_some(without_reason)}"
        if without_reason
        else "",
    )


def _spared(facts: Facts) -> Line:
    failed = sum(call.failed for call in facts.enrichments)
    return Line(
        "calls the circuit spared",
        f"{facts.spared:,}, while the service failed {failed:,} times",
        "" if facts.spared and failed else "expected an outage and an open circuit",
    )


def _hit_rate(facts: Facts) -> Line:
    """Each imported record needed its place once: what the service did not tell, the cache did."""
    callers: defaultdict[str, list[str]] = defaultdict(list)
    for call in facts.enrichments:
        if not call.failed:
            callers[call.place].append(call.by)
    answers = sum(map(len, callers.values()))
    twice = _repeated_by_the_living(facts, callers)
    rate = 1 - answers / max(len(facts.imported), 1)
    return Line(
        "cache hit rate",
        f"{rate:.1%}: {answers:,} answers of the service did for {len(facts.imported):,} records",
        f"expected one answer a place; asked again without need: {_some(twice)}" if twice else "",
    )


def _resumed(facts: Facts) -> Line | None:
    kill = facts.kill
    if kill is None:
        wrong = "expected a worker killed in the middle of a shard" if facts.kill_expected else ""
        return Line("worker killed", "none", wrong) if wrong else None
    name, shard = "killed worker's shard", facts.shards[kill.shard]
    resumption = _first_resumption(facts, kill)
    if resumption is None:
        return Line(name, f"{kill.shard}, not resumed", "expected another worker to resume it")
    begin = resumption.checkpoint * facts.batch
    before = {record.icao for record in shard.records[:begin]}
    again = {call.icao for call in facts.charges if call.by == resumption.worker} & before
    wrong = ""
    if begin < kill.done:
        wrong = f"expected its checkpoint at record {kill.done:,} or a later one"
    elif again:
        wrong = f"expected nothing before that to be called again: {_some(again)}"
    return Line(
        name,
        f"{kill.shard}, resumed at record {begin:,} of {shard.size:,} by worker "
        f"{resumption.worker}, after worker {kill.worker} was killed",
        wrong,
    )


def _size(facts: Facts) -> Line | None:
    if not facts.file_size:
        return None  # the store keeps its data elsewhere
    most = EMPTY_BYTES + BYTES_PER_RECORD * len(facts.records)
    return Line(
        "file size",
        f"{facts.file_size / 1_000_000:.1f} MB",
        f"expected at most {most / 1_000_000:.1f} MB" if facts.file_size > most else "",
    )


def _repeated_by_the_living(facts: Facts, callers: dict[str, list[str]]) -> list[str]:
    """What was called again although the earlier caller lived on and got its answer."""
    return [
        subject
        for subject, workers in callers.items()
        if not all(map(facts.ended_early, workers[:-1]))
    ]


def _first_resumption(facts: Facts, kill: Kill) -> Resumption | None:
    """Whoever took the shard over from the killed worker; later ones resume further on.

    Runs before that of the kill may have been interrupted, and the shard been resumed then too.
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
    """The run a worker belongs to: the first half of its name."""
    return int(worker.partition(".")[0])


def _some(names: Iterable[str]) -> str:
    names = sorted(names)
    return ", ".join(names[:5]) + (f" and {len(names) - 5:,} more" if len(names) > 5 else "")
