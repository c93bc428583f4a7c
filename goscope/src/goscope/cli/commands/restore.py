"""``goscope restore``: replace a store with a backup."""

from __future__ import annotations

import argparse
import asyncio

from ..._settings import Settings, resolve
from ...errors import BackendError, CapabilityMissing
from .._arguments import add_url, add_yes
from .._ask import confirm
from .._changes import report
from .._exit import EXIT_OK, UsageError
from .._progress import progress
from .._store import open_store

__all__ = ["DESCRIPTION", "EXTRA", "PACKAGES", "add_arguments", "run"]

DESCRIPTION = """
    Replace everything that the store holds with the backup SRC, in one step: after a crash it has
    either all or nothing of it. It is refused while a process has the store open. Leases of the
    backup end, and fencing tokens stay above all that were granted before.
"""
EXTRA = "cli"
PACKAGES = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_url(parser)
    add_yes(parser)
    parser.add_argument("source", metavar="SRC", help="a file that goscope backup has made")


def run(arguments: argparse.Namespace) -> int:
    """Restore, and return the exit code."""
    return asyncio.run(_run(arguments))


async def _run(arguments: argparse.Namespace) -> int:
    settings = resolve(arguments.url, None, {})
    restore = settings.backend.restore
    if restore is None:
        raise CapabilityMissing(
            settings.backend.name, "restore", "use the tools of its server, or goscope migrate"
        )
    confirm(
        f"Replace {await _described(settings)} with {arguments.source}?",
        arguments,
    )
    try:
        with progress("pages") as on_progress:
            await restore(settings.options, arguments.source, on_progress)
    except BackendError as exc:
        raise UsageError(str(exc)) from exc
    async with open_store(arguments.url) as gs:
        totals = await gs.inspect.totals()
        report(gs, "restore", "*")
    print(
        f"Restored {settings.name}: {totals.entries.count:,} entries, {totals.results.count:,} "
        f"results, {totals.tasks.count:,} tasks, {totals.circuits.count:,} circuits."
    )
    return EXIT_OK


async def _described(settings: Settings) -> str:
    exists = settings.backend.exists
    is_new = exists is not None and not await exists(settings.options)
    return f"{'the missing store' if is_new else 'everything in'} {settings.name}"
