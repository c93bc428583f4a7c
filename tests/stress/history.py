"""Actions and leases, reconstructed from the event logs."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from .event_log import NS_PER_MS, Record
from .recorder import WRITES

ENDS_LEASE: Final = "idempotency.set"
"""Storing the result of an idempotent call ends its lease."""

Spans: TypeAlias = "list[tuple[int, int]]"


@dataclass(slots=True)
class Action:
    """An action that began at ``begin``. ``end`` is None if its outcome is unknown."""

    kind: str
    process: str
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
        return f"{self.process}:{self.id}"

    @property
    def done(self) -> int | None:
        """When its success was acknowledged; None if it failed or its outcome is unknown."""
        return None if self.error else self.end

    @property
    def possible(self) -> bool:
        """Whether it may have had an effect: it has not failed."""
        return self.error is None


@dataclass(slots=True)
class Grant:
    """A lease that was granted between ``asked`` and ``granted``.

    It was valid at least until ``until``: the ttl after its last renewal, its release, or the
    death of its holder, whichever is first. ``released`` is the begin of its release.
    """

    key: str
    token: int
    process: str
    ttl: int
    asked: int
    granted: int
    until: int
    released: int | None = None
    refused_renewal: int | None = None


class History:
    """The records of one run, sorted by time."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.records: Final = records
        self.actions: Final = _actions(records)
        self.marks: Final[dict[str, list[Record]]] = defaultdict(list)
        for record in records:
            if record.phase == "mark":
                self.marks[record.kind].append(record)
        self.killed: Final = {record.key: record.t for record in self.marks["kill"]}
        self.deaths: Final = self.killed | self._failures()
        self.suspensions: Final = self._suspensions()
        self.stalls: Final = self._stalls()
        self.grants: Final = self._grants()

    def all(self, *kinds: str) -> list[Action]:
        """The actions of these kinds, sorted by begin."""
        found = [action for kind in kinds for action in self.actions[kind]]
        return sorted(found, key=lambda action: action.begin) if len(kinds) > 1 else found

    def by_key(self, *kinds: str) -> defaultdict[str, list[Action]]:
        """The actions of these kinds by key, sorted by begin."""
        found = defaultdict[str, list[Action]](list)
        for action in self.all(*kinds):
            found[action.key].append(action)
        return found

    @property
    def guarded(self) -> list[Action]:
        """The writes with a fence."""
        return [action for kind in WRITES for action in self.actions[kind] if action.fence]

    def was_delayed(self, process: str, begin: int, end: int) -> bool:
        """Whether the process was suspended or stalled within this interval."""
        spans = self.suspensions[process] + self.stalls[process]
        return _overlap(spans, begin, end)

    def was_suspended(self, process: str, begin: int, end: int) -> bool:
        """Whether the process was suspended within this interval."""
        return _overlap(self.suspensions[process], begin, end)

    def grant_of(self, body: Action) -> Grant | None:
        """The last grant of the body's process before the body began, None if there is none."""
        mine = [grant for grant in self.grants.get(body.key, ()) if grant.process == body.process]
        mine.sort(key=lambda grant: grant.granted)
        place = bisect_right(mine, body.begin, key=lambda grant: grant.granted)
        return mine[place - 1] if place else None

    # --- from the records -----------------------------------------------------------------------

    def _failures(self) -> dict[str, int]:
        """The time of the last record of each process that exited with an error."""
        failed = {mark.key for mark in self.marks["exit"] if mark.value}
        return {record.process: record.t for record in self.records if record.process in failed}

    def _suspensions(self) -> defaultdict[str, Spans]:
        suspensions = defaultdict[str, Spans](list)
        for record in self.marks["suspend"]:
            resumed = (mark.t for mark in self.marks["resume"] if mark.key == record.key)
            end = next((t for t in resumed if t > record.t), self.deaths.get(record.key))
            suspensions[record.key].append((record.t, record.t if end is None else end))
        return suspensions

    def _stalls(self) -> defaultdict[str, Spans]:
        stalls = defaultdict[str, Spans](list)
        for record in self.marks["stall"]:
            stalls[record.process].append((record.t - record.value, record.t))
        return stalls

    def _grants(self) -> dict[str, list[Grant]]:
        """The grants of each key, sorted by token."""
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
                # One millisecond less: the clock of the store has a resolution of one millisecond.
                until = action.begin + ttl - NS_PER_MS
                times = (ttl, action.begin, action.done, until)
                yield Grant(action.key, action.result, action.process, *times)

    def _extend(self, grants: dict[tuple[str, int], Grant]) -> None:
        for action in self.all("extend", "renew"):
            grant = grants.get((action.key, action.token or 0))
            if grant is None:
                continue
            if action.result is True:
                until = action.begin + action.value * NS_PER_MS - NS_PER_MS
                grant.until = max(grant.until, until)
            elif grant.refused_renewal is None:
                grant.refused_renewal = action.begin

    def _end(self, grants: dict[tuple[str, int], Grant]) -> None:
        for action in self.all("release", ENDS_LEASE):
            grant = grants.get((action.fence or action.key, action.token or 0))
            if grant is None or grant.released is not None:
                continue
            if action.kind == "release" or action.possible:
                grant.released = action.begin
        for grant in grants.values():
            for end in (grant.released, self.deaths.get(grant.process)):
                grant.until = grant.until if end is None else min(grant.until, end)


def _overlap(spans: Spans, begin: int, end: int) -> bool:
    return any(start < end and stop > begin for start, stop in spans)


def _actions(records: Iterable[Record]) -> dict[str, list[Action]]:
    actions: dict[str, list[Action]] = defaultdict(list)
    begun: dict[tuple[str, int], Action] = {}
    for record in records:
        if record.phase == "begin":
            action = Action(
                *(record.kind, record.process, record.id, record.t),
                *(record.key, record.token, record.fence, record.value),
            )
            actions[record.kind].append(action)
            begun[record.process, record.id] = action
        elif record.phase != "mark":
            _continue(begun[record.process, record.id], record)
    return actions


def _continue(action: Action, record: Record) -> None:
    if record.phase == "step":
        action.steps.append(record.t)
        return
    action.end = record.t
    if record.phase == "error":
        action.error = record.value
    else:
        action.result = record.value
