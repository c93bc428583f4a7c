"""A history as a table, and a violation as the lines of the logs around it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from .history import History
from .record import NS_PER_MS, Record
from .rules import CANCELLED, Violation
from .worker import LEASE_MS, OPERATIONS

AROUND_NS: Final = 20 * NS_PER_MS
MOST_LINES: Final = 40
SUBJECT: Final = re.compile(r"^(lock:|lease:\w+:)")
"""What comes before the name of a lock, task or entry in the key of its lease."""


def table(history: History, violations: Sequence[Violation]) -> str:
    """How often everything happened, and how often what must not."""
    lines = [f"{'operation':<12}{'begun':>8}{'done':>8}  errors"]
    operations = history.by_key("operation")
    for name in (operation.__name__ for operation in OPERATIONS):
        actions = operations[name]
        errors = Counter(action.error for action in actions if action.error)
        told = ", ".join(f"{count} {error}" for error, count in sorted(errors.items()))
        done = sum(action.done is not None for action in actions)
        lines.append(f"{name:<12}{len(actions):>8}{done:>8}  {told}".rstrip())
    broken = Counter(violation.rule for violation in violations)
    counts = [*_counts(history), ("violations", len(violations))]
    counts += [(f"  {rule}", count) for rule, count in broken.items()]
    lines += [f"{name:<40}{value:>10}" for name, value in counts]
    return "\n".join(lines)


def _counts(history: History) -> Iterator[tuple[str, str | int]]:
    stops = [mark.value for mark in history.marks["stop"]]
    yield "processes started", len(history.marks["start"])
    yield "processes killed", len(history.killed)
    yield "processes stopped", len(stops)
    yield "  for longer than a lease", sum(stop > LEASE_MS for stop in stops)
    yield "leases granted", sum(map(len, history.grants.values()))
    yield "leases renewed", sum(action.result is True for action in history.actions["renew"])
    yield from _takeovers(history)
    written = history.guarded
    yield "writes under a fence", sum(action.done is not None for action in written)
    yield "  refused", sum(action.error == "LeaseLost" for action in written)
    yield "bodies begun", len(history.all(*CANCELLED, "compute"))
    yield from _executions(history)
    longest_ms = max((hold.value for hold in history.actions["hold"]), default=0)
    yield "longest wait for a lock", f"{longest_ms} ms"
    yield "longest stall of a process not stopped", f"{_longest_stall(history)} ms"
    yield "records", len(history.records)


def _takeovers(history: History) -> Iterator[tuple[str, int]]:
    taken = [
        (old, new)
        for grants in history.grants.values()
        for old, new in pairwise(grants)
        if old.released is None or old.released > new.granted
    ]
    dead = sum(history.deaths.get(old.who, new.granted) < new.granted for old, new in taken)
    yield "leases taken over from the dead", dead
    yield "leases taken over after their expiry", len(taken) - dead


def _executions(history: History) -> Iterator[tuple[str, int]]:
    """Those of idempotent calls: one a call, and one more after each that came to nothing."""
    executions = history.actions["execute"]
    yield "executions of idempotent calls", len(executions)
    yield "  failed", sum(body.error is not None for body in executions)
    yield "  ended by a kill or the loss of the lease", sum(not body.end for body in executions)
    stores = history.actions["idempotency.set"]
    yield "  completed and stored", sum(store.done is not None for store in stores)


def _longest_stall(history: History) -> int:
    stalls = (
        end - begin
        for who, spans in history.stalls.items()
        for begin, end in spans
        if not history.was_stopped(who, begin, end)
    )
    return max(stalls, default=0) // NS_PER_MS


def story(history: History, violation: Violation) -> str:
    """The violation, and the lines of the logs around it that are about the same key."""
    begin, end = violation.begin - AROUND_NS, violation.end + AROUND_NS
    subject = SUBJECT.sub("", violation.key)
    lines = [
        _line(record, violation.begin)
        for record in history.records
        if begin <= record.t <= end and _is_about(record, subject)
    ]
    if len(lines) > MOST_LINES:
        left_out = f"... {len(lines) - MOST_LINES} lines ..."
        lines = [*lines[: MOST_LINES // 2], left_out, *lines[-MOST_LINES // 2 :]]
    return "\n".join([f"{violation.rule}: {violation.key}: {violation.what}", *lines])


def _is_about(record: Record, subject: str) -> bool:
    disturbs = record.what in ("kill", "stop", "continue", "stall")
    return disturbs or record.key.endswith(subject) or record.fence.endswith(subject)


def _line(record: Record, origin: int) -> str:
    ms = (record.t - origin) / NS_PER_MS
    told = [f"{ms:>10.2f} ms  {record.who:<10}{record.what} {record.phase} {record.key}"]
    told += [f"token {record.token}"] * (record.token is not None)
    told += [f"fence {record.fence}"] * bool(record.fence)
    told += [f"{record.value!r}"] * (record.value is not None)
    return "  ".join(told)
