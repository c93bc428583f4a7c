"""``goscope backup``: copy a store to a file while it is used."""

from __future__ import annotations

import argparse
import os

from ... import Scope
from ...errors import CapabilityMissing
from ...maintenance import SupportsBackup
from .._arguments import add_store
from .._changes import report
from .._exit import EXIT_OK
from .._progress import progress
from .._store import run_on_store as run
from .._units import size

__all__ = ["DESCRIPTION", "EXTRA", "PACKAGES", "add_arguments", "run"]

DESCRIPTION = """
    Copy the store as it is at one moment to the new file DEST, while other processes write. The
    file appears once the copy has passed SQLite's integrity check and has as many rows.
"""
EXTRA = "cli"
PACKAGES = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_store(parser, _backup)
    parser.add_argument("destination", metavar="DEST", help="a file that does not exist")


async def _backup(gs: Scope, arguments: argparse.Namespace) -> int:
    adapter = gs.persistence
    if not isinstance(adapter, SupportsBackup):
        raise CapabilityMissing(
            type(adapter).__name__, "backup", "use the tools of its server, or goscope migrate"
        )
    with progress("pages") as on_progress:
        await adapter.backup(arguments.destination, progress=on_progress)
    report(gs, "backup", "*")
    print(f"Backed up to {arguments.destination}: {size(os.stat(arguments.destination).st_size)}.")
    return EXIT_OK
