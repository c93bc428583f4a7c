"""The report, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from . import imports, layers
from .comparison import pairs
from .contention import PROCESSES
from .result import Measurement, Report, SteadyState
from .summary import Quartiles, Verdict, quartiles, ratios, verdicts
from .wait_result import Competition, Handoff
from .waiting import COMPETING_PROCESSES, HANDOFF_PROCESSES
from .workload import BUN, GROWTH, SERVER_WORKLOADS, SQLITE, WORKLOADS

LAG_BUDGETS_MS: Final = {SQLITE: 5.0, BUN: 2.0}
"""Budgets of the 99th percentile of the event loop's lag."""

CPU_BUDGET: Final = 0.01
HANDOFF_BUDGET_MS: Final = 5
SERVER_HANDOFF_BUDGET_MS: Final = 2
SPREAD_BUDGET: Final = 1.5


def render(report: Report) -> str:
    """Return the report of one run."""
    sections = [
        _head(report),
        _budgets(report),
        _workloads(report),
        _contention(report),
        _waiting(report),
        _server_waiting(report),
        _growth(report),
        _loop_lag(report),
        _busy_loop(report),
        _footprints(report),
        _steady_state(report),
        _comparison(report),
        _configuration(report),
        _missing(report),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def all_verdicts(report: Report) -> list[Verdict]:
    """Return the verdicts on all budgets that are ratios."""
    return [
        verdict
        for workload in (*WORKLOADS, *SERVER_WORKLOADS)
        for verdict in verdicts(report.measurements, workload.name, workload.budgets)
    ]


def _head(report: Report) -> str:
    machine = report.machine
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    return f"""\
# Results

Written by `make bench`. [Performance](../performance.md) explains every number.

- Size `{report.size}`, {machine.date}, {report.seconds:.0f} s
- {machine.system}, {machine.processor}, {machine.cores} cores, {machine.memory_gib:.0f} GiB
- Load average {machine.load_before:.2f} before, {machine.load_after:.2f} after
- {versions}"""


def _budgets(report: Report) -> str:
    rows: list[tuple[str, ...]] = [
        (
            verdict.workload,
            verdict.budget.subject,
            f"{verdict.budget.factor:g} x {verdict.budget.baseline}",
            _ratio(verdict.ratio),
            _met(verdict.is_met),
        )
        for verdict in all_verdicts(report)
    ]
    rows += [
        (
            f"loop lag: {lag.situation}",
            lag.subject,
            f"p99 {LAG_BUDGETS_MS[lag.subject]:g} ms",
            f"{lag.p99_ms:.2f} ms",
            _met(lag.p99_ms <= LAG_BUDGETS_MS[lag.subject]),
        )
        for lag in report.loop_lag
        if lag.subject in LAG_BUDGETS_MS
    ]
    rows += _import_budget(report.measurements)
    head = ("workload", "subject", "budget", "measured (quartiles)", "result")
    return _section("Budgets", "", head, rows)


def _import_budget(measurements: Sequence[Measurement]) -> list[tuple[str, ...]]:
    return [
        (
            each.workload,
            each.subject,
            f"{imports.BUDGET_S * 1000:.0f} ms",
            f"{median * 1000:.1f} ms",
            _met(median <= imports.BUDGET_S),
        )
        for each in measurements
        if each.workload == imports.WORKLOAD and each.subject == "goscope"
        for median in [quartiles(each.seconds).median]
    ]


def _met(is_met: bool) -> str:
    return "met" if is_met else "**not met**"


def _workloads(report: Report) -> str:
    names = [workload.name for workload in (*WORKLOADS, *SERVER_WORKLOADS)]
    names += [*layers.WORKLOADS, imports.WORKLOAD]
    tables = [table for name in names if (table := _workload(name, report.measurements))]
    text = "Each ratio is to the baseline in the last column, round by round."
    return "\n\n".join(["## Workloads", text, *tables]) if tables else ""


def _workload(name: str, measurements: Iterable[Measurement]) -> str:
    found = [each for each in measurements if each.workload == name]
    if not found:
        return ""
    by_name = {each.subject: each for each in found}
    rows: list[tuple[str, ...]] = []
    for each in found:
        baseline = by_name.get(each.baseline)
        ratio = "" if baseline is None else _ratio(ratios(each, baseline))
        rows.append((each.subject, _time(quartiles(each.seconds)), ratio, each.baseline))
    table = _table(("subject", "time (quartiles)", "ratio (quartiles)", "baseline"), rows)
    return f"### {name}\n\n{table}"


def _contention(report: Report) -> str:
    rows = [
        (
            each.subject,
            _time(quartiles(each.seconds_per_grant)),
            f"{quartiles(each.minimum_shares).median:.2f}",
        )
        for each in report.contention
    ]
    text = (
        f"{PROCESSES} processes compete for one lock. A minimum share of 1 is perfectly fair; 0 "
        "means that one process starves."
    )
    head = ("subject", "time per grant (quartiles)", "minimum share")
    return _section("Shared lock, contended", text, head, rows)


def _waiting(report: Report) -> str:
    rows = [
        (
            each.subject,
            " ".join(map(str, sorted(each.competition.grants))),
            _percentiles(each.competition),
            f"{each.blocked.cpu_seconds / each.blocked.seconds:.2%} of {each.blocked.seconds:g} s",
            f"{each.blocked.polls}",
            _percentiles(each.handoff),
        )
        for each in report.waiting
    ]
    text = (
        f"Grants and waits: {COMPETING_PROCESSES} processes compete for one lock; the grants of "
        "each. CPU and polls: one process waits for a lock that another process holds; budget "
        f"{CPU_BUDGET:.0%} CPU. Handoff: from the call of release() to the next grant, when "
        f"{HANDOFF_PROCESSES} processes wait for less than 100 ms; budget {HANDOFF_BUDGET_MS} ms. "
        "Waits and handoff are p50, p99 and max in ms."
    )
    head = ("backend", "grants", "waits", "CPU", "polls", "handoff")
    return _section("Waiting for a shared lock", text, head, rows)


def _server_waiting(report: Report) -> str:
    rows = [
        (
            each.subject,
            " ".join(map(str, sorted(each.competition.grants))),
            _spread(each.competition.grants),
            _percentiles(each.competition),
            _percentiles(each.handoff),
        )
        for each in report.server_waiting
    ]
    text = (
        f"{COMPETING_PROCESSES} processes compete for one lock. Grants: those of each; spread: the "
        f"most against the fewest; budget {SPREAD_BUDGET}. Handoff: from the call of release() to "
        f"the next grant; budget {SERVER_HANDOFF_BUDGET_MS} ms for its p50. Waits and handoff are "
        "p50, p99 and max in ms."
    )
    head = ("backend", "grants", "spread", "waits", "handoff")
    return _section("Waiting for a lock on a server", text, head, rows)


def _spread(grants: Sequence[int]) -> str:
    return f"{max(grants) / max(min(grants), 1):.2f}"


def _percentiles(each: Competition | Handoff) -> str:
    return " ".join(f"{value:.1f}" for value in (each.p50_ms, each.p99_ms, each.max_ms))


def _growth(report: Report) -> str:
    sizes = sorted({each.rows for each in report.growth})
    if not sizes:
        return ""
    found = {(each.workload, each.subject, each.rows): each for each in report.growth}
    rows: list[tuple[str, ...]] = []
    for workload in GROWTH.workloads:
        for kind in GROWTH.subjects:
            if (workload.name, kind.name, sizes[0]) in found:
                own = [found[workload.name, kind.name, size] for size in sizes]
                baseline = [found[workload.name, own[0].baseline, size] for size in sizes]
                rows.append((workload.name, kind.name, *_growth_cells(own, baseline)))
    labels = [f"{size:,} rows" for size in sizes]
    head = (
        "workload",
        "subject",
        f"time at {labels[0]}",
        *(f"ratio at {label}" for label in labels[1:]),
        "ratio to the baseline's growth",
    )
    text = "Time of one call relative to the smallest file, and this growth against the baseline's."
    return _section("Growth", text, head, rows)


def _growth_cells(own: Sequence[Measurement], baseline: Sequence[Measurement]) -> list[str]:
    medians = [quartiles(each.seconds).median for each in own]
    baselines = [quartiles(each.seconds).median for each in baseline]
    growth = medians[-1] / medians[0]
    return [
        _unit(medians[0]),
        *(f"{median / medians[0]:.2f}" for median in medians[1:]),
        f"{growth * baselines[0] / baselines[-1]:.2f}",
    ]


def _loop_lag(report: Report) -> str:
    rows = [
        (
            lag.situation,
            lag.subject,
            *(f"{value:.2f}" for value in (lag.p50_ms, lag.p99_ms, lag.p999_ms, lag.max_ms)),
            f"{lag.calls:,}",
            f"{lag.call_p50_ms:.2f}",
            f"{lag.call_p99_ms:.2f}",
        )
        for lag in report.loop_lag
    ]
    head = (
        "situation",
        "subject",
        "lag p50",
        "lag p99",
        "lag p99.9",
        "lag max",
        "calls",
        "call p50",
        "call p99",
    )
    text = (
        "Lag of a 1 ms ticker and latency of the calls of 64 callers, in ms: the median of the "
        "rounds; the maximum is over all rounds."
    )
    return _section("Event loop", text, head, rows)


def _busy_loop(report: Report) -> str:
    rows = [
        (
            f"{each.slice_ms:g} ms",
            each.verb,
            each.subject,
            f"{each.p50_ms:.2f}",
            f"{each.p99_ms:.2f}",
            f"{each.calls:,}",
        )
        for each in sorted(report.busy_loop, key=lambda each: (each.verb, each.slice_ms))
    ]
    head = ("busy slice", "call", "subject", "p50 ms", "p99 ms", "calls")
    text = "Latency of one caller in a loop that is never idle."
    return _section("Busy loop", text, head, rows)


def _footprints(report: Report) -> str:
    rows = [
        (each.subject, f"{each.entries:,}", _mib(each.memory_bytes), _mib(each.file_bytes))
        for each in report.footprints
    ]
    return _section("Memory and disk", "", ("subject", "entries", "memory", "files"), rows)


def _steady_state(report: Report) -> str:
    rows = [(each.subject, *_maxima(each)) for each in report.steady_state if each.samples]
    head = (
        "backend",
        "files, second third",
        "files, last third",
        "memory, second third",
        "memory, last third",
    )
    text = (
        "New entries every second that expire after 30 s of a simulated clock; the maximum of each "
        "third of the run."
    )
    return _section("Steady state", text, head, rows)


def _maxima(steady: SteadyState) -> list[str]:
    third = len(steady.samples) // 3
    second, last = steady.samples[third : 2 * third + 1], steady.samples[2 * third :]
    return [_mib(max(each[kind] for each in part)) for kind in (0, 1) for part in (second, last)]


def _comparison(report: Report) -> str:
    if report.other_run is None:
        return ""
    found = pairs(report, report.other_run)
    rows = [
        (
            each.workload,
            each.subject,
            each.baseline,
            _ratio(each.ratio),
            _ratio(each.other),
            "yes" if each.agrees else "**no**",
        )
        for each in found
    ]
    text = (
        f"{sum(each.agrees for each in found)} of {len(found)} ratios agree with the run of "
        f"{report.other_run.date}: their interquartile ranges overlap."
    )
    head = ("workload", "subject", "baseline", "this run", "other run", "agree")
    return _section("Comparison of two runs", text, head, rows)


def _configuration(report: Report) -> str:
    rows = list(report.configuration.items())
    return _section("Configuration", "", ("subject", "configuration"), rows)


def _missing(report: Report) -> str:
    rows = [(each.subject, each.benchmark, each.reason) for each in report.missing]
    return _section("Not measured", "", ("subject", "benchmark", "reason"), rows)


def _section(title: str, text: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a heading, an optional paragraph and a table; nothing without rows."""
    if not rows:
        return ""
    return "\n\n".join(block for block in (f"## {title}", text, _table(head, rows)) if block)


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
