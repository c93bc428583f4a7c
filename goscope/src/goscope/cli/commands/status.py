"""``goscope status``: what a store holds and who uses it, on one screen."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeVar

from ... import Scope
from ..._tools.process import this_process
from ...inspection import LeaseInfo, ProcessInfo, WaiterInfo
from ...maintenance import SupportsAttach, SupportsStorage
from .._arguments import add_json, add_url
from .._exit import EXIT_OK
from .._find import first_records
from .._output import Columns, aligned, cell, print_json, table
from .._records import ListedTask, Status
from .._store import open_store
from .._units import bar, duration, left, moment, size
from .circuits import COLUMNS as CIRCUITS
from .circuits import state_of
from .locks import alive
from .tasks import eta

__all__ = ["DESCRIPTION", "EXTRA", "PACKAGES", "add_arguments", "run"]

DESCRIPTION = """
    Show locks and leases, waiters, circuits, running and half-done tasks, the size of the cache and
    the files, and which processes have the store open. It changes nothing, and does not wait for
    those that write.
"""
EXTRA = "cli"
PACKAGES = ()

LISTED: Final = 100
"""How many records of each kind are read."""
SHOWN: Final = 10
"""How many of these are printed."""
DEFAULT_INTERVAL_S: Final = 2.0
MIN_INTERVAL_S: Final = 0.1

_HOME: Final = "\x1b[H"
_CLEAR_LINE: Final = "\x1b[K"
_CLEAR_REST: Final = "\x1b[J"
_CLEAR: Final = "\x1b[2J"

R = TypeVar("R")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_url(parser)
    add_json(parser)
    parser.add_argument("--watch", action="store_true", help="repeat until Ctrl-C")
    parser.add_argument(
        "--interval",
        type=_interval,
        metavar="SECONDS",
        default=DEFAULT_INTERVAL_S,
        help="between two screens of --watch (default: 2)",
    )


def _interval(text: str) -> float:
    seconds = float(text)
    if not MIN_INTERVAL_S <= seconds <= 86_400:
        raise argparse.ArgumentTypeError(f"must be at least {MIN_INTERVAL_S} and at most a day")
    return seconds


def run(arguments: argparse.Namespace) -> int:
    """Print the screen, once or again and again, and return the exit code."""
    return asyncio.run(_run(arguments))


async def _run(arguments: argparse.Namespace) -> int:
    is_screen = arguments.watch and sys.stdout.isatty() and not arguments.json
    if is_screen:
        print(_CLEAR, end="")
    while True:
        # Opened anew each time: while it is open, SQLite keeps the WAL, and nobody can restore it.
        async with open_store(arguments.url) as gs:
            status = await read_status(gs)
        if arguments.json:
            print_json(status)
        elif is_screen:
            screen = "".join(f"{line}{_CLEAR_LINE}\n" for line in lines(status))
            print(f"{_HOME}{screen}{_CLEAR_REST}", end="")
        else:
            print("\n".join(lines(status)), end="\n\n" if arguments.watch else "\n")
        if not arguments.watch:
            return EXIT_OK
        sys.stdout.flush()
        await asyncio.sleep(arguments.interval)


async def read_status(gs: Scope) -> Status:
    """What the store holds now."""
    adapter = gs.persistence
    storage = await adapter.storage() if isinstance(adapter, SupportsStorage) else None
    inspect = gs.inspect
    return Status(
        store=gs._open_runtime().scope,
        at=adapter.clock.wall_ms(),
        totals=await inspect.totals(),
        storage=storage,
        processes=await _processes(gs),
        leases=await first_records(inspect.leases(), LISTED),
        waiters=await first_records(inspect.waiters(), LISTED),
        circuits=await first_records(inspect.circuits(), LISTED),
        tasks=[ListedTask.of(task) for task in await first_records(inspect.tasks(), LISTED)],
    )


async def _processes(gs: Scope) -> Sequence[ProcessInfo]:
    """The processes that have the store open, without this one."""
    processes = await first_records(gs.inspect.processes(), LISTED)
    if isinstance(gs.persistence, SupportsAttach):  # this one is not among them
        return processes
    me = this_process()
    return [it for it in processes if (it.host, it.pid) != (me.host, me.pid)]


def lines(status: Status) -> Iterator[str]:
    """The screen."""
    yield from aligned([("store", cell(status.store)), *summary(status).items()])
    yield from _section("leases", status.leases, leases_of(status), status.totals.leases.count)
    yield from _section("waiters", status.waiters, WAITERS, status.totals.waiters.count)
    yield from _section("tasks", status.tasks, _TASKS, len(status.tasks))
    yield from _section("circuits", status.circuits, CIRCUITS, status.totals.circuits.count)


def summary(status: Status) -> Mapping[str, str]:
    """The store in a few words each, by what they are about."""
    totals, storage = status.totals, status.storage
    found = {"read at": moment(status.at)}
    if storage is not None:
        wal = "" if storage.wal_bytes is None else f", WAL {size(storage.wal_bytes)}"
        free = "" if not storage.free_bytes else f", {size(storage.free_bytes)} of it unused"
        found["file"] = f"{size(storage.size_bytes)}{free}{wal}"
    running = sorted({it.pid for it in status.processes if it.is_alive is not False})
    gone = sum(it.is_alive is False for it in status.processes)
    ended = f"; {gone} ended without closing it" if gone else ""
    found["processes"] = f"{', '.join(map(str, running)) or 'none'}{ended}"
    found["cache"] = f"{totals.entries.count:,} entries, {size(totals.entries.size_bytes)}"
    collections = totals.collections
    if collections.count:
        found["collections"] = f"{collections.count:,} entries, {size(collections.size_bytes)}"
    in_flight = sum(lease.kind == "idempotency" for lease in status.leases)
    results = f"{totals.results.count:,} results, {size(totals.results.size_bytes)}"
    found["calls"] = f"{in_flight:,} in flight, {results}"
    states = Counter(task.state for task in status.tasks)
    found["tasks"] = f"{states['running']:,} running, {states['half done']:,} half done"
    circuits = Counter(state_of(circuit) for circuit in status.circuits)
    found["circuits"] = ", ".join(f"{n:,} {name}" for name, n in circuits.items()) or "none"
    return found


def _section(name: str, records: Sequence[R], columns: Columns[R], count: int) -> Iterator[str]:
    """A heading and a table; nothing without records."""
    if not records:
        return
    yield ""
    yield f"{name} ({max(count, len(records)):,})"
    for line in table(records[:SHOWN], columns):
        yield f"  {line}"
    more = max(count, len(records)) - SHOWN
    if more > 0:
        yield f"  and {more:,} more"


def leases_of(status: Status) -> Columns[LeaseInfo]:
    return {
        "KIND": lambda it: it.kind,
        "KEY": lambda it: it.key,
        "HELD BY": lambda it: f"{it.pid or it.owner} on {it.host or '?'}",
        "ALIVE": alive,
        "AGE": lambda it: duration(max(status.at - it.acquired_at, 0)),
        "LEFT": lambda it: left(it.expires_in_ms),
        "TOKEN": lambda it: it.fencing_token,
    }


WAITERS: Final[Columns[WaiterInfo]] = {
    "KIND": lambda it: it.kind,
    "KEY": lambda it: it.key,
    "PID": lambda it: it.pid,
    "WAITS": lambda it: None if it.waited_ms is None else duration(it.waited_ms),
}
_TASKS: Final[Columns[ListedTask]] = {
    "ID": lambda it: it.task.id,
    "PROGRESS": lambda it: bar(it.task.progress),
    "ETA": lambda it: eta(it.task),
    "STATE": lambda it: it.state,
    "PID": lambda it: it.task.lease and it.task.lease.pid,
}
