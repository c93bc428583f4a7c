"""A history as a table of counts, and a violation as an excerpt of the event logs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from .event_log import NS_PER_MS, Record
from .history import History
from .rules import CANCELLED, Violation
from .worker import LEASE_MS, OPERATIONS

CONTEXT_NS: Final = 20 * NS_PER_MS
MAX_LINES: Final = 40
SUBJECT: Final = re.compile(r"^(lock:|lease:\w+:)")
"""The prefix of a lease key, before the name of the lock, task or entry."""


def table(history: History, violations: Sequence[Violation]) -> str:
    """The counts of operations, errors, faults and violations."""
    lines = [f"{'operation':<16}{'begun':>8}{'done':>8}  errors"]
    operations = history.by_key("operation")
    for name in (operation.__name__ for operation in OPERATIONS):
        actions = operations[name]
        errors = Counter(action.error for action in actions if action.error)
        listed = ", ".join(f"{count} {error}" for error, count in sorted(errors.items()))
        done = sum(action.done is not None for action in actions)
        lines.append(f"{name:<16}{len(actions):>8}{done:>8}  {listed}".rstrip())
    broken = Counter(violation.rule for violation in violations)
    counts = [*_counts(history), ("violations", len(violations))]
    counts += [(f"  {rule}", count) for rule, count in broken.items()]
    lines += [f"{name:<40}{value:>10}" for name, value in counts]
    return "\n".join(lines)


def _counts(history: History) -> Iterator[tuple[str, str | int]]:
    suspensions = [mark.value for mark in history.marks["suspend"]]
    yield "processes started", len(history.marks["start"])
    yield "processes killed", len(history.killed)
    yield "processes suspended", len(suspensions)
    yield "  for longer than a lease", sum(value > LEASE_MS for value in suspensions)
    yield "leases granted", sum(map(len, history.grants.values()))
    yield "leases extended", sum(action.result is True for action in history.actions["extend"])
    yield "leases renewed", sum(action.result is True for action in history.actions["renew"])
    yield from _takeovers(history)
    written = history.guarded
    yield "writes under a fence", sum(action.done is not None for action in written)
    yield "  refused", sum(action.error == "LeaseLost" for action in written)
    yield "bodies begun", len(history.all(*CANCELLED, "compute"))
    yield from _executions(history)
    longest_ms = max((hold.value for hold in history.actions["hold"]), default=0)
    yield "longest wait for a lock", f"{longest_ms} ms"
    yield "longest stall of a running process", f"{_longest_stall(history)} ms"
    yield "records", len(history.records)


def _takeovers(history: History) -> Iterator[tuple[str, int]]:
    taken = [
        (old, new)
        for grants in history.grants.values()
        for old, new in pairwise(grants)
        if old.released is None or old.released > new.granted
    ]
    dead = sum(history.deaths.get(old.process, new.granted) < new.granted for old, new in taken)
    yield "leases taken over from dead processes", dead
    yield "leases taken over after their expiry", len(taken) - dead


def _executions(history: History) -> Iterator[tuple[str, int]]:
    """Executions of idempotent calls: one per call, and another after each that left no result."""
    executions = history.actions["execute"]
    yield "executions of idempotent calls", len(executions)
    yield "  failed", sum(body.error is not None for body in executions)
    yield "  ended by a kill or the loss of the lease", sum(not body.end for body in executions)
    stores = history.actions["idempotency.set"]
    yield "  completed and stored", sum(store.done is not None for store in stores)


def _longest_stall(history: History) -> int:
    stalls = (
        end - begin
        for process, spans in history.stalls.items()
        for begin, end in spans
        if not history.was_suspended(process, begin, end)
    )
    return max(stalls, default=0) // NS_PER_MS


def story(history: History, violation: Violation) -> str:
    """The violation, and the log lines around it that concern the same key or a fault."""
    begin, end = violation.begin - CONTEXT_NS, violation.end + CONTEXT_NS
    subject = SUBJECT.sub("", violation.key)
    lines = [
        _line(record, violation.begin)
        for record in history.records
        if begin <= record.t <= end and _is_relevant(record, subject)
    ]
    if len(lines) > MAX_LINES:
        omitted = f"... {len(lines) - MAX_LINES} lines ..."
        lines = [*lines[: MAX_LINES // 2], omitted, *lines[-MAX_LINES // 2 :]]
    return "\n".join([f"{violation.rule}: {violation.key}: {violation.text}", *lines])


def _is_relevant(record: Record, subject: str) -> bool:
    is_fault = record.kind in ("kill", "suspend", "resume", "stall")
    return is_fault or record.key.endswith(subject) or record.fence.endswith(subject)


def _line(record: Record, origin: int) -> str:
    ms = (record.t - origin) / NS_PER_MS
    parts = [f"{ms:>10.2f} ms  {record.process:<10}{record.kind} {record.phase} {record.key}"]
    parts += [f"token {record.token}"] * (record.token is not None)
    parts += [f"fence {record.fence}"] * bool(record.fence)
    parts += [f"{record.value!r}"] * (record.value is not None)
    return "  ".join(parts)
