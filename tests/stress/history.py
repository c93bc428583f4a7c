"""What the logs say happened: actions from their beginnings and ends, leases from their grants."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from .record import NS_PER_MS, Record
from .witness import WRITES

ENDS_LEASE: Final = "idempotency.set"
"""Storing the result of an idempotent call ends its lease."""


Spans: TypeAlias = "list[tuple[int, int]]"


@dataclass(slots=True)
class Action:
    """Something that began at ``begin``; ``end`` is None if nobody knows how it ended."""

    what: str
    who: str
    id: int
    begin: int
    key: str = ""
    token: int | None = None
    fence: str = ""
    value: Any = None
    end: int | None = None
    result: Any = None
    error: str | None = None
    steps: list[int] = field(default_factory=list[int])

    @property
    def name(self) -> str:
        return f"{self.who}:{self.id}"

    @property
    def done(self) -> int | None:
        """When it was known to be done; None if it failed or nobody knows."""
        return None if self.error else self.end

    @property
    def possible(self) -> bool:
        """Whether it may have happened: it did not fail."""
        return self.error is None


@dataclass(slots=True)
class Grant:
    """A lease from its grant, which happened between ``asked`` and ``granted``.

    It was surely in force up to ``until``: up to its last renewal and its ttl from there, to its
    release, or to the death of its holder. ``released`` is when its release began.
    """

    key: str
    token: int
    who: str
    ttl: int
    asked: int
    granted: int
    until: int
    released: int | None = None
    renewed_in_vain: int | None = None


class History:
    """The records of one run, in the order of their times."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.records: Final = records
        self.actions: Final = _actions(records)
        self.marks: Final[dict[str, list[Record]]] = defaultdict(list)
        for record in records:
            if record.phase == "at":
                self.marks[record.what].append(record)
        self.killed: Final = {record.key: record.t for record in self.marks["kill"]}
        self.deaths: Final = self.killed | self._failures()
        self.stops: Final = self._stops()
        self.stalls: Final = self._stalls()
        self.grants: Final = self._grants()

    def all(self, *whats: str) -> list[Action]:
        """The actions of these kinds, by their beginnings."""
        found = [action for what in whats for action in self.actions[what]]
        return sorted(found, key=lambda action: action.begin) if len(whats) > 1 else found

    def by_key(self, *whats: str) -> defaultdict[str, list[Action]]:
        """The actions of these kinds by their keys, in the order of their beginnings."""
        found = defaultdict[str, list[Action]](list)
        for action in self.all(*whats):
            found[action.key].append(action)
        return found

    @property
    def guarded(self) -> list[Action]:
        """The writes that were made under a fence."""
        return [action for what in WRITES for action in self.actions[what] if action.fence]

    def was_held_up(self, who: str, begin: int, end: int) -> bool:
        """Whether the process was stopped, or did not get to run, at some time in between."""
        return _overlap(self.stops[who], begin, end) or _overlap(self.stalls[who], begin, end)

    def was_stopped(self, who: str, begin: int, end: int) -> bool:
        """Whether the process was stopped at some time in between."""
        return _overlap(self.stops[who], begin, end)

    def grant_of(self, body: Action) -> Grant | None:
        """The last grant that the body's process got before the body; None without one."""
        mine = [grant for grant in self.grants.get(body.key, ()) if grant.who == body.who]
        mine.sort(key=lambda grant: grant.granted)
        place = bisect_right(mine, body.begin, key=lambda grant: grant.granted)
        return mine[place - 1] if place else None

    # --- from the records -----------------------------------------------------------------------

    def _failures(self) -> dict[str, int]:
        """When processes that failed wrote their last record: they were gone soon after."""
        failed = {mark.key for mark in self.marks["exit"] if mark.value}
        return {record.who: record.t for record in self.records if record.who in failed}

    def _stops(self) -> defaultdict[str, Spans]:
        stops = defaultdict[str, Spans](list)
        for record in self.marks["stop"]:
            resumed = (mark.t for mark in self.marks["continue"] if mark.key == record.key)
            end = next((t for t in resumed if t > record.t), self.deaths.get(record.key))
            stops[record.key].append((record.t, record.t if end is None else end))
        return stops

    def _stalls(self) -> defaultdict[str, Spans]:
        stalls = defaultdict[str, Spans](list)
        for record in self.marks["stall"]:
            stalls[record.who].append((record.t - record.value, record.t))
        return stalls

    def _grants(self) -> dict[str, list[Grant]]:
        """The grants of each key, by their tokens."""
        grants = {(grant.key, grant.token): grant for grant in self._granted()}
        self._extend(grants)
        self._end(grants)
        by_key: dict[str, list[Grant]] = defaultdict(list)
        for (key, _), grant in sorted(grants.items()):
            by_key[key].append(grant)
        return by_key

    def _granted(self) -> Iterable[Grant]:
        for action in self.actions["grant"]:
            if action.done is not None and action.result is not None:
                ttl = action.value * NS_PER_MS
                # A millisecond less, since the store's clock counts whole ones.
                until = action.begin + ttl - NS_PER_MS
                times = (ttl, action.begin, action.done, until)
                yield Grant(action.key, action.result, action.who, *times)

    def _extend(self, grants: dict[tuple[str, int], Grant]) -> None:
        for action in self.actions["renew"]:
            grant = grants.get((action.key, action.token or 0))
            if grant is None:
                continue
            if action.result is True:
                until = action.begin + action.value * NS_PER_MS - NS_PER_MS
                grant.until = max(grant.until, until)
            elif grant.renewed_in_vain is None:
                grant.renewed_in_vain = action.begin

    def _end(self, grants: dict[tuple[str, int], Grant]) -> None:
        for action in self.all("release", ENDS_LEASE):
            grant = grants.get((action.fence or action.key, action.token or 0))
            if grant is None or grant.released is not None:
                continue
            if action.what == "release" or action.possible:
                grant.released = action.begin
        for grant in grants.values():
            for end in (grant.released, self.deaths.get(grant.who)):
                grant.until = grant.until if end is None else min(grant.until, end)


def _overlap(spans: Spans, begin: int, end: int) -> bool:
    return any(start < end and stop > begin for start, stop in spans)


def _actions(records: Iterable[Record]) -> dict[str, list[Action]]:
    actions: dict[str, list[Action]] = defaultdict(list)
    begun: dict[tuple[str, int], Action] = {}
    for record in records:
        if record.phase == "begin":
            action = Action(
                *(record.what, record.who, record.id, record.t),
                *(record.key, record.token, record.fence, record.value),
            )
            actions[record.what].append(action)
            begun[record.who, record.id] = action
        elif record.phase != "at":
            _go_on(begun[record.who, record.id], record)
    return actions


def _go_on(action: Action, record: Record) -> None:
    if record.phase == "step":
        action.steps.append(record.t)
        return
    action.end = record.t
    if record.phase == "error":
        action.error = record.value
    else:
        action.result = record.value
