"""The tables, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from . import imports, layers
from .contest import PROCESSES
from .repeat import pairs
from .result import Measured, Report, Steady
from .summary import Quartiles, Verdict, quartiles, ratios, verdicts
from .wait_result import Handover, Turns
from .workload import BUN, GROWTH, SQLITE, WORKLOADS

LATE_BUDGETS: Final = {SQLITE: 5.0, BUN: 2.0}
"""Milliseconds that the ticker's 99th percentile may be late."""


def render(report: Report) -> str:
    """Return the page of one run."""
    parts = [
        _head(report),
        _budgets(report),
        _workloads(report),
        _contests(report),
        _waiting(report),
        _growth(report),
        _loop(report),
        _busy(report),
        _footprints(report),
        _steady(report),
        _repeated(report),
        _configuration(report),
        _missing(report),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def all_verdicts(report: Report) -> list[Verdict]:
    """Return what came of every budget that is a ratio."""
    return [
        verdict
        for workload in WORKLOADS
        for verdict in verdicts(report.measured, workload.name, workload.budgets)
    ]


def _head(report: Report) -> str:
    machine = report.machine
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    return f"""\
# Results

Written by `make bench`; [performance](../performance.md) says what each number means.

- Size `{report.size}`, {machine.date}, {report.seconds:.0f} s
- {machine.system}, {machine.processor}, {machine.cores} cores, {machine.memory_gib:.0f} GiB
- Load average {machine.load_before:.2f} before, {machine.load_after:.2f} after
- {versions}"""


def _budgets(report: Report) -> str:
    rows: list[tuple[str, ...]] = [
        (
            verdict.workload,
            verdict.budget.contender,
            f"{verdict.budget.factor:g} x {verdict.budget.baseline}",
            _ratio(verdict.ratio),
            "kept" if verdict.is_kept else "**missed**",
        )
        for verdict in all_verdicts(report)
    ]
    rows += [
        (
            f"ticker: {late.situation}",
            late.contender,
            f"p99 {LATE_BUDGETS[late.contender]:g} ms",
            f"{late.p99:.2f} ms",
            "kept" if late.p99 <= LATE_BUDGETS[late.contender] else "**missed**",
        )
        for late in report.lateness
        if late.contender in LATE_BUDGETS
    ]
    rows += _import_budget(report.measured)
    return _section(
        "Budgets", "", ("work", "contender", "budget", "measured (quartiles)", ""), rows
    )


def _import_budget(measured: Sequence[Measured]) -> list[tuple[str, ...]]:
    found = [m for m in measured if m.workload == imports.WORKLOAD and m.contender == "goscope"]
    return [
        (
            each.workload,
            each.contender,
            f"{imports.BUDGET_SECONDS * 1000:.0f} ms",
            f"{median * 1000:.1f} ms",
            "kept" if median <= imports.BUDGET_SECONDS else "**missed**",
        )
        for each in found
        for median in [quartiles(each.seconds).median]
    ]


def _workloads(report: Report) -> str:
    names = [workload.name for workload in WORKLOADS]
    names += [*layers.WORKLOADS, imports.WORKLOAD]
    tables = [table for name in names if (table := _workload(name, report.measured))]
    return "\n\n".join(["## Workloads", "The limit is 1.", *tables]) if tables else ""


def _workload(name: str, measured: Iterable[Measured]) -> str:
    found = [each for each in measured if each.workload == name]
    if not found:
        return ""
    by_name = {each.contender: each for each in found}
    rows: list[tuple[str, ...]] = []
    for each in found:
        limit = by_name.get(each.limit)
        ratio = "" if limit is None else _ratio(ratios(each, limit))
        rows.append((each.contender, _time(quartiles(each.seconds)), ratio, each.limit))
    table = _table(("contender", "one (quartiles)", "x (quartiles)", "limit"), rows)
    return f"### {name}\n\n{table}"


def _contests(report: Report) -> str:
    rows = [
        (
            each.contender,
            _time(quartiles(each.seconds)),
            f"{quartiles(each.least_shares).median:.2f}",
        )
        for each in report.contests
    ]
    text = f"{PROCESSES} processes want the same lock; a least share of 1 is fair, 0 starves."
    head = ("contender", "a turn (quartiles)", "least share")
    return _section("Shared lock, contended", text, head, rows)


def _waiting(report: Report) -> str:
    rows = [
        (
            each.contender,
            " ".join(map(str, sorted(each.turns.grants))),
            _of_waits(each.turns),
            f"{each.idle.cpu_seconds / each.idle.seconds:.2%} of {each.idle.seconds:g} s",
            f"{each.idle.polls}",
            _of_waits(each.handover),
        )
        for each in report.waiting
    ]
    text = (
        "8 processes want one lock all the time: the grants of each, and their waits. One waits in "
        "vain: its CPU time, at most 1 %, and its polls. 4 wait for less than 100 ms: from the "
        "call of release() to the next one's grant, at most 5 ms. Waits and hand-overs are p50, "
        "p99 and worst, in ms."
    )
    head = ("backend", "grants", "waits", "CPU", "polls", "hand-over")
    return _section("Waiting for a shared lock", text, head, rows)


def _of_waits(each: Turns | Handover) -> str:
    return " ".join(f"{value:.1f}" for value in (each.p50, each.p99, each.worst))


def _growth(report: Report) -> str:
    sizes = sorted({each.rows for each in report.growth})
    if not sizes:
        return ""
    found = {(each.workload, each.contender, each.rows): each for each in report.growth}
    rows: list[tuple[str, ...]] = []
    for workload in GROWTH.workloads:
        for kind in GROWTH.contenders:
            if (workload.name, kind.name, sizes[0]) in found:
                own = [found[workload.name, kind.name, size] for size in sizes]
                limit = [found[workload.name, own[0].limit, size] for size in sizes]
                rows.append((workload.name, kind.name, *_grown(own, limit)))
    heads = [f"{size:,} rows" for size in sizes]
    head = (
        "work",
        "contender",
        f"one at {heads[0]}",
        *(f"x at {each}" for each in heads[1:]),
        "of the limit's growth",
    )
    text = "Cost of one call at more rows against the fewest, and against how the limit's grew."
    return _section("Growth", text, head, rows)


def _grown(own: Sequence[Measured], limit: Sequence[Measured]) -> list[str]:
    medians = [quartiles(each.seconds).median for each in own]
    limits = [quartiles(each.seconds).median for each in limit]
    growth = medians[-1] / medians[0]
    return [
        _unit(medians[0]),
        *(f"{median / medians[0]:.2f}" for median in medians[1:]),
        f"{growth * limits[0] / limits[-1]:.2f}",
    ]


def _loop(report: Report) -> str:
    rows = [
        (
            late.situation,
            late.contender,
            *(f"{value:.2f}" for value in (late.p50, late.p99, late.p999, late.worst)),
            f"{late.calls:,}",
            f"{late.call_p50:.2f}",
            f"{late.call_p99:.2f}",
        )
        for late in report.lateness
    ]
    head = (
        "situation",
        "contender",
        "late p50",
        "p99",
        "p99.9",
        "worst",
        "calls",
        "call p50",
        "p99",
    )
    text = "A ticker of 1 ms beside 64 callers; ms. Medians of the rounds, and the worst of all."
    return _section("Event loop", text, head, rows)


def _busy(report: Report) -> str:
    rows = [
        (
            f"{busy.slice_ms:g} ms",
            busy.verb,
            busy.contender,
            f"{busy.p50:.2f}",
            f"{busy.p99:.2f}",
            f"{busy.calls:,}",
        )
        for busy in sorted(report.busy, key=lambda busy: (busy.verb, busy.slice_ms))
    ]
    head = ("busy in slices of", "call", "contender", "p50 ms", "p99 ms", "calls")
    text = "One caller in a loop that is never idle."
    return _section("Busy loop", text, head, rows)


def _footprints(report: Report) -> str:
    rows = [
        (each.contender, f"{each.entries:,}", _mib(each.memory), _mib(each.files))
        for each in report.footprints
    ]
    return _section("Memory and disk", "", ("cache", "entries", "memory", "files"), rows)


def _steady(report: Report) -> str:
    rows = [(each.contender, *_course(each)) for each in report.steady if each.samples]
    head = ("backend", "files, second third", "last third", "memory, second third", "last third")
    text = "New entries each second, which expire after 30 s; the clock is simulated. The most of:"
    return _section("Steady workload", text, head, rows)


def _course(steady: Steady) -> list[str]:
    third = len(steady.samples) // 3
    early, late = steady.samples[third : 2 * third + 1], steady.samples[2 * third :]
    return [_mib(max(each[kind] for each in part)) for kind in (0, 1) for part in (early, late)]


def _repeated(report: Report) -> str:
    if report.other_run is None:
        return ""
    found = pairs(report, report.other_run)
    rows = [
        (
            each.workload,
            each.contender,
            each.baseline,
            _ratio(each.ratio),
            _ratio(each.other),
            "yes" if each.agrees else "**no**",
        )
        for each in found
    ]
    text = (
        f"{sum(each.agrees for each in found)} of {len(found)} ratios agree with those of the run "
        f"of {report.other_run.date}: their quartiles overlap."
    )
    head = ("work", "contender", "against", "this run", "the other run", "agree")
    return _section("Two runs", text, head, rows)


def _configuration(report: Report) -> str:
    rows = list(report.configuration.items())
    return _section("Configuration", "", ("contender", "as"), rows)


def _missing(report: Report) -> str:
    rows = [(each.contender, each.part, each.reason) for each in report.missing]
    return _section("Not measured", "", ("contender", "part", "reason"), rows)


def _section(title: str, text: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A heading, a sentence if there is one, and a table; nothing without rows."""
    if not rows:
        return ""
    return "\n\n".join(part for part in (f"## {title}", text, _table(head, rows)) if part)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in lines)


def _ratio(ratio: Quartiles) -> str:
    return f"{_digits(ratio.median)} ({_digits(ratio.low)} to {_digits(ratio.high)})"


def _digits(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def _time(seconds: Quartiles) -> str:
    return f"{_unit(seconds.median)} ({_unit(seconds.low)} to {_unit(seconds.high)})"


def _unit(seconds: float) -> str:
    for factor, unit in ((1e6, "us"), (1e3, "ms")):
        if seconds * factor < 1000:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds:.3g} s"


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
