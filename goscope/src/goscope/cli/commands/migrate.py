"""``goscope migrate``: everything that one store holds, moved to another store."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from importlib.util import find_spec
from typing import Final

from ... import BackendError, Capability, ConfigurationError, Scope
from ...inspection import Totals
from ...migration import KindName, Migrated, OnProgress, exists, migrate, open_adapter

__all__ = ["DESCRIPTION", "EXTRA", "PACKAGES", "add_arguments", "run"]

DESCRIPTION = """
    Copy cache entries, results of idempotent calls, circuits, checkpoints and held locks from the
    store SRC_URL to the store DST_URL, of any backend, and compare both. What moves is what the
    key_prefix of SRC_URL sees. The source keeps everything. Run the command again after an
    interruption: it continues. The exit code is 0 if both stores hold the same live records, 1 if
    they do not or a store failed, 2 if no record was moved, 130 after Ctrl-C.
"""
EXTRA = "cli"
PACKAGES = ()

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_REFUSED: Final = 2
PLAIN_STEP_PERCENT: Final = 10
"""Progress between two lines of the plain output."""

_COLUMNS: Final = (
    "found",
    "moved",
    "present",
    "kept",
    "expired",
    "unreadable",
    "verified",
    "extra",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add("source", metavar="SRC_URL", help="the store to read")
    add("destination", metavar="DST_URL", help="the store to write, created if it does not exist")
    # Else argparse would print a URL too many, with its password.
    add("surplus", nargs="*", help=argparse.SUPPRESS)
    add("--dry-run", action="store_true", help="count what would move, and write nothing")
    add("--overwrite", action="store_true", help="replace records that differ in DST_URL")


def run(arguments: argparse.Namespace) -> int:
    """Move the records, print the counts, return the exit code. Raises `ConfigurationError`."""
    if arguments.surplus:
        raise ConfigurationError("give two URLs: the store to read and the store to write")
    return asyncio.run(_run(arguments))


async def _run(arguments: argparse.Namespace) -> int:
    dry_run: bool = arguments.dry_run
    if await exists(arguments.source) is False:
        raise ConfigurationError("there is no goscope store at SRC_URL: check it. Nothing was done")
    creates = dry_run and await exists(arguments.destination) is False
    opened = False
    try:
        async with AsyncExitStack() as stack:
            source = await stack.enter_async_context(_scope(arguments.source))
            destination = None
            if not creates:
                destination = await stack.enter_async_context(_scope(arguments.destination))
            opened = True
            with _progress(await source.inspect.totals()) as on_progress:
                migrated = await migrate(
                    source.persistence,
                    None if destination is None else destination.persistence,
                    overwrite=arguments.overwrite,
                    dry_run=dry_run,
                    on_progress=on_progress,
                )
    except BackendError as exc:
        end = "Run the command again to continue" if opened else "Nothing was moved"
        print(f"goscope migrate: {' '.join(str(exc).split())}. {end}", file=sys.stderr)
        return EXIT_FAILED if opened else EXIT_REFUSED
    _print_table(migrated)
    return _verdict(migrated, dry_run=dry_run)


def _scope(url: str) -> Scope:
    return Scope(persistence=open_adapter(url), requires={Capability.PERSISTENT})


@contextmanager
def _progress(totals: Totals) -> Generator[OnProgress]:
    """Show bars in a terminal if rich is installed, else lines."""
    counts: dict[KindName, int] = {
        "entries": totals.entries.count,
        "collections": totals.collections.count,
        "results": totals.results.count,
        "circuits": totals.circuits.count,
        "tasks": totals.tasks.count,
        "leases": totals.leases.count,
    }
    if not sys.stdout.isatty() or find_spec("rich") is None:
        yield _lines(counts)
        return
    from rich.progress import Progress

    with Progress(transient=True) as bars:
        ids = {kind: bars.add_task(kind, total=count) for kind, count in counts.items()}
        # The store may have grown since it was counted.
        yield lambda kind, done: bars.update(
            ids[kind], completed=done, total=max(counts[kind], done)
        )


def _lines(counts: Mapping[KindName, int]) -> OnProgress:
    next_percent = dict.fromkeys(counts, 0)

    def show(kind: KindName, done: int) -> None:
        total = max(counts[kind], done)
        percent = 100 * done // total
        if percent >= next_percent[kind]:
            next_percent[kind] = percent - percent % PLAIN_STEP_PERCENT + PLAIN_STEP_PERCENT
            print(f"{percent:3}%  {kind:11}  {done:,} of {total:,}", flush=True)

    return show


def _print_table(migrated: Sequence[Migrated]) -> None:
    print(f"{'':11}", *(f"{name:>10}" for name in _COLUMNS))
    for result in migrated:
        print(f"{result.kind:11}", *(f"{getattr(result, name):10,}" for name in _COLUMNS))
    for result in migrated:
        for difference in result.differences:
            print(f"{result.kind} {difference.key!r}: {difference.reason}")


def _verdict(migrated: Sequence[Migrated], *, dry_run: bool) -> int:
    """Print the result in one line and return the exit code."""
    if dry_run:
        print("Dry run: nothing was written.")
        return EXIT_OK
    differing = sum(result.differing for result in migrated)
    extra = sum(result.extra for result in migrated)
    if differing or extra:
        print(
            f"FAILED: {differing:,} records of the source are missing or different in the "
            f"destination, and {extra:,} are there alone. --overwrite replaces those that differ."
        )
        return EXIT_FAILED
    verified = sum(result.verified for result in migrated)
    print(f"Verified: both stores hold the same {verified:,} live records.")
    return EXIT_OK
